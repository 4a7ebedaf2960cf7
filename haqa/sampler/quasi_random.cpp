#include "haqa/sampler/quasi_random.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/random/sobol.hpp>
#include <cmath>
#include <random>

#include "haqa/base/error.h"
#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

constexpr int kBits = 32;
constexpr uint32_t kPoints = 10000;  ///< looked at for a valid one, as SearchSpace::sample() does

/// A number that depends on all bits of all three. Source: splitmix64, Steele et al. 2014.
uint64_t mixed(uint64_t seed, uint64_t dimension, uint64_t prefix) {
  uint64_t h = seed;
  for (const uint64_t word : {dimension, prefix}) {
    h += 0x9e3779b97f4a7c15 + word * 0xd1342543de82ef95;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9;
    h = (h ^ (h >> 27)) * 0x94d049bb133111eb;
    h ^= h >> 31;
  }
  return h;
}

/// Owen's nested scrambling: whether a bit is turned depends on all those above it.
uint32_t scrambled(uint32_t bits, uint64_t seed, uint64_t dimension) {
  uint32_t turned = 0;
  for (int k = 0; k < kBits; ++k) {
    const uint64_t above = (uint64_t{1} << k) | (uint64_t{bits} >> (kBits - k));  // with a mark of its length
    turned |= static_cast<uint32_t>(mixed(seed, dimension, above) >> 63) << (kBits - 1 - k);
  }
  return bits ^ turned;
}

}  // namespace

struct SobolSequence::Engine : boost::random::sobol_engine<uint32_t, kBits> {
  using sobol_engine::sobol_engine;
};

SobolSequence::SobolSequence(size_t dimensions, std::optional<uint64_t> seed) : dimensions_(dimensions), seed_(seed) {
  constexpr size_t kMost = boost::random::default_sobol_table::max_dimension;
  if (dimensions > kMost)
    throw UsageError("the Sobol sequence has {} dimensions at most, not {}; use another sampler", kMost, dimensions);
  if (dimensions > 0) engine_ = std::make_unique<Engine>(dimensions);
}

SobolSequence::~SobolSequence() = default;

std::vector<double> SobolSequence::point(uint32_t index) {
  std::vector<double> at(dimensions_);
  if (engine_ && index > 0) engine_->seed(index - 1);  // the engine has no point 0, the origin
  for (size_t d = 0; d < dimensions_; ++d) {
    const uint32_t bits = index > 0 ? (*engine_)() : 0;
    at[d] = std::ldexp(seed_ ? scrambled(bits, *seed_, d) : bits, -kBits);
  }
  return at;
}

Proposal QuasiRandomSampler::ask(const Track& track, std::span<const Trial> trials, int) {
  const std::set<std::string> tried = tried_hashes(track.space, trials);
  SobolSequence sequence(track.space.parameters().size(), seed_);
  // Each of its own trials took a point at least: those before are tried or not valid.
  const auto start = static_cast<uint32_t>(
      std::count_if(trials.begin(), trials.end(), [](const Trial& t) { return t.proposed_by == "sobol"; }));
  for (uint32_t i = start; i < start + kPoints; ++i) {
    Configuration c = track.space.at(sequence.point(i));
    if (track.space.allows(c) && !tried.contains(track.space.hash(c)))
      return {std::move(c), "sobol", fmt::format("Point {} of a scrambled Sobol sequence.", i), {}};
  }
  std::mt19937_64 random(seed_ + start);
  return {untried(track.space, trials, [&] { return track.space.sample(random); }),
          "sobol",
          "Hardly a point of the Sobol sequence is valid and new: a random configuration.",
          {}};
}

}  // namespace haqa
