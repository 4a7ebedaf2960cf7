#include "haqa/cli/variant_tuning.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <span>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/kernel_brief.h"
#include "haqa/kernel/compiler.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

constexpr double kWorthwhile = 0.05;  // of what a token reads and writes: less can gain but little
constexpr int kMostKernels = 2;

std::string words(const Json& speedup) {
  return fmt::format("{:.3f} ({:.3f} to {:.3f} over {} pairs)", speedup["median"].get<double>(),
                     speedup["low"].get<double>(), speedup["high"].get<double>(), speedup["pairs"].get<int>());
}

}  // namespace

VariantTuning::VariantTuning(const Task& task, const HardwareProfile& hardware, RunLog& log, Progress& progress,
                             VariantObjective::Tools tools)
    : task_(task),
      hardware_(hardware),
      log_(log),
      progress_(progress),
      tools_(std::move(tools)),
      folder_(log.folder() / "kernels") {}

VariantTuning::~VariantTuning() = default;

bool VariantTuning::is_possible(const Task& task) {
  return task.kernels.rounds > 0 && !backend_module().empty() && !installed_compilers().empty();
}

int VariantTuning::most_kernels(const Task& task) {
  return task.kernels.names.empty() ? kMostKernels : static_cast<int>(task.kernels.names.size());
}

void VariantTuning::choose(const ModelInfo& model, const Setup& setup) {
  model_ = model.name;
  kernels_ = kernels_of_graph(model, setup.options, task_.workload);
  const std::vector<std::string>& names = task_.kernels.names;
  std::erase_if(kernels_, [&](const GraphKernel& k) {
    return names.empty() ? k.share < kWorthwhile : std::find(names.begin(), names.end(), k.kernel) == names.end();
  });
  if (names.empty() && kernels_.size() > kMostKernels) kernels_.resize(kMostKernels);
}

TrackLog& VariantTuning::storage_of(const GraphKernel& kernel) const {
  return log_.beside(kKernelTrack + kernel.name());
}

Track VariantTuning::track_of(const KernelTask& task, const GraphKernel& kernel, int first_round,
                              bool with_code) const {
  Track track;
  track.name = kKernelTrack + kernel.name();
  track.space = variant_space(task.spec, installed_compilers(), with_code);
  track.value_name = "speed-up of the whole model over the kernels that serve so far";
  track.answer_names = variant_answer_names(task.spec, track.space, with_code);
  track.first_round = first_round;
  std::vector<std::string> titles;
  for (const GraphKernel& k : kernels_) titles.push_back(k.name());
  track.brief = kernel_brief(task, track.space.defaults(), model_, titles, "kernel_in_model");
  return track;
}

/// A comparison that the log has, or that is made now; what fails is said, and decides nothing.
Json VariantTuning::compared(const std::string& step, const std::string& what,
                             const std::function<Comparison()>& work) {
  return log_.once(step, [&] {
    progress_.step(what);
    const auto start = std::chrono::steady_clock::now();
    Json found = Json::object();
    try {
      const Comparison c = work();
      found = {{"speedup", to_json(c.speedup)}, {"so_far", summarize(c.a)}, {"tried", summarize(c.b)}};
      found["faster"] = is_faster(c);
    } catch (const WorkerError& e) {
      found = {{"message", one_line(e.what())}, {"faster", false}};
    }
    found["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    progress_.done(fmt::format(
        "{}: {}", what, found.contains("speedup") ? words(found["speedup"]) : found["message"].get<std::string>()));
    return found;
  });
}

VariantTuning::InHand VariantTuning::begin(size_t which, int first_round, bool with_code) {
  const GraphKernel& kernel = kernels_.at(which);
  KernelTask task;
  task.folder = kernels_folder() / kernel.kernel;
  task.spec = read_kernel_spec(task.folder);
  task.problem = kernel.problems.front();
  task.hardware = hardware_;
  task.seed = task_.seed + 1000 * which;
  Track track = track_of(task, kernel, first_round, with_code);
  objective_ = std::make_unique<VariantObjective>(std::move(task), kernel, folder_, tuning_, task_.pairs, tools_);
  Json stock = compared("stock:" + kernel.name(), kernel.name() + " by stock code instead",
                        [&] { return objective_->compare_stock(); });
  if (stock.contains("speedup") && stock["speedup"]["median"] > 1) {  // a few pairs, and perhaps luck
    const ModelTuning by_stock = tuning_.with_stock(kernel.name());
    stock = compared("stock confirmed:" + kernel.name(), "confirming stock code of " + kernel.name(),
                     [&] { return objective_->confirm(by_stock, task_.confirm_pairs); });
    if (stock["faster"]) objective_->begin_from(tuning_ = by_stock);
  }
  found_.resize(which + 1);
  found_[which] = {{"stock", stock}};
  return {std::move(track), *objective_, storage_of(kernel)};
}

