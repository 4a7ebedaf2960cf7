#pragma once
#include <cstdint>
#include <random>

#include "haqa/study/study.h"

namespace haqa {

/// Random search: uniform over the valid configurations that were not tried. Source: Bergstra and Bengio 2012.
class RandomSampler : public Sampler {
 public:
  explicit RandomSampler(uint64_t seed) : random_(seed) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  std::mt19937_64 random_;
};

}  // namespace haqa
