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

// ---- dot products: two tokens by four rows at once, so that every number loaded is used more than once ----
// An odd last token is computed twice.

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

__attribute__((target("avx2"))) inline __m256i load_as_int16(const int8_t* at) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}

__attribute__((target("avx2"))) void dots_avx2(const int8_t* x, int64_t tokens, int64_t columns,
                                               const int8_t* const (&rows)[kDotRows], int32_t* out) {
  const int64_t whole = columns / 16 * 16;
  for (int64_t token = 0; token < tokens; token += 2) {
    const int64_t second = std::min(token + 1, tokens - 1);
    const int8_t* const x0 = x + token * columns;
    const int8_t* const x1 = x + second * columns;
    __m256i sums0[kDotRows] = {};
    __m256i sums1[kDotRows] = {};
    for (int64_t i = 0; i < whole; i += 16) {
      const __m256i a0 = load_as_int16(x0 + i);
      const __m256i a1 = load_as_int16(x1 + i);
      for (int r = 0; r < kDotRows; ++r) {
        const __m256i b = load_as_int16(rows[r] + i);
        sums0[r] = _mm256_add_epi32(sums0[r], _mm256_madd_epi16(a0, b));
        sums1[r] = _mm256_add_epi32(sums1[r], _mm256_madd_epi16(a1, b));
      }
    }
    for (int r = 0; r < kDotRows; ++r) {
      out[token * kDotRows + r] = sum_of(sums0[r]) + dot_from(whole, columns, x0, rows[r]);
      out[second * kDotRows + r] = sum_of(sums1[r]) + dot_from(whole, columns, x1, rows[r]);
    }
  }
}

/// The first `left` of 64 or 32 bytes, the rest 0.
__attribute__((target("avx512f,avx512bw,avx512vl"))) inline __m512i load_as_int16(const int8_t* at, int64_t left) {
  return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(left >= 32 ? ~0u : (1u << left) - 1, at));
}
__attribute__((target("avx512f,avx512bw"))) inline __m512i load_bytes(const int8_t* at, int64_t left) {
  return _mm512_maskz_loadu_epi8(left >= 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1, at);
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) void dots_avx512(const int8_t* x, int64_t tokens, int64_t columns,
                                                                      const int8_t* const (&rows)[kDotRows],
                                                                      int32_t* out) {
  for (int64_t token = 0; token < tokens; token += 2) {
    const int64_t second = std::min(token + 1, tokens - 1);
    const int8_t* const x0 = x + token * columns;
    const int8_t* const x1 = x + second * columns;
    __m512i sums0[kDotRows] = {};
    __m512i sums1[kDotRows] = {};
    for (int64_t i = 0; i < columns; i += 32) {
      const __m512i a0 = load_as_int16(x0 + i, columns - i);
      const __m512i a1 = load_as_int16(x1 + i, columns - i);
      for (int r = 0; r < kDotRows; ++r) {
        const __m512i b = load_as_int16(rows[r] + i, columns - i);
        sums0[r] = _mm512_add_epi32(sums0[r], _mm512_madd_epi16(a0, b));
        sums1[r] = _mm512_add_epi32(sums1[r], _mm512_madd_epi16(a1, b));
      }
    }
    for (int r = 0; r < kDotRows; ++r) {
      out[token * kDotRows + r] = _mm512_reduce_add_epi32(sums0[r]);
      out[second * kDotRows + r] = _mm512_reduce_add_epi32(sums1[r]);
    }
  }
}

// VNNI multiplies unsigned with signed bytes. x + 128 is unsigned, and what it adds, 128 times a row's sum, is taken
// off.

__attribute__((target("avx512f,avx512bw,avx512vnni"))) void dots_avx512_vnni(const int8_t* x, int64_t tokens,
                                                                             int64_t columns,
                                                                             const int8_t* const (&rows)[kDotRows],
                                                                             int32_t* out) {
  const __m512i offset = _mm512_set1_epi8(-128);
  int32_t too_much[kDotRows];
  for (int r = 0; r < kDotRows; ++r) {
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < columns; i += 64)
      sum = _mm512_dpbusd_epi32(sum, offset, load_bytes(rows[r] + i, columns - i));
    too_much[r] = _mm512_reduce_add_epi32(sum);
  }
  for (int64_t token = 0; token < tokens; token += 2) {
    const int64_t second = std::min(token + 1, tokens - 1);
    const int8_t* const x0 = x + token * columns;
    const int8_t* const x1 = x + second * columns;
    __m512i sums0[kDotRows] = {};
    __m512i sums1[kDotRows] = {};
    for (int64_t i = 0; i < columns; i += 64) {
      const __m512i a0 = _mm512_xor_si512(load_bytes(x0 + i, columns - i), offset);
      const __m512i a1 = _mm512_xor_si512(load_bytes(x1 + i, columns - i), offset);
      for (int r = 0; r < kDotRows; ++r) {
        const __m512i b = load_bytes(rows[r] + i, columns - i);
        sums0[r] = _mm512_dpbusd_epi32(sums0[r], a0, b);
        sums1[r] = _mm512_dpbusd_epi32(sums1[r], a1, b);
      }
    }
    for (int r = 0; r < kDotRows; ++r) {
      out[token * kDotRows + r] = _mm512_reduce_add_epi32(sums0[r]) - too_much[r];
      out[second * kDotRows + r] = _mm512_reduce_add_epi32(sums1[r]) - too_much[r];
    }
  }
}

#if !defined(__clang__)  // clang 14 does not know the instructions by this name; best_simd() never asks for them there
__attribute__((target("avx2,avxvnni"))) void dots_avx2_vnni(const int8_t* x, int64_t tokens, int64_t columns,
                                                            const int8_t* const (&rows)[kDotRows], int32_t* out) {
  const auto load = [](const int8_t* at) { return reinterpret_cast<const __m256i*>(at); };
  const __m256i offset = _mm256_set1_epi8(-128);
  const int64_t whole = columns / 32 * 32;
  int32_t too_much[kDotRows];
  for (int r = 0; r < kDotRows; ++r) {
    __m256i sum = _mm256_setzero_si256();
    for (int64_t i = 0; i < whole; i += 32)
      sum = _mm256_dpbusd_avx_epi32(sum, offset, _mm256_loadu_si256(load(rows[r] + i)));
    too_much[r] = sum_of(sum);
  }
  for (int64_t token = 0; token < tokens; token += 2) {
    const int64_t second = std::min(token + 1, tokens - 1);
    const int8_t* const x0 = x + token * columns;
    const int8_t* const x1 = x + second * columns;
    __m256i sums0[kDotRows] = {};
    __m256i sums1[kDotRows] = {};
    for (int64_t i = 0; i < whole; i += 32) {
      const __m256i a0 = _mm256_xor_si256(_mm256_loadu_si256(load(x0 + i)), offset);
      const __m256i a1 = _mm256_xor_si256(_mm256_loadu_si256(load(x1 + i)), offset);
      for (int r = 0; r < kDotRows; ++r) {
        const __m256i b = _mm256_loadu_si256(load(rows[r] + i));
        sums0[r] = _mm256_dpbusd_avx_epi32(sums0[r], a0, b);
        sums1[r] = _mm256_dpbusd_avx_epi32(sums1[r], a1, b);
      }
    }
    for (int r = 0; r < kDotRows; ++r) {
      out[token * kDotRows + r] = sum_of(sums0[r]) - too_much[r] + dot_from(whole, columns, x0, rows[r]);
      out[second * kDotRows + r] = sum_of(sums1[r]) - too_much[r] + dot_from(whole, columns, x1, rows[r]);
    }
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
