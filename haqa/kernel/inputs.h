#pragma once
#include <cstddef>
#include <cstdint>

#include "haqa/kernel/kernel_spec.h"

namespace haqa {

/// What inputs are made of.
enum class Distribution {
  normal,    ///< about normal, deviation 1
  outliers,  ///< one in a hundred as large as the argument says; masked arguments have minus infinities
  tiny,      ///< zeros, denormal numbers and some around 1e-30
  /// Whole numbers from -127 to 127 times one power of two, in any 16 that begin at a multiple of 16 one of the
  /// largest: rounding them to 8 bits by blocks loses nothing, so that a product shows every bit of its weights.
  whole
};

std::string_view to_string(Distribution distribution);

/// Random numbers, fast: splitmix64. Source: Steele, Lea and Flood 2014.
class FastRandom {
 public:
  explicit FastRandom(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t n) { return next() % n; }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

/// Fills shape.bytes() bytes with an argument's values, and what lies between rows with NaN.
void draw(const KernelArgument& argument, const TensorShape& shape, Distribution distribution, FastRandom& random,
          std::byte* to);

/// Fills a stretch of floats with values of the normal distribution: windows of it are inputs too.
void draw_normal(FastRandom& random, std::byte* to, size_t floats);

}  // namespace haqa
