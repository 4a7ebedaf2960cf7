#include "haqa/kernel/inputs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "haqa/kernel/reference.h"

namespace haqa {
namespace {

/// The sum of four uniform numbers of 16 bits, which is near enough to a normal one.
float normal(FastRandom& random) {
  const uint64_t bits = random.next();
  const auto sum = static_cast<float>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
  return (sum / 65536.0f - 2.0f) * 1.7320508f;
}

float tiny(FastRandom& random) {
  switch (random.below(4)) {
    case 0:
      return 0;
    case 1:
      return static_cast<float>(random.uniform() * 1e-39);
    default:
      return normal(random) * 1e-30f;
  }
}

float value(const KernelArgument& argument, Distribution distribution, bool first, FastRandom& random) {
  if (distribution == Distribution::tiny) return tiny(random);
  if (distribution == Distribution::outliers) {
    if (argument.is_masked && !first && random.below(10) == 0) return -std::numeric_limits<float>::infinity();
    if (random.below(100) == 0) return static_cast<float>((2 * random.uniform() - 1) * argument.outlier);
  }
  return normal(random);
}

void draw_whole(FastRandom& random, std::byte* row, int64_t n) {
  constexpr int64_t kSpan = 16;
  const int exponent = -7 - static_cast<int>(random.below(6));
  int64_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (i % kSpan == 0) largest = i + static_cast<int64_t>(random.below(kSpan));
    const int number = i == largest ? (random.below(2) == 0 ? 127 : -127) : static_cast<int>(random.below(255)) - 127;
    const auto x = static_cast<float>(std::ldexp(number, exponent));
    std::memcpy(row + 4 * i, &x, sizeof x);
  }
}

void draw_floats(const KernelArgument& argument, Distribution distribution, FastRandom& random, std::byte* row,
                 int64_t n) {
  if (distribution == Distribution::whole) return draw_whole(random, row, n);
  if (distribution == Distribution::normal) return draw_normal(random, row, static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const float x = value(argument, distribution, i == 0, random);
    std::memcpy(row + 4 * i, &x, sizeof x);
  }
}

/// A format of 16 bits: bits below the exponent, the stored exponent of 1, and of so many from `lowest` on the one that
/// a weight has now and then.
struct HalfFormat {
  int fraction;
  uint64_t bias, lowest, exponents;
};
constexpr HalfFormat kF16 = {10, 15, 1, 11}, kBf16 = {7, 127, 127 - 28, 25};

/// Of either sign, over four exponents, the least of which is `least` as it is stored, and now and then over the next
/// ones or anywhere, so that no few exponents are all of a row's; some are zeros and denormal. Drawn four at a time, as
/// there are many millions.
void draw_halves(const HalfFormat& format, uint64_t least, FastRandom& random, std::byte* row, int64_t bytes) {
  const int fraction = format.fraction;
  constexpr uint64_t kEach = 0x0001000100010001;
  const uint64_t drawn = (0x8000 + (uint64_t{1} << fraction) - 1) * kEach, exponent = (uint64_t{3} << fraction) * kEach;
  for (int64_t at = 0; at < bytes; at += 8) {
    const uint64_t bits = random.next();
    const uint64_t which = (bits >> 12 & 7) | (bits >> 25 & 56);  // of 64: six bits that nothing else uses, as here
    const uint64_t anywhere = format.lowest + ((bits >> 44 & 7) | (bits >> 57 & 56)) % format.exponents;
    const uint64_t begin = which == 2 ? least + 3 : which == 3 ? anywhere : least;
    const uint64_t halves = which == 0   ? bits & 0x8000 * kEach  // zeros
                            : which == 1 ? bits & drawn           // denormal
                                         : (bits & drawn) | ((bits & exponent) + (begin << fraction) * kEach);
    std::memcpy(row + at, &halves, static_cast<size_t>(std::min<int64_t>(8, bytes - at)));
  }
}

/// The least exponent of a row of weights as it is stored: that of 2^-9, and in every third row any that the format
/// says.
uint64_t row_exponent(const HalfFormat& format, FastRandom& random) {
  return random.below(3) == 0 ? format.lowest + random.below(format.exponents) : format.bias - 9;
}

/// Of query `query` of so many, which are the last of the positions: it sees those before it. With outliers anything,
/// now and then all that is masked.
void draw_mask(Distribution distribution, int64_t query, int64_t queries, FastRandom& random, std::byte* row,
               int64_t positions) {
  constexpr uint16_t kHidden = 0xfc00;
  const bool sees_nothing = random.below(8) == 0;
  uint64_t stretch = 0;
  bool is_hidden = false;
  for (int64_t i = 0; i < positions; ++i) {
    uint16_t half = i > positions - queries + query ? kHidden : 0;
    if (distribution == Distribution::outliers) {
      if (stretch-- == 0) {
        stretch = random.below(random.below(2) == 0 ? 3 : 200);
        is_hidden = !is_hidden;
      }
      half = sees_nothing || is_hidden ? kHidden : random.below(4) > 0 ? 0 : double_to_half(4 * random.uniform() - 2);
    }
    std::memcpy(row + 2 * i, &half, sizeof half);
  }
}

/// A block's scale near 0.01, of either sign, as Q4_0 has it; some are zero, as where a block is, some denormal, and
/// some larger or smaller by up to 32.
uint16_t draw_scale(FastRandom& random) {
  const uint64_t which = random.below(64);
  const double usual = which == 1  ? 0x1p-15
                       : which < 6 ? std::ldexp(0.01, static_cast<int>(random.below(11)) - 5)
                                   : 0.01;
  const double size = which == 0 ? 0 : usual * (0.5 + random.uniform());
  return double_to_half(random.below(2) == 0 ? -size : size);
}

/// Where scales of 16 bits lie in a block.
std::span<const int64_t> scales_at(ElementType type) {
  static constexpr std::array<int64_t, 2> kFirst = {0, 2};
  static constexpr std::array<int64_t, 1> kLast = {208};
  if (type == ElementType::q6_k) return kLast;
  return type == ElementType::q4_k ? std::span<const int64_t>(kFirst) : std::span<const int64_t>(kFirst).first(1);
}

/// Blocks of random bits, the integers and the scales within, with scales of 16 bits that are those of models.
void draw_blocks(ElementType type, FastRandom& random, std::byte* row, int64_t bytes) {
  const int64_t block = row_bytes(type, block_length(type));
  for (int64_t at = 0; at < bytes; at += block) {
    for (int64_t i = 0; i < block; i += 8) {
      const uint64_t bits = random.next();
      std::memcpy(row + at + i, &bits, static_cast<size_t>(std::min<int64_t>(8, block - i)));
    }
    for (const int64_t scale : scales_at(type)) {
      const uint16_t half = draw_scale(random);
      std::memcpy(row + at + scale, &half, sizeof half);
    }
  }
}

/// Tokens one after another, beginning anywhere in a long context; or of many contexts: each anywhere.
void draw_positions(Distribution distribution, FastRandom& random, std::byte* row, int64_t n) {
  constexpr int64_t kLongest = 131072;
  const int64_t first = distribution == Distribution::tiny || n >= kLongest
                            ? 0
                            : static_cast<int64_t>(random.below(static_cast<uint64_t>(kLongest - n)));
  for (int64_t i = 0; i < n; ++i) {
    const auto position = static_cast<int32_t>(
        distribution == Distribution::outliers ? static_cast<int64_t>(random.below(kLongest)) : first + i);
    std::memcpy(row + 4 * i, &position, sizeof position);
  }
}

}  // namespace

