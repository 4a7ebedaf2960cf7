#include "haqa/dataset/split.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "haqa/base/error.h"

namespace haqa {
namespace {

/// Spreads neighbouring seeds over all 64 bits. Source: Steele, Lea and Flood 2014, SplitMix64.
uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// From 0 to below n, all alike: what the last, incomplete round of n would favour is drawn again.
uint64_t below(uint64_t n, std::mt19937_64& random) {
  const uint64_t whole = UINT64_MAX - UINT64_MAX % n;
  uint64_t x = random();
  while (x >= whole) x = random();
  return x % n;
}

/// Of no epoch (batches.cpp).
constexpr uint64_t kSplitStream = UINT64_MAX;

}  // namespace

uint64_t mixed_seed(uint64_t seed, uint64_t stream) {
  return mixed(mixed(seed) ^ stream);
}

std::vector<size_t> shuffled_indices(size_t n, uint64_t seed, uint64_t stream) {
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937_64 random(mixed_seed(seed, stream));
  for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[below(i, random)]);
  return order;
}

Split split_by_count(size_t n, size_t count, uint64_t seed) {
  if (count >= n) throw UsageError("{} of {} examples for validation leave none to train on; keep fewer", count, n);
  std::vector<size_t> order = shuffled_indices(n, seed, kSplitStream);
  Split split;
  split.validation.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
  split.training.assign(order.begin() + static_cast<std::ptrdiff_t>(count), order.end());
  std::sort(split.validation.begin(), split.validation.end());
  std::sort(split.training.begin(), split.training.end());
  return split;
}

Split split_by_share(size_t n, double share, uint64_t seed) {
  if (!(share >= 0 && share < 1)) throw UsageError("{} is no share for validation; give one from 0 to below 1", share);
  const auto count = static_cast<size_t>(std::llround(share * static_cast<double>(n)));
  return split_by_count(n, share > 0 ? std::max<size_t>(count, 1) : 0, seed);
}

}  // namespace haqa
