#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "haqa/study/comparison_run.h"

namespace haqa {

/// How `haqa compare` shows its outcome.
struct CompareFlags {
  std::string reference;
  std::filesystem::path output;
  bool json = false;
  void add_to(CLI::App& command);
};

/// Prints the comparison and writes its page and CSV files. What runs methods on an objective (run_comparison() in
/// study/comparison_run.h) ends here too, with the runs that it returns.
void show_comparison(const StoredComparison& stored, const std::string& name, const CompareFlags& flags);

}  // namespace haqa
