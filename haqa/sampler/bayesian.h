#pragma once
#include <cstdint>
#include <random>
#include <set>

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

/// The hashes of every configuration tried so far.
std::set<std::string> tried_hashes(const SearchSpace& space, std::span<const Trial> trials);

}  // namespace haqa
