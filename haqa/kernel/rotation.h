#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "haqa/base/stats.h"

namespace haqa {

/// One batch of every contestant, all on the same inputs, one after the other.
struct Round {
  size_t first = 0;        ///< whose turn was first; the others followed in their order, round and round
  std::vector<double> us;  ///< of a launch of each
  bool disturbed = false;  ///< threads had to wait for a processor
};

/// One contestant beside another that it is compared with.
struct Paired {
  double microseconds = 0;         ///< a launch, median
  Estimate ratio;                  ///< how many times as fast as the first contestant, median of paired ratios
  std::vector<double> samples_us;  ///< each over a whole rotation of the contestants' order
  double disturbed = 0;  ///< share of the rounds in which threads had to wait for a processor; those do not count where
                         ///< there are enough others
};

/// Rotations that undisturbed rounds make: a round of each order, so that everyone had every turn. Who comes later in a
/// round finds the inputs in nearer caches, which makes ratios of single rounds two-peaked.
size_t whole_rotations(std::span<const Round> rounds);

/// Every contestant beside the first, by whole rotations of undisturbed rounds, or of `all`. There must be rounds.
std::vector<Paired> summarized(std::span<const Round> rounds, bool all);

}  // namespace haqa
