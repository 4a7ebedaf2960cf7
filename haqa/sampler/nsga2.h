#pragma once
#include <cstdint>
#include <random>

#include "haqa/study/study.h"

namespace haqa {

/// NSGA-II for any number of goals: the best trials so far, by front and then by crowding distance, are the parents;
/// failed ones rank behind all others. A child takes each parameter from either parent; then numbers are moved by
/// polynomial mutation on the unit interval, choices drawn anew. One that is not valid or was tried is bred again.
/// Parents are chosen after each trial, not after a whole generation, from the trials alone, so that a study goes on
/// after an interruption and several workers wait for none. Reproducible by seed.
/// Source: Deb et al. 2002, A fast and elitist multiobjective genetic algorithm: NSGA-II; Durillo et al. 2009, On the
/// effect of the steady-state selection scheme; mutation of Deb and Goyal 1996.
class Nsga2Sampler : public Sampler {
 public:
  /// population: parents, and trials before the first child, 1 or more. Five, as a round costs much and there are ten;
  /// more measured worse at 50 rounds too.
  explicit Nsga2Sampler(uint64_t seed, int population = 5) : population_(population), random_(seed) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  int population_;
  std::mt19937_64 random_;
};

}  // namespace haqa
