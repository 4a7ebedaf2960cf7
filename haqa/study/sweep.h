#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// Why a trial failed, by the word that T4 files have for it; crashed for what HAQA tells apart no further.
FailReason reason_of_invalidity(std::string_view invalidity);

/// Trials as a file of Kernel Tuner's T4 results format, version 1.0.0. Those that run, that were given up and that
/// were interrupted are left out: the format has no word for them. Of the metrics numbers become measurements;
/// `compile_s`, `check_s` and `runtimes_ms`, where they are there, stand among the times, which are milliseconds;
/// `invalidity` says which of T4's words fits a failure better than its reason does ("compile"). The reason and the
/// message are measurements, so that read_sweep() gives them back. Source: results-schema.json of kernel_tuner 1.5.0,
/// and get_t4_results() there.
Json to_t4(const Track& track, std::span<const Trial> trials);

/// A stored sweep: what was measured of many configurations, once and for all.
struct Sweep {
  std::string value_name;              ///< the objective
  std::optional<Direction> direction;  ///< where the file says it, as ours do
  std::vector<Trial> trials;
};

/// Reads a T4 results file. What is not "correct" is a failed trial with its reason, `invalidity` among its metrics.
/// Throws Error that names the result that makes no sense.
Sweep read_sweep(const std::filesystem::path& file);

/// The space of all values that occur in the sweep: a choice a parameter, ordered where it is of numbers; the defaults
/// are those of the first result that has a value. Throws UsageError where there is no configuration.
SearchSpace space_of(const Sweep& sweep);

/// Gives each configuration the value that the sweep has of it; of several results the median. What it has no result of
/// fails, and says so.
class SweepObjective : public Objective {
 public:
  /// Results of configurations that are none of the space's are left out.
  SweepObjective(SearchSpace space, std::span<const Trial> trials);
  Outcome evaluate(const Configuration& configuration, const Report& report = {}) override;
  size_t size() const { return outcomes_.size(); }

 private:
  SearchSpace space_;
  std::unordered_map<std::string, Outcome> outcomes_;  ///< by the configuration's hash
};

}  // namespace haqa
