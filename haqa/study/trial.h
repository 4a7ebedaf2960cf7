#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/space/search_space.h"

namespace haqa {

/// running: proposed, and measured by this process or another. pruned: given up as hopeless; its value is the last that
/// it reported.
enum class TrialState { running, complete, pruned, failed };

/// Why a trial has no value. Samplers read it: what failed is not tried again.
enum class FailReason {
  none,
  out_of_memory,
  timed_out,
  crashed,
  does_not_compile,  ///< of what is source
  wrong_result,      ///< an output that cannot be true, such as rubbish instead of numbers
  quality_loss,      ///< lost more quality than the task allows
  interrupted,       ///< ended with the process that measured it, which says nothing of the configuration
};

/// What an objective says of one configuration.
struct Outcome {
  std::optional<double> value;      ///< nothing where the trial failed
  std::vector<double> more_values;  ///< one for each of the track's further goals
  FailReason reason = FailReason::none;
  std::string message;            ///< of a failure: one sentence
  Json metrics = Json::object();  ///< everything else that was measured
};

/// What a trial measured on its way, after an epoch say.
struct Intermediate {
  int step = 0;
  double value = 0;
};

struct Trial {
  int number = 0;  ///< from 0; trial 0 runs the defaults
  Configuration configuration;
  TrialState state = TrialState::complete;
  std::optional<double> value;
  std::vector<double> more_values;
  std::vector<Intermediate> intermediate;  ///< by step
  FailReason reason = FailReason::none;
  std::string message;
  Json metrics = Json::object();
  std::string proposed_by;  ///< "default", "expert", "gpt-4o", "fallback: bayesian", ...
  std::string thought;      ///< why this configuration, in the proposer's words
  double propose_s = 0;     ///< from the end of the evaluation before: storing it, asking, checking
  double evaluate_s = 0;
  /// false: measured in another search space, by an earlier command say, where what is missing here has its default, or
  /// outside this one. Samplers may learn of it, but it is no incumbent.
  bool fits = true;
};

std::string_view to_string(FailReason reason);
/// nullopt where to_string() gives no such name.
std::optional<FailReason> fail_reason(std::string_view name);
std::string_view to_string(TrialState state);
Json to_json(const Trial& trial);
/// Throws Error naming what is missing or of the wrong type.
Trial trial_from_json(const Json& json);

}  // namespace haqa
