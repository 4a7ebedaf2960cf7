#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/cli/compare.h"
#include "haqa/cli/finetuning.h"
#include "haqa/cli/image_finetuning.h"
#include "haqa/report/finetune_report.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// Results by a key, on disk as soon as they are there, so that the same command goes on after an interruption.
class Results {
 public:
  explicit Results(const fs::path& file) : lines_(file) {
    std::istringstream text(read_file(file));
    for (std::string line; std::getline(text, line);) {
      const Json json = Json::parse(line);
      known_[json.at("key")] = json.at("result");
    }
  }
  template <typename Work>
  Json once(const std::string& key, const Work& work) {
    if (const auto found = known_.find(key); found != known_.end()) return found->second;
    const Json result = work();
    lines_.append(to_line({{"key", key}, {"result", result}}));
    return known_[key] = result;
  }

 private:
  LineFile lines_;
  std::map<std::string, Json> known_;
};

/// What the values depend on: a file of results is bound to it.
Json settings(const Task& task, const TrainingObjective& objective) {
  Json of = to_json(task);
  for (const char* key : {"rounds", "sampler", "held_out_limit", "space"}) of["finetune"].erase(key);
  if (!task.finetune->images) of["finetune"]["bit_width"] = to_string(task.finetune->setup.bit_width);
  return {
      {"finetune", of["finetune"]}, {"model", of["model"]}, {"seed", of["seed"]}, {"files", objective.fingerprints()}};
}

/// Methods on the fine-tuning of a task, whatever it trains.
class FinetuneComparison {
 public:
  /// full: keeps what does not depend on the bit width, where several are compared; nullptr: it is the only one.
  FinetuneComparison(const CompareOptions& o, const Task& task, Progress& progress, Results* full)
      : o_(o),
        progress_(progress),
        task_(task),
        space_(read_space(finetune_section(task_).space)),
        objective_(make_objective()),
        accuracies_(o.flags.output / "accuracies.jsonl"),
        full_(full ? *full : accuracies_) {
    for (const std::string& method : o.methods) check_sampler(method, space_);
    if (fs::exists(file())) runs_ = read_comparison(file()).runs;
  }

  StoredComparison run() {
    const Track track = make_track();
    ComparisonPlan plan{o_.methods, o_.seeds, o_.rounds, 1, file(), settings(task_, *objective_)};
    const SamplerMaker samplers = comparison_samplers(o_, progress_);
    const auto maker = [&](const std::string& method, uint64_t seed) {
      use_seed(seed);  // all samplers of a seed are made before its first trial
      return samplers(method, seed);
    };
    const ComparisonProgress tell = comparison_progress(o_, progress_);
    const auto told = [&](const std::string& method, uint64_t seed, const Trial& t) {
      tell(method, seed, t);
      remember(method, seed, t);
    };
    return {track.direction, track.value_name, run_comparison(plan, track, *objective_, maker, told)};
  }

  /// {"method", "seed", "held_out"} of each run, those without training first.
  std::vector<Json> held_out(const std::vector<MethodRun>& runs) {
    std::vector<Json> outcomes;
    const auto add = [&](const std::string& method, uint64_t seed, Json found) {
      outcomes.push_back({{"method", method}, {"seed", seed}, {"held_out", std::move(found)}});
    };
    if (images_)
      add("full precision", 0,
          full_.once("full precision:" + held_out_key(), [&] { return images_->full_precision(Half::held_out); }));
    add("untuned", 0,
        accuracies_.once("untuned:" + held_out_key(), [&] { return objective_->untuned(Half::held_out); }));
    for (const MethodRun& run : runs) {
      const Trial* best = best_trial(run.trials, Direction::maximize);
      add(run.method, run.seed, best ? held_out(run.seed, best->configuration) : Json(nullptr));
    }
    return outcomes;
  }

