#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/cli/compare.h"
#include "haqa/cli/finetuning.h"
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
Json settings(const Task& task) {
  Json of = to_json(task);
  for (const char* key : {"rounds", "sampler", "held_out_limit", "space"}) of["finetune"].erase(key);
  of["finetune"]["bit_width"] = to_string(task.finetune->setup.bit_width);
  return {{"finetune", of["finetune"]}, {"model", of["model"]}, {"seed", of["seed"]}};
}

class FinetuneComparison {
 public:
  FinetuneComparison(const CompareOptions& o, Progress& progress)
      : o_(o),
        progress_(progress),
        task_(read_task(o.task)),
        space_(read_space(finetune_section(task_).space)),
        setup_(finetune_setup(*task_.finetune)),
        objective_(setup_, space_, o.flags.output,
                   [&progress](std::string_view what, double share) { progress.update(share, what); }),
        accuracies_(o.flags.output / "accuracies.jsonl") {
    for (const std::string& method : o.methods) check_sampler(method, space_);
    if (fs::exists(file())) runs_ = read_comparison(file()).runs;
  }

  StoredComparison run() {
    const Json before = accuracies_.once(
        "untuned:validation", [&] { return to_json(objective_.accuracy(objective_.base(), {}, Half::validation)); });
    const Track track = finetune_track(objective_, space_, before);
    ComparisonPlan plan{o_.methods, o_.seeds, o_.rounds, 1, file(), settings(task_)};
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
    return {track.direction, track.value_name, run_comparison(plan, track, objective_, maker, told)};
  }

  /// {"method", "seed", "held_out"} of each run, the untuned model first.
  std::vector<Json> held_out(const std::vector<MethodRun>& runs) {
    std::vector<Json> outcomes = {{{"method", "untuned"},
                                   {"seed", 0},
                                   {"held_out", accuracies_.once("untuned:" + held_out_key(), [&] {
                                      return to_json(objective_.accuracy(objective_.base(), {}, Half::held_out));
                                    })}}};
    for (const MethodRun& run : runs) {
      const Trial* best = best_trial(run.trials, Direction::maximize);
      outcomes.push_back({{"method", run.method},
                          {"seed", run.seed},
                          {"held_out", best ? held_out(run.seed, best->configuration) : Json(nullptr)}});
    }
    return outcomes;
  }

 private:
  fs::path file() const { return o_.flags.output / "results.jsonl"; }
  /// What was measured on other questions is another accuracy.
  std::string held_out_key() const {
    return setup_.held_out_limit > 0 ? fmt::format("held-out-{}", setup_.held_out_limit) : "held-out";
  }
  void use_seed(uint64_t seed) { objective_.use_seed(task_.seed + seed); }

  void remember(const std::string& method, uint64_t seed, const Trial& trial) {
    const auto same = [&](const MethodRun& r) { return r.method == method && r.seed == seed; };
    auto run = std::find_if(runs_.begin(), runs_.end(), same);
    if (run == runs_.end()) run = runs_.insert(run, {method, seed, {}});
    run->trials.push_back(trial);
    std::vector<Configuration> kept;
    for (const MethodRun& r : runs_)
      if (const Trial* best = best_trial(r.trials, Direction::maximize)) kept.push_back(best->configuration);
    objective_.keep_only(kept);
  }

  Json held_out(uint64_t seed, const Configuration& configuration) {
    return accuracies_.once(fmt::format("{}:{}:{}", space_.hash(configuration), seed, held_out_key()), [&] {
      use_seed(seed);
      const fs::path adapter = objective_.adapter_folder(configuration) / "adapter.gguf";
      progress_.step(fmt::format("held-out questions, seed {}", seed + 1));
      if (!fs::exists(adapter))  // somebody removed it: the training comes to the same again
        if (const Outcome again = objective_.evaluate(configuration); !again.value) throw Error("{}", again.message);
      const Json found = to_json(objective_.accuracy(objective_.base(), adapter, Half::held_out));
      progress_.done();
      return found;
    });
  }

  const CompareOptions& o_;
  Progress& progress_;
  const Task task_;
  const SearchSpace space_;
  const FinetuneSetup setup_;
  FinetuneObjective objective_;
  Results accuracies_;
  std::vector<MethodRun> runs_;  ///< so far, to know whose adapters are still needed
};

}  // namespace

void compare_finetuning(const CompareOptions& o) {
  Progress progress(o.quiet);
  make_folder(o.flags.output);
  try {
    FinetuneComparison comparison(o, progress);
    const StoredComparison stored = comparison.run();
    require_a_value(stored.runs);
    const std::vector<Json> outcomes = comparison.held_out(stored.runs);
    write_file(o.flags.output / "table.csv", methods_csv(outcomes));
    show_comparison(stored, o.task.stem().string(), o.flags, {{"held_out", outcomes}});
    if (!o.flags.json)
      fmt::print("{}Each method's best configuration of each seed. {}: table.csv\n",
                 text_table("Accuracy in % on held-out questions, mean ± standard deviation over seeds",
                            methods_table(outcomes)),
                 one_line(o.flags.output.string()));
  } catch (const Interrupted&) {
    throw Interrupted("interrupted; what was finished is kept: the same command goes on");
  }
}

}  // namespace haqa
