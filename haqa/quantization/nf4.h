#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "haqa/quantization/parallel.h"
#include "haqa/quantization/simd.h"

namespace haqa {

/// What the 16 codes of a 4-bit number stand for.
enum class Format4Bit {
  nf4,  ///< quantiles of the normal distribution. Source: QLoRA, arXiv:2305.14314, appendix E
  fp4,  ///< one sign, two exponent and one fraction bit. Source: bitsandbytes, get_4bit_type("fp4")
};

/// The value of each code, within -1 to 1.
const std::array<float, 16>& codebook(Format4Bit format);

/// Values in one block, which share one absmax. Blocks are flat: they run over the ends of a matrix's rows.
inline constexpr int64_t kBlock4Bit = 64;
/// Absmax values in one block of the second quantization.
inline constexpr int64_t kAbsmaxBlock = 256;

/// Numbers as 4-bit codes. Value i is codebook(format)[code i] * the absmax of block i / 64, rounded once.
struct Quantized4Bit {
  Format4Bit format = Format4Bit::nf4;
  int64_t elements = 0;
  /// Two a byte, the first in the high nibble: [(elements + 1) / 2]. The last low nibble of an odd count means nothing.
  std::vector<uint8_t> codes;
  /// Of each block: [(elements + 63) / 64]; empty where doubly quantized.
  std::vector<float> absmax;
  /// Doubly quantized: the absmax of a block is signed_dynamic_map()[its code] * the absmax of 256 of them + the mean.
  std::vector<uint8_t> absmax_codes;
  std::vector<float> absmax_absmax;
  float absmax_mean = 0;

  bool doubly_quantized() const { return !absmax_codes.empty(); }
  int64_t blocks() const { return (elements + kBlock4Bit - 1) / kBlock4Bit; }
  float block_absmax(int64_t block) const;
  /// Of everything above but the struct itself, in memory.
  int64_t bytes() const;
};

/// Quantizes in blocks of 64, each value to the nearest of the codebook (in the middle between two: to the lower) after
/// multiplication by 1 / absmax, as bitsandbytes does, bit for bit: a block whose absmax is below 1e-38 is divided by
/// 1e-38, and a last block shorter than 64 is divided instead of multiplied and has an absmax of at least 1e-38.
/// Throws Error that names the first value that is infinite or not a number, and for no values at all.
/// Source: QLoRA, section 3; bitsandbytes 0.50.2, quantize_4bit.
Quantized4Bit quantize_4bit(std::span<const float> values, Format4Bit format, bool double_quantization,
                            const Loop& loop = in_turn, Simd simd = best_simd());

/// The values from `first` on, as floats or as bf16 (rounded to nearest, ties to even). Any range may be asked for;
/// those that start at a multiple of 64 take the fast path from the first value on. Allocates nothing; several threads
/// may call it at once. Throws Error for a range beyond the end.
void dequantize(const Quantized4Bit& from, int64_t first, std::span<float> out, Simd simd = best_simd());
void dequantize(const Quantized4Bit& from, int64_t first, std::span<uint16_t> out, Simd simd = best_simd());

}  // namespace haqa
