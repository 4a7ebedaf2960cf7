#pragma once
#include <cstdint>
#include <random>

#include "haqa/study/study.h"

namespace haqa {

/// Tree-structured Parzen estimator over all parameters at once: of candidates drawn where good trials are dense, the
/// one where they are densest beside the bad ones, times the chance that it does not fail. Failed trials are bad ones,
/// always; pruned ones rank behind those that went to their end, by their last value. A parameter with a condition is
/// learnt from the trials it was active in, together with those of the same condition. Reproducible by seed.
/// Source: Bergstra et al. 2011, Algorithms for hyper-parameter optimization; Falkner et al. 2018, BOHB; the groups are
/// those of Optuna's TPESampler(multivariate=True, group=True); the chance is that of Watanabe and Hutter 2023, c-TPE.
class TpeSampler : public Sampler {
 public:
  /// startup: trials before the first that is not random, the defaults among them.
  explicit TpeSampler(uint64_t seed, int startup = 3) : startup_(startup), random_(seed) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  int startup_;
  std::mt19937_64 random_;
};

}  // namespace haqa
