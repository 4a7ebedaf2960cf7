#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

struct ImportanceOptions {
  /// The share of best trials that are set against all; 0: a tenth, but at least ten of them, at most a half.
  double target_quantile = 0;
  int shuffles = 200;  ///< of the values, for what chance alone would give; 0: none
  uint64_t seed = 1;   ///< of the shuffles
};

struct ParameterImportance {
  std::string name;
  double divergence = 0;  ///< how far the best trials' values lie from all trials', from 0
  double share = 0;       ///< of all divergences; 0 where all are 0
  double chance = 0;      ///< the divergence that 95 % of the shuffles stay below
  bool stands_out() const { return divergence > chance; }
};

struct Importance {
  std::vector<ParameterImportance> parameters;  ///< the most important first
  int trials = 0;                               ///< complete ones, of which it speaks
  int best = 0;                                 ///< of them, set against all
  std::string caution;                          ///< where they are too few: one sentence; else empty
};

/// How much each parameter had to do with reaching the best trials: the Pearson divergence of its values' density among
/// the best from that among all. Trials that are not complete or have no finite value do not count; of a parameter with
/// a condition those where it had a value do, weighed by their share. Fewer than 8 complete trials give no parameters,
/// only a caution; below 30 a caution comes along.
/// Densities: Parzen windows of Scott's width on a grid of at most 50 cells, with a uniform prior as heavy as a trial.
/// Source: Watanabe et al. 2023, PED-ANOVA (arXiv:2304.10255), for conditions arXiv:2601.20800; in all details as
/// PedAnovaImportanceEvaluator of Optuna 5.0, but for two things of our own: Optuna takes the best tenth of any number
/// (of 20 trials two, which found the first of four parameters in 60 % of runs, the best ten in 98 %), and the
/// shuffles.
Importance importance(const SearchSpace& space, std::span<const Trial> trials, Direction direction,
                      const ImportanceOptions& options = {});

Json to_json(const Importance& importance);
/// parameter,divergence,share,chance: a line each.
std::string to_csv(const Importance& importance);

}  // namespace haqa