void VariantTuning::finish(size_t which) {
  const GraphKernel& kernel = kernels_.at(which);
  Json& found = found_.at(which);
  const bool by_stock = found["stock"]["faster"];
  found["serves"] = by_stock ? "stock" : "default";
  const Trial* best = best_trial(storage_of(kernel).finished(), Direction::maximize);
  if (!best) {
    found["why"] = "no variant ran";
  } else if (*best->value <= 1) {
    found["why"] = "no variant was faster than what served before";
  } else {
    const ModelTuning tuned = tuning_.with(objective_->variant_of(*best));
    Json confirmed =
        compared("confirm:" + kernel.name(), fmt::format("{}: confirming round {}", kernel.name(), best->number + 1),
                 [&] { return objective_->confirm(tuned, task_.confirm_pairs); });
    confirmed["trial"] = best->number;
    if (confirmed["faster"]) {
      tuning_ = tuned;
      found["serves"] = "variant";
    }
    found["why"] =
        confirmed["faster"] ? fmt::format("round {} is confirmed: {}", best->number + 1, words(confirmed["speedup"]))
        : confirmed.contains("message")
            ? fmt::format("confirming round {} failed: {}", best->number + 1, confirmed["message"].get<std::string>())
            : fmt::format("round {} is not confirmed: {}", best->number + 1, words(confirmed["speedup"]));
    found["confirmed"] = std::move(confirmed);
  }
  if (by_stock && found["serves"] == "stock")
    found["why"] =
        fmt::format("stock code is faster: {}; {}", words(found["stock"]["speedup"]), found["why"].get<std::string>());
  progress_.note(fmt::format("{}: {}", kernel.name(), found["why"].get<std::string>()));
}

double VariantTuning::seconds(size_t kernels) const {
  double sum = 0;
  for (const GraphKernel& kernel : std::span(kernels_).first(std::min(kernels, kernels_.size()))) {
    for (const Trial& t : storage_of(kernel).finished()) sum += t.evaluate_s;
    for (const char* step : {"stock:", "stock confirmed:", "confirm:"})
      if (const Json done = log_.result_of(step + kernel.name()); done.is_object()) sum += done.value("seconds", 0.0);
  }
  return sum;
}

bool VariantTuning::has_time(size_t kernel) const {
  return seconds(kernel) < task_.kernels.seconds;
}

std::string VariantTuning::describe(const Trial& trial, const Configuration& defaults) const {
  Trial told = trial;
  told.configuration = with_short_texts(std::move(told.configuration));
  return one_line(haqa::describe(told, defaults), 300);
}

std::filesystem::path VariantTuning::write_file() const {
  if (tuning_.stock.empty() && tuning_.variants.empty()) return {};
  const std::filesystem::path file = folder_ / "haqa-tuning.json";
  write_tuning(tuning_, file);
  return file;
}

Json VariantTuning::summary() const {
  Json variants = Json::array(), kernels = Json::array();
  for (const ServedVariant& v : tuning_.variants) variants.push_back(to_json(v));
  for (size_t i = 0; i < found_.size(); ++i) {
    const GraphKernel& kernel = kernels_[i];
    Json row = {{"name", kernel.name()}, {"kernel", kernel.kernel}, {"type", to_string(kernel.type)},
                {"share", kernel.share}, {"shapes", Json::array()}, {"trials", Json::array()}};
    for (const KernelProblem& p : kernel.problems) row["shapes"].push_back(p.shape);
    for (const Trial& t : storage_of(kernel).finished()) {
      row["trials"].push_back(haqa::to_json(t));  // a source of its own lies in the folder
      row["trials"].back()["configuration"] = with_short_texts(t.configuration);
    }
    row.update(found_[i]);
    kernels.push_back(std::move(row));
  }
  Json left_out = Json::array();
  for (size_t i = found_.size(); i < kernels_.size(); ++i) left_out.push_back(kernels_[i].name());
  return {{"kernels", kernels},
          {"left_out", left_out},
          {"seconds", seconds(kernels_.size())},
          {"tuning", {{"stock", tuning_.stock}, {"kernels", variants}}}};
}

}  // namespace haqa
