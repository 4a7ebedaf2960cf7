#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "haqa/quantization/parallel.h"
#include "haqa/quantization/simd.h"

namespace haqa {

/// A matrix of which every row has its own scale: value = code * the row's absmax / 127.
/// Source: LLM.int8(), arXiv:2208.07339, section 2 (vector-wise quantization).
struct Int8Rows {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<int8_t> codes;  ///< [rows, columns]
  std::vector<float> absmax;  ///< [rows]

  int64_t bytes() const { return static_cast<int64_t>(codes.size() + absmax.size() * sizeof(float)); }
};

/// values: [rows, columns]. Each is multiplied by 127 / absmax and rounded, ties to even; a row whose absmax is below
/// 1e-36, where 127 / absmax is no float, becomes zeros. Throws Error that names the first value that is infinite or
/// not a number, for no values, and where rows does not divide them. Source: bitsandbytes 0.50.2, int8_vectorwise_quant
/// without a threshold.
Int8Rows quantize_rows(std::span<const float> values, int64_t rows, const Loop& loop = in_turn,
                       Simd simd = best_simd());

/// Rows from `first_row` on, as floats or bf16; out: a multiple of columns. Allocates nothing; several threads may call
/// it at once. Throws Error for rows beyond the end.
void dequantize_rows(const Int8Rows& from, int64_t first_row, std::span<float> out, Simd simd = best_simd());
void dequantize_rows(const Int8Rows& from, int64_t first_row, std::span<uint16_t> out, Simd simd = best_simd());

/// The columns of x [tokens, columns] that hold a value of at least `threshold` in size, in rising order; none for 0.
std::vector<int64_t> outlier_columns(std::span<const float> x, int64_t columns, float threshold);

/// Activations as LLM.int8 multiplies them: the columns of outliers as they are, the rest in 8 bits with a scale a
/// token. Layers that read the same activations can share it; kept from step to step it allocates only where sizes
/// grow.
struct Int8Activations {
  int64_t tokens = 0;
  int64_t columns = 0;
  std::vector<int8_t> codes;          ///< [tokens, columns], 0 in outlier columns
  std::vector<float> absmax;          ///< [tokens], over all values but the outliers themselves
  std::vector<int64_t> outliers;      ///< columns
  std::vector<float> outlier_values;  ///< [tokens, outliers]
};

/// x: [tokens, columns]. threshold: LLM.int8 takes 6; 0 splits nothing off. Throws Error where a value is infinite or
/// not a number, and where columns does not divide x. Source: LLM.int8(), section 3; bitsandbytes,
/// int8_vectorwise_quant.
void quantize_activations(std::span<const float> x, int64_t columns, float threshold, Int8Activations& to,
                          const Loop& loop = in_turn, Simd simd = best_simd());

/// out [tokens, rows] = x times the weights transposed: products of codes summed exactly in 32 bits, times both scales;
/// outlier columns in float with the weights dequantized. Throws Error where sizes do not fit or columns exceed
/// 131,072, beyond which 32 bits would not hold the sum.
void int8_matmul(const Int8Activations& x, const Int8Rows& weights, std::span<float> out, const Loop& loop = in_turn,
                 Simd simd = best_simd());

}  // namespace haqa
