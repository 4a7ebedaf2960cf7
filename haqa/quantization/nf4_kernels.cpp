#include "haqa/quantization/nf4_kernels.h"

#include <algorithm>
#include <bit>

#include "haqa/quantization/bf16.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace haqa {
namespace {

using Codebook = std::array<float, 16>;

// ---- dequantize: the codebook times absmax once a block, then looked up ----

template <typename T>
void dequantize_portable(const Codebook& codebook, const uint8_t* codes, const float* absmax, int64_t blocks, T* out) {
  for (int64_t block = 0; block < blocks; ++block, codes += 32, out += 64) {
    T scaled[16];
    for (int i = 0; i < 16; ++i) {
      const float value = codebook[i] * absmax[block];
      if constexpr (sizeof(T) == 2)
        scaled[i] = to_bf16(value);
      else
        scaled[i] = value;
    }
    for (int i = 0; i < 32; ++i) {
      out[2 * i] = scaled[codes[i] >> 4];
      out[2 * i + 1] = scaled[codes[i] & 15];
    }
  }
}

#if defined(__x86_64__)

// The first code of a byte is its high nibble, so the codes of four bytes, read as one number, lie at these bits.
// The permutations look at the lowest bits of an index alone: what the shift leaves above them does no harm.

__attribute__((target("avx512f"))) void dequantize_avx512(const Codebook& codebook, const uint8_t* codes,
                                                          const float* absmax, int64_t blocks, float* out) {
  const __m512 table = _mm512_loadu_ps(codebook.data());
  const __m512i shift = _mm512_set_epi32(24, 28, 16, 20, 8, 12, 0, 4, 24, 28, 16, 20, 8, 12, 0, 4);
  const __m512i first = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  for (int64_t block = 0; block < blocks; ++block, codes += 32, out += 64) {
    const __m512i packed = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    const __m512 scaled = _mm512_mul_ps(table, _mm512_set1_ps(absmax[block]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512i four_bytes = _mm512_permutexvar_epi32(_mm512_add_epi32(first, _mm512_set1_epi32(2 * i)), packed);
      _mm512_storeu_ps(out + 16 * i, _mm512_permutexvar_ps(_mm512_srlv_epi32(four_bytes, shift), scaled));
    }
  }
}

/// to_bf16 of 16 floats.
__attribute__((target("avx512f"))) inline __m256i to_bf16(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

__attribute__((target("avx512f,avx512bw"))) void dequantize_avx512(const Codebook& codebook, const uint8_t* codes,
                                                                   const float* absmax, int64_t blocks, uint16_t* out) {
  const __m512 table = _mm512_loadu_ps(codebook.data());
  const __m512i shift = _mm512_set1_epi64(0x0008'000c'0000'0004);
  const __m512i first =
      _mm512_set_epi16(7, 7, 7, 7, 6, 6, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  for (int64_t block = 0; block < blocks; ++block, codes += 32, out += 64) {
    const __m512i packed = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    // Twice, as this permutation looks at five bits.
    const __m512i scaled = _mm512_broadcast_i64x4(to_bf16(_mm512_mul_ps(table, _mm512_set1_ps(absmax[block]))));
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512i two_bytes =
          _mm512_permutexvar_epi16(_mm512_add_epi16(first, _mm512_set1_epi16(static_cast<short>(8 * i))), packed);
      _mm512_storeu_si512(out + 32 * i, _mm512_permutexvar_epi16(_mm512_srlv_epi16(two_bytes, shift), scaled));
    }
  }
}

__attribute__((target("avx2"))) void dequantize_avx2(const Codebook& codebook, const uint8_t* codes,
                                                     const float* absmax, int64_t blocks, float* out) {
  const __m256 low = _mm256_loadu_ps(codebook.data());
  const __m256 high = _mm256_loadu_ps(codebook.data() + 8);
  const __m256i shift = _mm256_set_epi32(24, 28, 16, 20, 8, 12, 0, 4);
  for (int64_t block = 0; block < blocks; ++block, codes += 32, out += 64) {
    const __m256 scale = _mm256_set1_ps(absmax[block]);
    const __m256 scaled_low = _mm256_mul_ps(low, scale);
    const __m256 scaled_high = _mm256_mul_ps(high, scale);
    for (int i = 0; i < 8; ++i) {
      const __m128i four_bytes = _mm_loadu_si32(codes + 4 * i);
      const __m256i code = _mm256_srlv_epi32(_mm256_broadcastd_epi32(four_bytes), shift);
      const __m256 upper_half = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28));  // the code's bit 3 as the sign
      _mm256_storeu_ps(out + 8 * i, _mm256_blendv_ps(_mm256_permutevar8x32_ps(scaled_low, code),
                                                     _mm256_permutevar8x32_ps(scaled_high, code), upper_half));
    }
  }
}

__attribute__((target("avx2"))) void dequantize_avx2(const Codebook& codebook, const uint8_t* codes,
                                                     const float* absmax, int64_t blocks, uint16_t* out) {
  const __m128i nibble = _mm_set1_epi8(15);
  const __m128i low_bytes_first = _mm_set_epi8(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
  for (int64_t block = 0; block < blocks; ++block, codes += 32, out += 64) {
    alignas(16) uint16_t scaled[16];
    for (int i = 0; i < 16; ++i) scaled[i] = haqa::to_bf16(codebook[i] * absmax[block]);
    const __m128i a = _mm_shuffle_epi8(_mm_load_si128(reinterpret_cast<const __m128i*>(scaled)), low_bytes_first);
    const __m128i b = _mm_shuffle_epi8(_mm_load_si128(reinterpret_cast<const __m128i*>(scaled + 8)), low_bytes_first);
    const __m128i low_bytes = _mm_unpacklo_epi64(a, b);
    const __m128i high_bytes = _mm_unpackhi_epi64(a, b);
    for (int i = 0; i < 2; ++i) {
      const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * i));
      const __m128i first = _mm_and_si128(_mm_srli_epi16(packed, 4), nibble);
      const __m128i second = _mm_and_si128(packed, nibble);
      auto* to = reinterpret_cast<__m128i*>(out + 32 * i);
      for (const __m128i code : {_mm_unpacklo_epi8(first, second), _mm_unpackhi_epi8(first, second)}) {
        const __m128i low = _mm_shuffle_epi8(low_bytes, code);
        const __m128i high = _mm_shuffle_epi8(high_bytes, code);
        _mm_storeu_si128(to++, _mm_unpacklo_epi8(low, high));
        _mm_storeu_si128(to++, _mm_unpackhi_epi8(low, high));
      }
    }
  }
}

#endif

template <typename T>
void dequantize_by(Simd simd, const Codebook& codebook, const uint8_t* codes, const float* absmax, int64_t blocks,
                   T* out) {
#if defined(__x86_64__)
  if (simd >= Simd::avx512) return dequantize_avx512(codebook, codes, absmax, blocks, out);
  if (simd >= Simd::avx2) return dequantize_avx2(codebook, codes, absmax, blocks, out);
#endif
  dequantize_portable(codebook, codes, absmax, blocks, out);
}

// ---- quantize: one body that the compiler vectorizes for each instruction set ----

__attribute__((always_inline)) inline void quantize_body(const Bounds4Bit& to, const float* values, int64_t blocks,
                                                         uint8_t* codes, float* absmax) {
  for (int64_t block = 0; block < blocks; ++block, values += 64, codes += 32) {
    // As integers, so that NaN counts as the largest of all.
    uint32_t largest = 0;
    for (int i = 0; i < 64; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(values[i]) & 0x7fffffff);
    absmax[block] = std::bit_cast<float>(largest);
    const float scale = 1 / std::max(absmax[block], 1e-38f);
    float scaled[64];
    int32_t below[64] = {};
    for (int i = 0; i < 64; ++i) scaled[i] = values[i] * scale;
    for (int bound = 0; bound < 15; ++bound)
      for (int i = 0; i < 64; ++i) below[i] += scaled[i] > to.bounds[bound];
    for (int i = 0; i < 32; ++i)
      codes[i] = static_cast<uint8_t>(to.code[below[2 * i]] << 4 | to.code[below[2 * i + 1]]);
  }
}

void quantize_portable(const Bounds4Bit& to, const float* values, int64_t blocks, uint8_t* codes, float* absmax) {
  quantize_body(to, values, blocks, codes, absmax);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void quantize_avx2(const Bounds4Bit& to, const float* values, int64_t blocks,
                                                   uint8_t* codes, float* absmax) {
  quantize_body(to, values, blocks, codes, absmax);
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) void quantize_avx512(const Bounds4Bit& to, const float* values,
                                                                          int64_t blocks, uint8_t* codes,
                                                                          float* absmax) {
  quantize_body(to, values, blocks, codes, absmax);
}
#endif

}  // namespace

void dequantize_blocks(Simd simd, const Codebook& codebook, const uint8_t* codes, const float* absmax, int64_t blocks,
                       float* out) {
  dequantize_by(simd, codebook, codes, absmax, blocks, out);
}

void dequantize_blocks(Simd simd, const Codebook& codebook, const uint8_t* codes, const float* absmax, int64_t blocks,
                       uint16_t* out) {
  dequantize_by(simd, codebook, codes, absmax, blocks, out);
}

void quantize_blocks(Simd simd, const Bounds4Bit& bounds, const float* values, int64_t blocks, uint8_t* codes,
                     float* absmax) {
#if defined(__x86_64__)
  if (simd >= Simd::avx512) return quantize_avx512(bounds, values, blocks, codes, absmax);
  if (simd >= Simd::avx2) return quantize_avx2(bounds, values, blocks, codes, absmax);
#endif
  quantize_portable(bounds, values, blocks, codes, absmax);
}

}  // namespace haqa
