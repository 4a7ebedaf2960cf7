#include "haqa/quantization/int8.h"

#include <algorithm>
#include <cmath>

#include "haqa/base/error.h"
#include "haqa/quantization/int8_kernels.h"

namespace haqa {
namespace {

/// Below it 127 / absmax may be no float any more.
constexpr float kSmallestAbsmax = 1e-36f;

void require_finite(std::span<const float> values) {
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad != values.end())
    throw Error("value {} of {} is {}, which has no place in a quantized number; the numbers before it went wrong",
                bad - values.begin(), values.size(), *bad);
}

bool all_finite(std::span<const float> absmax) {
  return std::all_of(absmax.begin(), absmax.end(), [](float a) { return std::isfinite(a); });
}

/// How many rows fill about a megabyte, below which a thread takes longer to start than it saves.
int64_t rows_of_a_megabyte(int64_t columns) {
  return std::max<int64_t>(1, (1 << 20) / std::max<int64_t>(columns, 1));
}

/// Rounded twice, as torch computes 127.0 / absmax: where a value lies in the middle of two codes, the last bit
/// decides.
float scale_of(float absmax) {
  return absmax < kSmallestAbsmax || !std::isfinite(absmax) ? 0 : (1 / absmax) * 127.0f;
}

template <typename T>
void dequantize_range(const Int8Rows& from, int64_t first_row, std::span<T> out, Simd simd) {
  const int64_t columns = from.columns;
  const auto size = static_cast<int64_t>(out.size());
  if (columns <= 0 || first_row < 0 || size % columns != 0 || first_row + size / columns > from.rows)
    throw Error("{} values from row {} on were asked for, of {} rows of {}", size, first_row, from.rows, columns);
  for (int64_t row = 0; row < size / columns; ++row)
    dequantize_int8(simd, from.codes.data() + (first_row + row) * columns, columns,
                    from.absmax[static_cast<size_t>(first_row + row)], out.data() + row * columns);
}

/// Copies the outliers' columns.
void copy_outliers(std::span<const float> x, Int8Activations& to) {
  to.outlier_values.resize(static_cast<size_t>(to.tokens) * to.outliers.size());
  size_t at = 0;
  for (int64_t token = 0; token < to.tokens; ++token)
    for (const int64_t column : to.outliers)
      to.outlier_values[at++] = x[static_cast<size_t>(token * to.columns + column)];
}

/// sums [tokens, 4] += the outlier columns times the same columns of four rows, still without the rows' scales.
void add_outliers(const Int8Activations& x, int64_t first, int64_t tokens, const int8_t* const (&rows)[kDotRows],
                  float* sums) {
  constexpr size_t kAtOnce = 64;  // so that the weights stay on the stack
  const size_t count = x.outliers.size();
  for (size_t begin = 0; begin < count; begin += kAtOnce) {
    const size_t part = std::min(kAtOnce, count - begin);
    float weights[kAtOnce][kDotRows];
    for (size_t k = 0; k < part; ++k)
      for (int r = 0; r < kDotRows; ++r) weights[k][r] = rows[r][x.outliers[begin + k]];
    for (int64_t token = 0; token < tokens; ++token) {
      const float* values = x.outlier_values.data() + static_cast<size_t>(first + token) * count + begin;
      for (size_t k = 0; k < part; ++k)
        for (int r = 0; r < kDotRows; ++r) sums[token * kDotRows + r] += values[k] * weights[k][r];
    }
  }
}

/// Tokens that are multiplied with all rows before the next ones: about half a megabyte, which stays in the cache.
constexpr int64_t kMostTokens = 128;
int64_t tokens_at_once(int64_t columns) {
  return std::clamp<int64_t>((1 << 19) / columns, 16, kMostTokens);
}

/// Tokens from `first` on with four rows, or fewer at the end.
void multiply_tile(const Int8Activations& x, const Int8Rows& weights, int64_t first, int64_t tokens, int64_t row,
                   std::span<float> out, Simd simd) {
  const int8_t* rows[kDotRows];
  for (int r = 0; r < kDotRows; ++r)
    rows[r] = weights.codes.data() + std::min(row + r, weights.rows - 1) * weights.columns;
  int32_t dots[kMostTokens * kDotRows];
  float outliers[kMostTokens * kDotRows] = {};
  int8_dots(simd, x.codes.data() + first * x.columns, tokens, x.columns, rows, dots);
  if (!x.outliers.empty()) add_outliers(x, first, tokens, rows, outliers);
  const int64_t count = std::min<int64_t>(kDotRows, weights.rows - row);
  for (int64_t token = 0; token < tokens; ++token)
    for (int64_t r = 0; r < count; ++r) {
      const float row_absmax = weights.absmax[static_cast<size_t>(row + r)];
      const float scale = x.absmax[static_cast<size_t>(first + token)] * row_absmax * (1 / (127.0f * 127.0f));
      const int64_t i = token * kDotRows + r;
      out[static_cast<size_t>((first + token) * weights.rows + row + r)] =
          static_cast<float>(dots[i]) * scale + outliers[i] * (row_absmax * (1 / 127.0f));
    }
}

}  // namespace

