#pragma once
#include <bit>
#include <cstdint>

#include "haqa/quantization/simd.h"

namespace haqa {

/// Of those n values whose size is below a bound; without one of all, and infinite or NaN where one of them is.
float absmax_of(Simd simd, const float* values, int64_t n, float below = std::bit_cast<float>(0x7fffffffu));
/// Each times scale, rounded to the nearest, ties to even. Results beyond -127 to 127 mean nothing.
void quantize_int8(Simd simd, const float* values, int64_t n, float scale, int8_t* codes);
/// code * absmax / 127, rounded after each of both operations.
void dequantize_int8(Simd simd, const int8_t* codes, int64_t n, float absmax, float* out);
void dequantize_int8(Simd simd, const int8_t* codes, int64_t n, float absmax, uint16_t* out);

/// Rows of weights that int8_dots multiplies at once.
inline constexpr int kDotRows = 4;
/// out [tokens, 4]: the dot products of x [tokens, columns] with four rows of weights, each of `columns`.
void int8_dots(Simd simd, const int8_t* x, int64_t tokens, int64_t columns, const int8_t* const (&rows)[kDotRows],
               int32_t* out);

}  // namespace haqa
