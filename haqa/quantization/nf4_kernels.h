#pragma once
#include <array>
#include <cstdint>

#include "haqa/quantization/simd.h"

namespace haqa {

/// How values within -1 to 1 become codes: code[number of bounds below the value].
struct Bounds4Bit {
  std::array<float, 15> bounds;
  std::array<uint8_t, 16> code;
};

/// Whole blocks of 64: codes [blocks * 32], absmax [blocks], out [blocks * 64].
void dequantize_blocks(Simd simd, const std::array<float, 16>& codebook, const uint8_t* codes, const float* absmax,
                       int64_t blocks, float* out);
void dequantize_blocks(Simd simd, const std::array<float, 16>& codebook, const uint8_t* codes, const float* absmax,
                       int64_t blocks, uint16_t* out);
/// The absmax of a block with an infinite value or NaN is not finite, and its codes mean nothing.
void quantize_blocks(Simd simd, const Bounds4Bit& bounds, const float* values, int64_t blocks, uint8_t* codes,
                     float* absmax);

}  // namespace haqa
