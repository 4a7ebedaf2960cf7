#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/cli/command_options.h"
#include "haqa/cli/task.h"
#include "haqa/study/study.h"
#include "haqa/tune/command_objective.h"

namespace haqa {

/// What `haqa tune` was told.
struct TuneOptions {
  CommandFlags command;
  std::string sampler = "expert", pruner = "none", study, storage = "sqlite:///haqa.db";
  int rounds = 10;
  double max_seconds = 0, max_tokens = 0, max_money = 0, stop_early = 0;
  std::vector<std::string> warm_start;
  AgentTask agent;
  std::filesystem::path output;
  uint64_t seed = 1;
  bool json = false, quiet = false;
};

/// What a study came to.
struct TuneResult {
  std::string study, stop;    ///< its name, and why it ended
  std::vector<Trial> trials;  ///< those that ended
};

/// "round 3: accuracy 0.91, best 0.93: learning_rate 0.01 [bayesian]". best: nullptr where there is none yet.
std::string describe(const Track& track, const Trial& trial, const Trial* best);

/// On standard output, as text or JSON (docs/json.md).
void print_result(const TuneOptions& options, const Track& track, const CommandObjective& objective,
                  const TuneResult& result);

}  // namespace haqa
