#include "haqa/quantization/int8_kernels.h"

#include <algorithm>
#include <bit>

#include "haqa/quantization/bf16.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace haqa {
namespace {

// ---- bodies that the compiler vectorizes for each instruction set ----

__attribute__((always_inline)) inline float absmax_body(const float* values, int64_t n, float below) {
  // As integers, so that NaN counts as the largest of all.
  const uint32_t end = std::bit_cast<uint32_t>(below);
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t size = std::bit_cast<uint32_t>(values[i]) & 0x7fffffff;
    largest = std::max(largest, size < end ? size : 0);
  }
  return std::bit_cast<float>(largest);
}

__attribute__((always_inline)) inline void quantize_body(const float* values, int64_t n, float scale, int8_t* codes) {
  // Added to a small number, it leaves no bits for fractions: the sum is rounded, and its lowest bits are the integer.
  constexpr float kMagic = 12582912;  // 1.5 * 2^23
  constexpr uint32_t kMagicBits = 0x4b400000;
  for (int64_t i = 0; i < n; ++i)
    codes[i] = static_cast<int8_t>(std::bit_cast<uint32_t>(values[i] * scale + kMagic) - kMagicBits);
}

template <typename T>
__attribute__((always_inline)) inline void dequantize_body(const int8_t* codes, int64_t n, float absmax, T* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float value = static_cast<float>(codes[i]) * absmax * (1 / 127.0f);
    if constexpr (sizeof(T) == 2)
      out[i] = to_bf16(value);
    else
      out[i] = value;
  }
}

void dots_portable(const int8_t* x, int64_t tokens, int64_t columns, const int8_t* const (&rows)[kDotRows],
                   int32_t* out) {
  for (int64_t token = 0; token < tokens; ++token, x += columns)
    for (const int8_t* row : rows) {
      int32_t sum = 0;
      for (int64_t i = 0; i < columns; ++i) sum += x[i] * row[i];
      *out++ = sum;
    }
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) float absmax_avx2(const float* values, int64_t n, float below) {
  return absmax_body(values, n, below);
}
__attribute__((target("avx512f,avx512bw,avx512vl"))) float absmax_avx512(const float* values, int64_t n, float below) {
  return absmax_body(values, n, below);
}

__attribute__((target("avx2"))) void quantize_avx2(const float* values, int64_t n, float scale, int8_t* codes) {
  quantize_body(values, n, scale, codes);
}
__attribute__((target("avx512f,avx512bw,avx512vl"))) void quantize_avx512(const float* values, int64_t n, float scale,
                                                                          int8_t* codes) {
  quantize_body(values, n, scale, codes);
}

template <typename T>
__attribute__((target("avx2"))) void dequantize_avx2(const int8_t* codes, int64_t n, float absmax, T* out) {
  dequantize_body(codes, n, absmax, out);
}
template <typename T>
__attribute__((target("avx512f,avx512bw,avx512vl"))) void dequantize_avx512(const int8_t* codes, int64_t n,
                                                                            float absmax, T* out) {
  dequantize_body(codes, n, absmax, out);
}

// ---- dot products: some tokens by four rows at once, so that every number loaded is used more than once ----

/// Tokens from `first` on; where fewer are left, the last stands in for those that are missing, and is written again.
template <int kTokens>
struct Tokens {
  const int8_t* x[kTokens];
  int32_t* out[kTokens];

  Tokens(const int8_t* all, int64_t first, int64_t tokens, int64_t columns, int32_t* to) {
    for (int t = 0; t < kTokens; ++t) {
      const int64_t token = std::min(first + t, tokens - 1);
      x[t] = all + token * columns;
      out[t] = to + token * kDotRows;
    }
  }
};

/// The end of a row that fills no vector.
int32_t dot_from(int64_t begin, int64_t end, const int8_t* a, const int8_t* b) {
  int32_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += a[i] * b[i];
  return sum;
}

__attribute__((target("avx2"))) inline int32_t sum_of(__m256i lanes) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

__attribute__((target("avx512f"))) inline int32_t sum_of(__m512i lanes) {
  return sum_of(_mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1)));
}

__attribute__((target("avx2"))) inline __m256i load_as_int16(const int8_t* at) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}

