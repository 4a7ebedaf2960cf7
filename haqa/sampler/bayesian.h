#pragma once
#include <cstdint>
#include <random>

#include "haqa/study/study.h"

namespace haqa {

/// Bayesian optimization: expected improvement of a Gaussian process, times the chance that the trial does not fail.
/// Failed trials teach that chance alone; no penalty value enters the process. Reproducible by seed.
class BayesianSampler : public Sampler {
 public:
  explicit BayesianSampler(uint64_t seed) : random_(seed) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  std::mt19937_64 random_;
};

}  // namespace haqa