 private:
  fs::path file() const { return o_.flags.output / "results.jsonl"; }
  std::unique_ptr<TrainingObjective> make_objective() {
    const FinetuneTask& finetune = *task_.finetune;
    if (finetune.images) {
      auto images = std::make_unique<ImageObjective>(*finetune.images, space_, o_.flags.output, shown_by(progress_));
      images_ = images.get();
      return images;
    }
    auto llama =
        std::make_unique<FinetuneObjective>(finetune_setup(finetune), space_, o_.flags.output, shown_by(progress_));
    llama_ = llama.get();
    return llama;
  }
  Track make_track() {
    const Json before = accuracies_.once("untuned:validation", [&] { return objective_->untuned(Half::validation); });
    if (llama_) return finetune_track(*llama_, space_, before);
    const Json full =
        full_.once("full precision:validation", [&] { return images_->full_precision(Half::validation); });
    return image_track(*images_, space_, full, before);
  }
  /// What was measured on other questions is another accuracy.
  std::string held_out_key() const {
    const int limit = llama_ ? llama_->setup().held_out_limit : 0;
    return limit > 0 ? fmt::format("held-out-{}", limit) : "held-out";
  }
  void use_seed(uint64_t seed) { objective_->use_seed(task_.seed + seed); }

  void remember(const std::string& method, uint64_t seed, const Trial& trial) {
    const auto same = [&](const MethodRun& r) { return r.method == method && r.seed == seed; };
    auto run = std::find_if(runs_.begin(), runs_.end(), same);
    if (run == runs_.end()) run = runs_.insert(run, {method, seed, {}});
    run->trials.push_back(trial);
    std::vector<Configuration> kept;
    for (const MethodRun& r : runs_)
      if (const Trial* best = best_trial(r.trials, Direction::maximize)) kept.push_back(best->configuration);
    objective_->keep_only(kept);
  }

  Json held_out(uint64_t seed, const Configuration& configuration) {
    return accuracies_.once(fmt::format("{}:{}:{}", space_.hash(configuration), seed, held_out_key()), [&] {
      use_seed(seed);
      progress_.step(fmt::format("held-out {}, seed {}", images_ ? "images" : "questions", seed + 1));
      const fs::path trained = objective_->trained_folder(configuration) / objective_->trained_file();
      if (!fs::exists(trained)) {  // somebody removed it: the training comes to the same again
        fs::remove_all(trained.parent_path());
        if (const Outcome again = objective_->evaluate(configuration); !again.value) throw Error("{}", again.message);
      }
      const Json found = objective_->tuned(configuration, Half::held_out);
      progress_.done();
      return found;
    });
  }

  const CompareOptions& o_;
  Progress& progress_;
  const Task task_;
  const SearchSpace space_;
  FinetuneObjective* llama_ = nullptr;  ///< objective_, where it is one
  ImageObjective* images_ = nullptr;
  const std::unique_ptr<TrainingObjective> objective_;
  Results accuracies_;
  Results& full_;                ///< of the model in full precision
  std::vector<MethodRun> runs_;  ///< so far, to know whose files are still needed
};

/// One comparison, in a folder.
struct Compared {
  StoredComparison stored;
  std::vector<Json> held_out;
};

Compared compared(const CompareOptions& o, const Task& task, Progress& progress, Results* full = nullptr) {
  make_folder(o.flags.output);
  FinetuneComparison comparison(o, task, progress, full);
  Compared all{comparison.run(), {}};
  require_a_value(all.stored.runs);
  all.held_out = comparison.held_out(all.stored.runs);
  write_file(o.flags.output / "table.csv", methods_csv(all.held_out));
  return all;
}