std::string_view to_string(Distribution distribution) {
  switch (distribution) {
    case Distribution::normal:
      return "normal inputs";
    case Distribution::outliers:
      return "inputs with outliers";
    case Distribution::tiny:
      return "tiny and denormal inputs";
    case Distribution::whole:
      break;
  }
  return "inputs of whole numbers";
}

void draw_normal(FastRandom& random, std::byte* to, size_t floats) {
  for (size_t i = 0; i < floats; ++i) {
    const float x = normal(random);
    std::memcpy(to + 4 * i, &x, sizeof x);
  }
}

void draw(const KernelArgument& argument, const TensorShape& shape, Distribution distribution, FastRandom& random,
          std::byte* to) {
  std::memset(to, 0xff, static_cast<size_t>(shape.bytes()));
  for (int64_t r = 0; r < shape.rows(); ++r) {
    std::byte* row = to + shape.offset_of(r);
    if (shape.type == ElementType::i32) {
      draw_positions(distribution, random, row, shape.ne[0]);
    } else if (shape.type == ElementType::f32) {
      draw_floats(argument, distribution, random, row, shape.ne[0]);
    } else if (argument.is_mask) {
      draw_mask(distribution, r, shape.rows(), random, row, shape.ne[0]);
    } else if (shape.type == ElementType::f16) {
      draw_halves(kF16, argument.is_constant ? row_exponent(kF16, random) : 12, random, row, shape.row);
    } else if (shape.type == ElementType::bf16) {
      draw_halves(kBf16, row_exponent(kBf16, random), random, row, shape.row);
    } else {
      draw_blocks(shape.type, random, row, shape.row);
    }
  }
}

}  // namespace haqa
