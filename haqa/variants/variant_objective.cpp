#include "haqa/variants/variant_objective.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/kernel/compiler.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr double kVerifyLimit = 300;
constexpr int kPairsOf95Percent = 6;
/// The functions by which the module packs weights, and reads them back.
constexpr std::array kPacking = {"haqa_packed_bytes", "haqa_pack_rows", "haqa_unpack"};
constexpr std::array kFixed = {"threads", "layout"};

Outcome failure(FailReason reason, std::string message) {
  Outcome outcome;
  outcome.reason = reason;
  outcome.message = std::move(message);
  return outcome;
}

FailReason reason_of(ProcessEnd end) {
  if (end == ProcessEnd::out_of_memory) return FailReason::out_of_memory;
  return end == ProcessEnd::timed_out ? FailReason::timed_out : FailReason::crashed;
}

/// A round's: three pairs of which none was faster, or two that leave no doubt.
bool is_slower_so_far(const Comparison& c) {
  return is_clearly_slower(c) || (c.speedup.samples == 3 && c.speedup.high < 1);
}

/// What is to be shown faster beyond the noise.
bool is_not_faster_so_far(const Comparison& c) {
  return is_clearly_slower(c) || (c.speedup.samples == kPairsOf95Percent && c.speedup.median < 1);
}

std::string first_missing(const KernelSpec& spec, const fs::path& library) {
  if (!spec.weights()) return "";
  const std::vector<std::string> functions = functions_of(library);
  for (const char* name : kPacking)
    if (std::find(functions.begin(), functions.end(), name) == functions.end()) return name;
  return "";
}

}  // namespace

SearchSpace variant_space(const KernelSpec& spec, std::span<const std::string> compilers, bool with_code) {
  const SearchSpace whole = machine_space(spec.engines.at("cpu").space, 1, compilers, with_code);
  std::vector<Parameter> parameters = whole.parameters();
  std::erase_if(parameters,
                [](const Parameter& p) { return std::find(kFixed.begin(), kFixed.end(), p.name) != kFixed.end(); });
  return SearchSpace(std::move(parameters), whole.constraints());
}

std::vector<AnswerName> variant_answer_names(const KernelSpec& spec, const SearchSpace& space, bool with_code) {
  std::vector<AnswerName> names = spec.engines.at("cpu").answer_names;
  const auto is_there = [&](const std::string& name) {
    return std::any_of(space.parameters().begin(), space.parameters().end(),
                       [&](const Parameter& p) { return p.name == name; });
  };
  for (AnswerName& a : names)
    for (std::string& name : a.parameters)
      if (!is_there(name)) name.clear();
  std::erase_if(names, [](const AnswerName& a) {
    return std::all_of(a.parameters.begin(), a.parameters.end(), [](const std::string& name) { return name.empty(); });
  });
  if (with_code) names.push_back({kCode, {kCode}, "code changed"});
  return names;
}

bool is_faster(const Comparison& c) {
  return c.speedup.samples >= kPairsOf95Percent && c.speedup.low > 1;
}

VariantObjective::VariantObjective(KernelTask task, GraphKernel kernel, fs::path folder, ModelTuning so_far, int pairs,
                                   Tools tools)
    : task_(std::move(task)),
      kernel_(std::move(kernel)),
      folder_(std::move(folder)),
      pairs_(pairs),
      tools_(std::move(tools)) {
  begin_from(std::move(so_far));
}

void VariantObjective::begin_from(ModelTuning tuning) {
  so_far_ = std::move(tuning);
  make_folder(folder_);
}

/// Compiled once, and judged on each of the model's shapes; nothing of it has run outside of the judge's sandbox then.
std::variant<ServedVariant, Outcome> VariantObjective::build(const Configuration& configuration) {
  fs::path library;
  for (size_t i = 0; i < kernel_.problems.size(); ++i) {
    task_.problem = kernel_.problems[i];
    ++task_.seed;
    Json answer;
    try {
      answer = call_worker("haqa-kernel", kernel_request(task_, "verify", configuration), {kVerifyLimit, 0});
    } catch (const WorkerError& e) {
      if (auto lost = lost_outcome(e)) return *std::move(lost);
      throw;
    }
    if (auto fault = fault_outcome(answer)) return *std::move(fault);
    library = answer.at("library").get<std::string>();
    if (const std::string missing = first_missing(task_.spec, library); !missing.empty())
      return failure(FailReason::does_not_compile,
                     fmt::format("it has no function {}, by which the module packs a model's weights and reads them "
                                 "back; keep those of the source as it ships",
                                 missing));
  }
  return keep(configuration, library);
}