/// The outcomes of several bit widths as those of one comparison, a task each.
void add_width(const std::string& width, const std::vector<Json>& outcomes, std::vector<Json>& all) {
  for (const Json& outcome : outcomes) {
    if (outcome.at("held_out").is_null()) continue;
    const auto same = [&](const Json& a) { return a["method"] == outcome["method"] && a["seed"] == outcome["seed"]; };
    auto row = std::find_if(all.begin(), all.end(), same);
    if (row == all.end()) {
      const Json empty = {{"method", outcome["method"]}, {"seed", outcome["seed"]}, {"held_out", Json::object()}};
      row = all.insert(row, empty);
    }
    const Json& found = outcome["held_out"];
    (*row)["held_out"]["tasks"][width] = {{"accuracy", found["mean"]}, {"error", found["error"]}};
  }
}

void print_table(const std::vector<Json>& outcomes, const char* what, const fs::path& folder) {
  const std::string title = fmt::format("Accuracy in % on {}, mean ± standard deviation over seeds", what);
  fmt::print("{}Each method's best configuration of each seed. {}: table.csv\n",
             text_table(title, methods_table(outcomes)), one_line(folder.string()));
}

/// A comparison of each bit width in a folder of its own, and the paper's table 1.
void compare_widths(const CompareOptions& o, const Task& task, Progress& progress) {
  std::vector<Json> outcomes;
  Json json = {{"bit_widths", Json::object()}};
  make_folder(o.flags.output);
  Results full(o.flags.output / "full-precision.jsonl");
  for (const std::string& width : o.bit_widths) {
    Task at_width = task;
    at_width.finetune->images->bits = layer_bits_from(width);
    at_width.finetune->images->bit_widths.clear();
    CompareOptions in_folder = o;
    in_folder.flags.output /= width;
    const Compared all = compared(in_folder, at_width, progress, &full);
    add_width(width, all.held_out, outcomes);
    const MethodComparison comparison =
        keep_comparison(all.stored, task.file.stem().string() + " " + width, in_folder.flags);
    if (!o.flags.json) {
      fmt::print("{}{}\n", json["bit_widths"].empty() ? "" : "\n", width);
      print_comparison(comparison, in_folder.flags);
    }
    json["bit_widths"][width] = to_json(comparison);
    json["bit_widths"][width]["held_out"] = all.held_out;
  }
  write_file(o.flags.output / "table.csv", methods_csv(outcomes));
  if (!o.flags.json) return print_table(outcomes, "test images", o.flags.output);
  json["held_out"] = outcomes;
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

/// A comparison is of one bit width, whatever it takes where it is deployed.
void check_one_width(const CompareOptions& o, const Task& task) {
  const auto& images = finetune_section(task).images;
  if (!images) return;
  if (o.bit_widths.empty() && !images->bit_widths.empty())
    throw UsageError(
        "{}: finetune.bit_width is a list, and a comparison is of one bit width; name those to compare at by "
        "--bit-widths",
        o.task.string());
  if (images->limits.any())
    throw UsageError(
        "{}: finetune.file_limit, latency_limit_ms and inference_memory_limit are for haqa finetune, which leaves out "
        "the bit widths that break them; take them out to compare",
        o.task.string());
}

}  // namespace

void compare_finetuning(const CompareOptions& o) {
  Progress progress(o.quiet);
  const Task task = read_task(o.task);
  if (!o.bit_widths.empty() && !finetune_section(task).images)
    throw UsageError("--bit-widths is for networks for images; {} has its one in finetune.bit_width", o.task.string());
  for (const std::string& width : o.bit_widths) layer_bits_from(width);
  check_one_width(o, task);
  try {
    if (!o.bit_widths.empty()) return compare_widths(o, task, progress);
    const Compared all = compared(o, task, progress);
    show_comparison(all.stored, o.task.stem().string(), o.flags, {{"held_out", all.held_out}});
    if (!o.flags.json)
      print_table(all.held_out, task.finetune->images ? "test images" : "held-out questions", o.flags.output);
  } catch (const Interrupted&) {
    throw Interrupted("interrupted; what was finished is kept: the same command goes on");
  }
}

}  // namespace haqa
