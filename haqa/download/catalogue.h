#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace haqa {

/// A data set at Hugging Face's hub.
struct DataSet {
  std::string name;           ///< ours; its file is NAME.jsonl
  std::string repository;     ///< such as aps/super_glue
  std::string configuration;  ///< "default" where the data set has only one
  std::string split;
  int64_t rows = 0;  ///< as published
  std::string purpose;
};

/// tatsu-lab/alpaca, and the eight tasks with the split on which they are evaluated.
/// Source: paper, section 4; repository, configuration and split as in the task files of lm-eval 0.4.13.
std::span<const DataSet> known_data_sets();

/// Throws UsageError, which lists the names, where there is none of that name.
const DataSet& known_data_set(std::string_view name);

}  // namespace haqa
