#pragma once
#include <cstdint>
#include <random>

#include "haqa/study/study.h"

namespace haqa {

/// (1+1) local search: a step from the best configuration of this walk, wider after a success and narrower after a
/// failure, so that about one step in five succeeds; a new walk from a random place once the steps have become too
/// short. The walk is read off the trials, so that it goes on after an interruption. A failed or pruned trial is no
/// success; a running one does not count until it ends.
/// Source: Rechenberg's one-fifth rule as in Kern et al. 2004, Learning probability distributions in continuous
/// evolutionary algorithms, section 3.
class LocalSearchSampler : public Sampler {
 public:
  explicit LocalSearchSampler(uint64_t seed) : random_(seed) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  std::mt19937_64 random_;
};

}  // namespace haqa