ServedVariant VariantObjective::named(const std::string& stem, const std::string& hash,
                                      Configuration configuration) const {
  configuration.erase(kCode);
  return {kernel_.kernel,
          std::string(to_string(kernel_.type)),
          "kernels/" + stem + ".so",
          "sources/" + stem + ".cpp",
          hash,
          std::move(configuration)};
}

/// In the run's folder, with the source that it was made of.
ServedVariant VariantObjective::keep(const Configuration& configuration, const fs::path& library) const {
  const std::string hash = variant_hash(library);
  const ServedVariant v = named(fmt::format("{}-tuned-{}", kernel_.name(), hash), hash, configuration);
  for (const std::string& name : {v.file, v.source}) make_folder((folder_ / name).parent_path());
  write_file(folder_ / v.file, read_file(library));
  const std::string own = configuration.value(kCode, "");
  write_file(folder_ / v.source, own.empty() ? read_file(task_.spec.engines.at("cpu").source) : own);
  return v;
}

Setup VariantObjective::with(const ModelTuning& tuning, const std::string& file) const {
  Setup setup = tools_.setup();
  setup.tuning = folder_ / file;
  write_tuning(tuning, setup.tuning);
  return setup;
}

/// A failure of the tuning so far is not that of the variant beside it.
Measurement VariantObjective::time_incumbent(const Setup& setup) const {
  try {
    return tools_.benchmark(setup);
  } catch (const WorkerError&) {
  }
  try {
    return tools_.benchmark(setup);
  } catch (const WorkerError& e) {
    throw Error(
        "the model with the kernels tuned so far failed twice: {}; see whether the machine has memory and time "
        "to spare, then go on with haqa run --resume",
        e.what());
  }
}

Comparison VariantObjective::compare_with(const ModelTuning& tuning, int pairs,
                                          const std::function<bool(const Comparison&)>& is_hopeless) {
  const Setup incumbent = with(so_far_, "so-far.json"), tried = with(tuning, "tried.json");
  const Benchmark time = [&](const Setup& s) { return s == incumbent ? time_incumbent(s) : tools_.benchmark(s); };
  return compare(time, incumbent, tried, pairs, tools_.progress, is_hopeless);
}

Comparison VariantObjective::compare_stock() {
  return compare_with(so_far_.with_stock(kernel_.name()), pairs_, is_slower_so_far);
}

Comparison VariantObjective::confirm(const ModelTuning& tuning, int pairs) {
  return compare_with(tuning, pairs, is_not_faster_so_far);
}

Outcome VariantObjective::evaluate(const Configuration& configuration, const Report&) {
  std::variant<ServedVariant, Outcome> built = build(configuration);
  if (auto* fault = std::get_if<Outcome>(&built)) return *std::move(fault);
  const ServedVariant& variant = std::get<ServedVariant>(built);
  try {
    const Comparison c = compare_with(so_far_.with(variant), pairs_, is_slower_so_far);
    Outcome outcome;
    outcome.value = c.speedup.median;
    outcome.metrics = summarize(c.b);
    outcome.metrics["tokens_per_s_so_far"] = summarize(c.a)["tokens_per_s"];
    outcome.metrics["speedup"] = c.speedup.median;
    outcome.metrics["speedup_low"] = c.speedup.low;
    outcome.metrics["speedup_high"] = c.speedup.high;
    outcome.metrics["pairs"] = c.speedup.samples;
    outcome.metrics["file"] = variant.file;
    outcome.metrics["hash"] = variant.hash;
    return outcome;
  } catch (const WrongResult& e) {
    return failure(FailReason::wrong_result, e.what());
  } catch (const WorkerError& e) {
    return failure(reason_of(e.end), e.what());
  }
}

ServedVariant VariantObjective::variant_of(const Trial& trial) const {
  const fs::path file = trial.metrics.at("file").get<std::string>();
  return named(file.stem().string(), trial.metrics.at("hash"), trial.configuration);
}

}  // namespace haqa