// Two tokens: AVX2 has 16 registers, and AVX-512 32, for four.
__attribute__((target("avx2"))) void dots_avx2(const int8_t* x, int64_t tokens, int64_t columns,
                                               const int8_t* const (&rows)[kDotRows], int32_t* out) {
  constexpr int kTokens = 2;
  const int64_t whole = columns / 16 * 16;
  for (int64_t first = 0; first < tokens; first += kTokens) {
    const Tokens<kTokens> of(x, first, tokens, columns, out);
    __m256i sums[kTokens][kDotRows] = {};
    for (int64_t i = 0; i < whole; i += 16) {
      __m256i b[kDotRows];
      for (int r = 0; r < kDotRows; ++r) b[r] = load_as_int16(rows[r] + i);
      for (int t = 0; t < kTokens; ++t) {
        const __m256i a = load_as_int16(of.x[t] + i);
        for (int r = 0; r < kDotRows; ++r) sums[t][r] = _mm256_add_epi32(sums[t][r], _mm256_madd_epi16(a, b[r]));
      }
    }
    for (int t = 0; t < kTokens; ++t)
      for (int r = 0; r < kDotRows; ++r) of.out[t][r] = sum_of(sums[t][r]) + dot_from(whole, columns, of.x[t], rows[r]);
  }
}

// Of the bytes that a mask names, the others 0: the end of a row may fill no vector.
__attribute__((target("avx512f,avx512bw"))) inline __m512i load_bytes(const int8_t* at, uint64_t mask) {
  return _mm512_maskz_loadu_epi8(mask, at);
}
__attribute__((target("avx512f,avx512bw,avx512vl"))) inline __m512i load_as_int16(const int8_t* at, uint32_t mask) {
  return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, at));
}

using Sums512 = __m512i[4][kDotRows];

__attribute__((target("avx512f,avx512bw,avx512vl"), always_inline)) inline void add_products(
    const Tokens<4>& of, const int8_t* const (&rows)[kDotRows], int64_t i, uint32_t mask, Sums512& sums) {
  __m512i b[kDotRows];
  for (int r = 0; r < kDotRows; ++r) b[r] = load_as_int16(rows[r] + i, mask);
  for (int t = 0; t < 4; ++t) {
    const __m512i a = load_as_int16(of.x[t] + i, mask);
    for (int r = 0; r < kDotRows; ++r) sums[t][r] = _mm512_add_epi32(sums[t][r], _mm512_madd_epi16(a, b[r]));
  }
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) void dots_avx512(const int8_t* x, int64_t tokens, int64_t columns,
                                                                      const int8_t* const (&rows)[kDotRows],
                                                                      int32_t* out) {
  const int64_t whole = columns / 32 * 32;
  for (int64_t first = 0; first < tokens; first += 4) {
    const Tokens<4> of(x, first, tokens, columns, out);
    Sums512 sums = {};
    for (int64_t i = 0; i < whole; i += 32) add_products(of, rows, i, ~0u, sums);
    if (whole < columns) add_products(of, rows, whole, (1u << (columns - whole)) - 1, sums);
    for (int t = 0; t < 4; ++t)
      for (int r = 0; r < kDotRows; ++r) of.out[t][r] = sum_of(sums[t][r]);
  }
}

// VNNI multiplies unsigned with signed bytes. x + 128 is unsigned, and what it adds, 128 times a row's sum, is taken
// off. Sums on the way may pass 32 bits, the result does not: they wrap around, as unsigned ones.

int32_t wrapped(int32_t sum, uint32_t less) {
  return static_cast<int32_t>(static_cast<uint32_t>(sum) - less);
}

__attribute__((target("avx512f,avx512bw,avx512vnni"), always_inline)) inline void add_products_vnni(
    const Tokens<4>& of, const int8_t* const (&rows)[kDotRows], int64_t i, uint64_t mask, Sums512& sums) {
  const __m512i offset = _mm512_set1_epi8(-128);
  __m512i b[kDotRows];
  for (int r = 0; r < kDotRows; ++r) b[r] = load_bytes(rows[r] + i, mask);
  for (int t = 0; t < 4; ++t) {
    const __m512i a = _mm512_xor_si512(load_bytes(of.x[t] + i, mask), offset);
    for (int r = 0; r < kDotRows; ++r) sums[t][r] = _mm512_dpbusd_epi32(sums[t][r], a, b[r]);
  }
}

/// 128 times the sum of a row.
__attribute__((target("avx512f,avx512bw,avx512vnni"))) uint32_t offset_sum(const int8_t* row, int64_t columns) {
  const __m512i offset = _mm512_set1_epi8(-128);
  const int64_t whole = columns / 64 * 64;
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < whole; i += 64) sum = _mm512_dpbusd_epi32(sum, offset, load_bytes(row + i, ~uint64_t{0}));
  if (whole < columns)
    sum = _mm512_dpbusd_epi32(sum, offset, load_bytes(row + whole, (uint64_t{1} << (columns - whole)) - 1));
  return static_cast<uint32_t>(sum_of(sum));
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) void dots_avx512_vnni(const int8_t* x, int64_t tokens,
                                                                             int64_t columns,
                                                                             const int8_t* const (&rows)[kDotRows],
                                                                             int32_t* out) {
  const int64_t whole = columns / 64 * 64;
  uint32_t too_much[kDotRows];
  for (int r = 0; r < kDotRows; ++r) too_much[r] = offset_sum(rows[r], columns);
  for (int64_t first = 0; first < tokens; first += 4) {
    const Tokens<4> of(x, first, tokens, columns, out);
    Sums512 sums = {};
    for (int64_t i = 0; i < whole; i += 64) add_products_vnni(of, rows, i, ~uint64_t{0}, sums);
    if (whole < columns) add_products_vnni(of, rows, whole, (uint64_t{1} << (columns - whole)) - 1, sums);
    for (int t = 0; t < 4; ++t)
      for (int r = 0; r < kDotRows; ++r) of.out[t][r] = wrapped(sum_of(sums[t][r]), too_much[r]);
  }
}

