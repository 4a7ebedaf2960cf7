#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// The outermost JSON objects in what a program printed. JSON has no NaN, Infinity and -Infinity, but Python writes
/// them: they are read as null.
std::vector<Json> printed_objects(std::string_view text);

/// What a run of a program left to be measured by.
struct Traces {
  std::string output;            ///< the end of its standard output
  bool cut = false;              ///< output had more before that
  std::string errors;            ///< the end of its standard error
  std::filesystem::path folder;  ///< {folder} of the trial
};

/// Where the value of a trial is found:
///   REGEX               what its one group matches, at the last match in standard output, else in standard error
///   json:KEY            KEY of the last JSON object printed that has it; a.b is b within a
///   file:PATH:KEY       the same of a file that the program writes
///   t4:PATH[:NAME]      a measurement of the one result in a T4 file, as Kernel Tuner writes them (schema 1.0.0); by
///                       default the result's objective
/// PATH is relative to the folder in which the program runs and may hold {folder}.
class Metric {
 public:
  /// "[NAME:minimize|maximize=]" and one of the forms above. Throws UsageError for a pattern that is none, with the
  /// position, and where the direction is missing.
  Metric(std::string_view text, std::optional<Direction> direction);

  const Goal& goal() const { return goal_; }
  bool shares_file() const;  ///< whether all trials write the same file

  /// The time of the file that an earlier trial left; taken before a trial, so that it is not mistaken for its own.
  std::optional<std::filesystem::file_time_type> stamp(const Traces& traces) const;

  /// The value, or why there is none: missing, not a finite number, several, or an invalid result in a T4 file.
  Outcome read(const Traces& traces, std::optional<std::filesystem::file_time_type> before) const;

 private:
  enum class Kind { pattern, printed_json, json_file, t4_file };
  struct Pattern;
  void parse_reader(const std::string& text);
  std::filesystem::path path(const Traces& traces) const;
  Outcome read_pattern(const Traces& traces) const;
  Outcome read_t4(const std::vector<Json>& documents) const;

  Goal goal_;
  Kind kind_ = Kind::pattern;
  std::string key_;   ///< or the pattern
  std::string path_;  ///< of a file
  std::shared_ptr<const Pattern> pattern_;
};

}  // namespace haqa
