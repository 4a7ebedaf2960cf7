#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/base/rank_tests.h"
#include "haqa/base/stats.h"
#include "haqa/study/study.h"

namespace haqa {

/// The trials that one method made with one seed, in their order.
struct MethodRun {
  std::string method;
  uint64_t seed = 0;
  std::vector<Trial> trials;
};

/// The best value after each trial. One that failed carries it on; nothing before the first complete one.
std::vector<std::optional<double>> best_so_far(std::span<const Trial> trials, Direction direction);

/// The seeds' best values after a round, of those that have one; NaN where none has. A seed that ended earlier counts
/// with its last.
struct CurvePoint {
  int seeds = 0;
  double mean = 0, deviation = 0;
};

/// A method against the reference, by the best values of the seeds that both ran. A seed without any complete trial
/// loses to one with.
struct Versus {
  int wins = 0, ties = 0, losses = 0;
  Estimate gain;             ///< the paired difference, positive where the method is better: median and interval
  double p = 1, p_holm = 1;  ///< Wilcoxon's signed-rank test; corrected for the number of methods compared
};

struct MethodSummary {
  std::string method;
  int seeds = 0;
  int without_value = 0;                       ///< seeds whose trials all failed: in no mean, last in every rank
  std::vector<CurvePoint> curve;               ///< a point a round
  double mean = 0, deviation = 0, median = 0;  ///< of the best values after all rounds; NaN where there is none
  double mean_rank = 0;                        ///< over the blocks, from 1; NaN without blocks
  int evaluations = 0, failures = 0;           ///< trials of all seeds, as far as they count
  double propose_s = 0, evaluate_s = 0;        ///< of all seeds
  std::optional<double> tokens, cost_usd;      ///< where the trials' metrics tell (below)
  std::optional<Versus> versus;                ///< nothing for the reference
};

struct MethodComparison {
  Direction direction = Direction::maximize;
  std::string reference;
  int rounds = 0;
  int blocks = 0;                      ///< seeds that every method ran
  int left_out = 0;                    ///< trials beyond the shortest run of their seed
  RankTest friedman;                   ///< whether the methods differ at all; NaN for two
  std::vector<MethodSummary> methods;  ///< the best mean rank first
};

/// What came of several methods on one objective. `reference`: the method that the others are tested against; empty:
/// "random" where it is among them, else the first. Of each seed all runs count as far as the shortest one came, so
/// that no method is compared on more trials than another. Tokens are the metrics prompt_tokens and completion_tokens,
/// cost is cost_usd. Throws UsageError where there is no run, none of the reference, or two of one method and seed.
MethodComparison compare_methods(std::span<const MethodRun> runs, Direction direction, std::string reference = "");

/// Throws UsageError where compare_methods() would refuse the outcome of these methods: for those who run them.
void check_methods(const std::vector<std::string>& methods, const std::string& reference);

/// As the struct, NaN as null.
Json to_json(const MethodComparison& comparison);
/// A number as the CSV files have it: in full; nothing where it is not finite.
std::string csv_number(std::optional<double> value);
/// A line a method; empty where there is no value. docs/compare.md names the columns.
std::string summary_csv(const MethodComparison& comparison);
/// method,seed,round,value,best: a line a trial, rounds from 1; value is empty where the trial is not complete.
std::string curves_csv(std::span<const MethodRun> runs, Direction direction);

}  // namespace haqa
