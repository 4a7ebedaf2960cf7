#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/study/study.h"
#include "haqa/tune/command_objective.h"

namespace haqa {

/// Any program as the objective, as `haqa tune` and `haqa compare` are told of it.
struct CommandFlags {
  std::filesystem::path space;
  std::string command, direction;
  std::vector<std::string> metrics, environment;
  double timeout_s = 0;
  int workers = 1;
  bool serves = false;

  /// The options that say it; the three without which there is no objective are required where `required`.
  void add_to(CLI::App& command, bool required);
  /// Throws UsageError where an option is wrong.
  CommandOptions options() const;
  /// Of the space: its file's, without its ending; where that is no UTF-8, as far as it is.
  std::string name() const;
  /// The space's file, read, and the goals of the metrics. Throws what read_space() throws.
  Track track(const CommandOptions& options) const;
  /// A command line that runs the configuration by itself.
  std::string repeating(const CommandObjective& objective, const Configuration& configuration) const;
};

}  // namespace haqa