#if !defined(__clang__)  // clang 14 does not know the instructions by this name; best_simd() never asks for them there
__attribute__((target("avx2"))) inline __m256i load_bytes(const int8_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

__attribute__((target("avx2,avxvnni"))) void dots_avx2_vnni(const int8_t* x, int64_t tokens, int64_t columns,
                                                            const int8_t* const (&rows)[kDotRows], int32_t* out) {
  constexpr int kTokens = 2;
  const __m256i offset = _mm256_set1_epi8(-128);
  const int64_t whole = columns / 32 * 32;
  uint32_t too_much[kDotRows];
  for (int r = 0; r < kDotRows; ++r) {
    __m256i sum = _mm256_setzero_si256();
    for (int64_t i = 0; i < whole; i += 32) sum = _mm256_dpbusd_avx_epi32(sum, offset, load_bytes(rows[r] + i));
    too_much[r] = static_cast<uint32_t>(sum_of(sum));
  }
  for (int64_t first = 0; first < tokens; first += kTokens) {
    const Tokens<kTokens> of(x, first, tokens, columns, out);
    __m256i sums[kTokens][kDotRows] = {};
    for (int64_t i = 0; i < whole; i += 32) {
      __m256i b[kDotRows];
      for (int r = 0; r < kDotRows; ++r) b[r] = load_bytes(rows[r] + i);
      for (int t = 0; t < kTokens; ++t) {
        const __m256i a = _mm256_xor_si256(load_bytes(of.x[t] + i), offset);
        for (int r = 0; r < kDotRows; ++r) sums[t][r] = _mm256_dpbusd_avx_epi32(sums[t][r], a, b[r]);
      }
    }
    for (int t = 0; t < kTokens; ++t)
      for (int r = 0; r < kDotRows; ++r)
        of.out[t][r] = wrapped(sum_of(sums[t][r]), too_much[r]) + dot_from(whole, columns, of.x[t], rows[r]);
  }
}
#endif
#endif

template <typename T>
void dequantize_by(Simd simd, const int8_t* codes, int64_t n, float absmax, T* out) {
#if defined(__x86_64__)
  if (simd >= Simd::avx512) return dequantize_avx512(codes, n, absmax, out);
  if (simd >= Simd::avx2) return dequantize_avx2(codes, n, absmax, out);
#endif
  dequantize_body(codes, n, absmax, out);
}

}  // namespace

float absmax_of(Simd simd, const float* values, int64_t n, float below) {
#if defined(__x86_64__)
  if (simd >= Simd::avx512) return absmax_avx512(values, n, below);
  if (simd >= Simd::avx2) return absmax_avx2(values, n, below);
#endif
  return absmax_body(values, n, below);
}

void quantize_int8(Simd simd, const float* values, int64_t n, float scale, int8_t* codes) {
#if defined(__x86_64__)
  if (simd >= Simd::avx512) return quantize_avx512(values, n, scale, codes);
  if (simd >= Simd::avx2) return quantize_avx2(values, n, scale, codes);
#endif
  quantize_body(values, n, scale, codes);
}

void dequantize_int8(Simd simd, const int8_t* codes, int64_t n, float absmax, float* out) {
  dequantize_by(simd, codes, n, absmax, out);
}

void dequantize_int8(Simd simd, const int8_t* codes, int64_t n, float absmax, uint16_t* out) {
  dequantize_by(simd, codes, n, absmax, out);
}

void int8_dots(Simd simd, const int8_t* x, int64_t tokens, int64_t columns, const int8_t* const (&rows)[kDotRows],
               int32_t* out) {
#if defined(__x86_64__)
  if (simd == Simd::avx512_vnni) return dots_avx512_vnni(x, tokens, columns, rows, out);
  if (simd == Simd::avx512) return dots_avx512(x, tokens, columns, rows, out);
#if !defined(__clang__)
  if (simd == Simd::avx2_vnni) return dots_avx2_vnni(x, tokens, columns, rows, out);
#endif
  if (simd >= Simd::avx2) return dots_avx2(x, tokens, columns, rows, out);
#endif
  dots_portable(x, tokens, columns, rows, out);
}

}  // namespace haqa
