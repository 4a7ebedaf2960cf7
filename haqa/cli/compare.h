#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/base/progress.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/command_options.h"
#include "haqa/study/comparison_run.h"

namespace haqa {

/// How `haqa compare` shows its outcome.
struct CompareFlags {
  std::string reference;
  std::filesystem::path output;
  bool json = false;
  void add_to(CLI::App& command);
};

/// Writes the comparison's page and CSV files, where there is a folder for them.
MethodComparison keep_comparison(const StoredComparison& stored, const std::string& name, const CompareFlags& flags);
/// For a terminal.
void print_comparison(const MethodComparison& comparison, const CompareFlags& flags);

/// Prints the comparison and writes its page and CSV files. What runs methods on an objective (run_comparison() in
/// study/comparison_run.h) ends here too, with the runs that it returns. more: keys that JSON gets besides.
void show_comparison(const StoredComparison& stored, const std::string& name, const CompareFlags& flags,
                     const Json& more = Json::object());

/// What `haqa compare` was told.
struct CompareOptions {
  std::filesystem::path file, task, sweep;
  std::vector<std::string> bit_widths;  ///< of a task's network for images; empty: the task's
  CommandFlags command;
  std::vector<std::string> methods = {"default", "random", "sobol", "local", "bayesian", "tpe", "nsga2", "expert"};
  int seeds = 8, rounds = 10;
  AgentSetup agent;
  CompareFlags flags;
  bool quiet = false;
};

/// Samplers of methods; transcripts of agents go to METHOD-SEED/ in the folder of --output.
SamplerMaker comparison_samplers(const CompareOptions& options, Progress& progress);
/// Tells of each trial.
ComparisonProgress comparison_progress(const CompareOptions& options, Progress& progress);
/// Throws Error where no trial has a value.
void require_a_value(const std::vector<MethodRun>& runs);

/// Methods on the fine-tuning of a task file: besides the comparison, table.csv with the accuracy of each method's best
/// configurations on held-out questions or images; of several bit widths a comparison each, in a folder of its name,
/// and one table. The training's seed is the task's plus the run's, so that the deviation over seeds has that of
/// training in it.
void compare_finetuning(const CompareOptions& options);

}  // namespace haqa
