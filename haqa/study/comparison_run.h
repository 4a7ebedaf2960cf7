#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "haqa/study/comparison.h"

namespace haqa {

struct ComparisonPlan {
  std::vector<std::string> methods;
  int seeds = 8;    ///< 0 to seeds - 1
  int rounds = 10;  ///< trials of each method and seed, the first included
  int workers = 1;  ///< trials measured at once
  /// Keeps every finished trial, so that after an interruption the same call goes on; empty: nothing is kept.
  std::filesystem::path file;
  Json settings = Json::object();  ///< what else results depend on, such as the command; a file is bound to them
  /// What else a method's own results depend on, such as its language model; its trials in the file are bound to them.
  std::map<std::string, Json> settings_of;
};

/// The sampler of a method, seeded.
using SamplerMaker = std::function<std::unique_ptr<Sampler>(const std::string& method, uint64_t seed)>;
/// Hears of each trial once it is kept.
using ComparisonProgress = std::function<void(const std::string& method, uint64_t seed, const Trial& trial)>;

/// Runs every method with every seed on one objective. The first trial, the defaults, is measured once a seed and given
/// to all methods; then they take turns, a trial each, so that a machine's drift hits all alike. Seed by seed, so that
/// an interruption leaves whole blocks. Trials that the file has already are not measured again; the numbers of
/// methods, seeds and rounds may grow from call to call, and what is beyond them stays in the file but is not returned.
/// Throws Error where the file is damaged or of another comparison; what the objective throws passes through.
std::vector<MethodRun> run_comparison(const ComparisonPlan& plan, const Track& track, Objective& objective,
                                      const SamplerMaker& make_sampler, const ComparisonProgress& progress = {});

/// A comparison's file, as far as it came; another process may be writing it.
struct StoredComparison {
  Direction direction = Direction::maximize;
  std::string value_name;
  std::vector<MethodRun> runs;
};
/// Throws Error naming the line that is damaged.
StoredComparison read_comparison(const std::filesystem::path& file);

}  // namespace haqa
