#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "haqa/study/study.h"
#include "haqa/tune/command_template.h"
#include "haqa/tune/metric.h"
#include "haqa/worker/serving_process.h"

namespace haqa {

struct CommandOptions {
  std::string command;
  std::vector<Metric> metrics;  ///< one at least; the first is the track's goal, the others are its more_goals
  double timeout_s = 0;         ///< of a trial; 0: none
  std::vector<std::pair<std::string, std::string>> environment;
  /// The program stays, takes one {"configuration":{...},"folder":"..."} a line on its standard input, the folder being
  /// the trial's own, and ends each trial with {"event":"result",...} or {"event":"error","message":"..."}. It is
  /// started anew after it ended.
  bool serves = false;
  int workers = 1;  ///< that call evaluate() at once
};

/// Any program as an objective. It gets the configuration by placeholders in its command line, in a file, and as JSON
/// in $HAQA_CONFIGURATION; its value is read by metrics. A line {"event":"intermediate","step":3,"value":0.7} of its
/// standard output is reported on the way, and the program ended where the report says so.
class CommandObjective : public Objective {
 public:
  /// Throws UsageError where the options do not go together.
  CommandObjective(const SearchSpace& space, CommandOptions options);
  Outcome evaluate(const Configuration& configuration, const Report& report = {}) override;
  const CommandTemplate& command() const { return command_; }

 private:
  class Listener;
  Command prepared(Command command) const;
  std::optional<ProcessResult> run(const Configuration& configuration, const std::filesystem::path& folder,
                                   Listener& listener);
  std::optional<ProcessResult> ask_serving(const Configuration& configuration, const std::filesystem::path& folder,
                                           Listener& listener);
  Outcome measured(const Traces& traces,
                   const std::vector<std::optional<std::filesystem::file_time_type>>& before) const;

  const CommandOptions options_;
  const CommandTemplate command_;
  std::mutex mutex_;  ///< of idle_
  std::vector<ServingProcess> idle_;
};

}  // namespace haqa
