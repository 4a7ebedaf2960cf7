#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "haqa/cli/task.h"

namespace haqa {

/// Each adds one command to the program; its callback does the work and throws on failure.
void add_run(CLI::App& app);
void add_deploy(CLI::App& app);
void add_hardware(CLI::App& app);
void add_memory(CLI::App& app);
void add_bench(CLI::App& app);
void add_eval(CLI::App& app);
void add_finetune(CLI::App& app);
void add_pretrain(CLI::App& app);
void add_quantize(CLI::App& app);
void add_convert(CLI::App& app);
void add_export(CLI::App& app);
void add_merge(CLI::App& app);
void add_show(CLI::App& app);
void add_importance(CLI::App& app);
void add_kernels(CLI::App& app);
void add_compare(CLI::App& app);
void add_make_model(CLI::App& app);
void add_tune(CLI::App& app);
void add_data(CLI::App& app);
void add_make_images(CLI::App& data);
void add_pretrain_images(CLI::App& pretraining);
void add_completion(CLI::App& app);

/// For options in which an unset variable of a script must not pass for "not given": CLI11's form of a check.
std::string not_empty(const std::string& value);

/// For options in a range, which "nan" is in for CLI11.
std::string not_nan(const std::string& value);

/// runs/NAME-TIME, or runs/NAME-TIME-2 and so on where an earlier run of this second has it; not made.
std::filesystem::path new_folder(const std::string& name);

/// How `haqa run` and `haqa deploy` are told where to write and how to speak.
struct RunFlags {
  std::filesystem::path output;  ///< empty: runs/NAME-TIME
  bool json = false, quiet = false;
  void add_to(CLI::App& command);
};

/// Runs a job in a new folder and prints its outcome.
void run_new(const Task& task, const std::string& name, const RunFlags& flags);
/// Goes on with one.
void run_resumed(const std::filesystem::path& folder, const RunFlags& flags);

}  // namespace haqa
