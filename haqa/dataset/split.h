#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace haqa {

/// A seed for each stream of a seed, in all of its 64 bits: some generators take the lower 32 alone.
/// Source: Steele, Lea and Flood 2014, SplitMix64.
uint64_t mixed_seed(uint64_t seed, uint64_t stream);

/// The indices 0 to n-1 in a random order that depends on n, seed and stream alone: the same on every platform, which
/// std::shuffle does not promise. Streams of one seed are unlike each other.
std::vector<size_t> shuffled_indices(size_t n, uint64_t seed, uint64_t stream);

/// Which examples are trained on and which are kept for validation: indices, ascending, each in exactly one of them.
struct Split {
  std::vector<size_t> training, validation;
};

/// `count` of n examples for validation, drawn by the seed. Throws UsageError where none would be left to train on.
Split split_by_count(size_t n, size_t count, uint64_t seed);

/// The share of n for validation, from 0 to below 1, rounded to the nearest; above 0 at least one. Throws UsageError on
/// other shares and where none would be left to train on.
Split split_by_share(size_t n, double share, uint64_t seed);

}  // namespace haqa
