#pragma once
#include <cstddef>
#include <optional>
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

/// When timing stops.
struct StopRule {
  size_t least_rotations = 6, most_rotations = 100;  ///< the interval of fewer than six samples is none of 95 %
  double seconds = 1;                                ///< at most, but for the least rotations
  double tight = 0.02;                               ///< width of every interval, relative, that is enough
};

/// What `seconds` of rounds gave, once it is enough: the intervals are tight, the time is up, or there are the most
/// rotations. Rounds that nothing disturbed are waited for longer; then all of them count.
std::optional<std::vector<Paired>> enough(std::span<const Round> rounds, const StopRule& rule, double seconds);

/// How much slower the machine was in the second half than in the first: 1 where it was the same.
double drift(std::span<const double> samples);

}  // namespace haqa
