#pragma once
#include <cstdint>
#include <optional>
#include <random>

#include "haqa/sampler/prior.h"
#include "haqa/study/study.h"

namespace haqa {

/// Bayesian optimization: proposes what the surrogate of the trials so far finds the most promising (surrogate.h).
/// Reproducible by seed.
class BayesianSampler : public Sampler {
 public:
  /// priors: of well-known parameters; none: the trials alone count.
  explicit BayesianSampler(uint64_t seed, std::vector<PriorEntry> priors = {})
      : random_(seed), priors_(std::move(priors)) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  std::mt19937_64 random_;
  std::vector<PriorEntry> priors_;
};

}  // namespace haqa