Int8Rows quantize_rows(std::span<const float> values, int64_t rows, const Loop& loop, Simd simd) {
  if (values.empty() || rows <= 0 || static_cast<int64_t>(values.size()) % rows != 0)
    throw Error("{} values cannot be quantized as {} rows", values.size(), rows);
  Int8Rows q{.rows = rows, .columns = static_cast<int64_t>(values.size()) / rows};
  q.codes.resize(values.size());
  q.absmax.resize(static_cast<size_t>(rows));
  loop(rows, rows_of_a_megabyte(q.columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = values.data() + row * q.columns;
      const float absmax = absmax_of(simd, from, q.columns);
      q.absmax[static_cast<size_t>(row)] = absmax;
      if (std::isfinite(absmax))
        quantize_int8(simd, from, q.columns, scale_of(absmax), q.codes.data() + row * q.columns);
    }
  });
  if (!all_finite(q.absmax)) require_finite(values);
  return q;
}

void dequantize_rows(const Int8Rows& from, int64_t first_row, std::span<float> out, Simd simd) {
  dequantize_range(from, first_row, out, simd);
}

void dequantize_rows(const Int8Rows& from, int64_t first_row, std::span<uint16_t> out, Simd simd) {
  dequantize_range(from, first_row, out, simd);
}

std::vector<int64_t> outlier_columns(std::span<const float> x, int64_t columns, float threshold) {
  std::vector<int64_t> found;
  if (threshold <= 0 || columns <= 0) return found;
  const auto width = static_cast<size_t>(columns);
  std::vector<uint8_t> reaches(width);  // a byte a column, which the compiler vectorizes
  for (size_t token = 0; token + width <= x.size(); token += width)
    for (size_t i = 0; i < width; ++i) reaches[i] |= static_cast<uint8_t>(std::abs(x[token + i]) >= threshold);
  for (size_t i = 0; i < width; ++i)
    if (reaches[i]) found.push_back(static_cast<int64_t>(i));
  return found;
}

void quantize_activations(std::span<const float> x, int64_t columns, float threshold, Int8Activations& to,
                          const Loop& loop, Simd simd) {
  if (columns <= 0 || static_cast<int64_t>(x.size()) % columns != 0)
    throw Error("{} activations are no whole tokens of {} values", x.size(), columns);
  to.columns = columns;
  to.tokens = static_cast<int64_t>(x.size()) / columns;
  to.codes.resize(x.size());
  to.absmax.resize(static_cast<size_t>(to.tokens));
  loop(to.tokens, rows_of_a_megabyte(columns), [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token)
      to.absmax[static_cast<size_t>(token)] = absmax_of(simd, x.data() + token * columns, columns);
  });
  if (!all_finite(to.absmax)) require_finite(x);
  const bool any = threshold > 0 &&
                   std::any_of(to.absmax.begin(), to.absmax.end(), [&](float absmax) { return absmax >= threshold; });
  to.outliers = any ? outlier_columns(x, columns, threshold) : std::vector<int64_t>();
  copy_outliers(x, to);
  loop(to.tokens, rows_of_a_megabyte(columns), [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const float* from = x.data() + token * columns;
      int8_t* codes = to.codes.data() + token * columns;
      float& absmax = to.absmax[static_cast<size_t>(token)];
      // Small values in an outlier's column count, as with bitsandbytes, though their codes are not used.
      if (any) absmax = absmax_of(simd, from, columns, threshold);
      quantize_int8(simd, from, columns, scale_of(absmax), codes);
      for (const int64_t column : to.outliers) codes[column] = 0;
    }
  });
}

void int8_matmul(const Int8Activations& x, const Int8Rows& weights, std::span<float> out, const Loop& loop, Simd simd) {
  constexpr int64_t kMostColumns = 131'072;
  if (x.columns != weights.columns || static_cast<int64_t>(out.size()) != x.tokens * weights.rows ||
      x.columns > kMostColumns)
    throw Error(
        "activations [{}, {}] cannot be multiplied with weights [{}, {}] into {} values, with at most {} columns",
        x.tokens, x.columns, weights.rows, weights.columns, out.size(), kMostColumns);
  const int64_t at_once = tokens_at_once(std::max<int64_t>(x.columns, 1));
  const int64_t strips = (weights.rows + kDotRows - 1) / kDotRows;
  // A thread pays from about a million products on.
  const int64_t grain = std::max<int64_t>(1, (1 << 20) / std::max<int64_t>(1, x.tokens * x.columns * kDotRows));
  loop(strips, grain, [&](int64_t begin, int64_t end) {
    for (int64_t first = 0; first < x.tokens; first += at_once)
      for (int64_t strip = begin; strip < end; ++strip)
        multiply_tile(x, weights, first, std::min(at_once, x.tokens - first), strip * kDotRows, out, simd);
  });
}

}  // namespace haqa
