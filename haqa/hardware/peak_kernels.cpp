#include "haqa/hardware/peak_kernels.h"

#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#define HAQA_X86 1
#include <immintrin.h>
#if defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 12
#define HAQA_X86_FP16 1  // older compilers do not know the type
#endif
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Each kernel is compiled for its own instruction set by an attribute, so that the program as a whole still starts on
// every CPU. Intrinsics must stand in the function that has the attribute: lambdas and helpers would not inherit it.

namespace haqa {
namespace {

/// Makes the compiler forget what it knows of a value, without an instruction: equal accumulators would be merged into
/// one, and a product of unchanged factors computed once, before the loop.
#define HAQA_FORGET_IN_MEMORY(value) asm volatile("" : "+m"(value))
#define HAQA_FORGET_X86(value) asm volatile("" : "+v"(value))
#define HAQA_FORGET_X86_AVX2(value) asm volatile("" : "+x"(value))
#define HAQA_FORGET_ARM(value) asm volatile("" : "+w"(value))

/// The sum of the elements of type T in a block of accumulators.
template <typename T, typename Vector, size_t N>
double total(const Vector (&block)[N]) {
  constexpr size_t kLanes = sizeof(Vector) / sizeof(T);
  T values[N * kLanes];
  std::memcpy(values, block, sizeof values);
  double sum = 0;
  for (const T value : values) sum += static_cast<double>(value);
  return sum;
}

// ---- Everywhere ----

typedef float Float4 __attribute__((vector_size(16)));
typedef uint64_t Word2 __attribute__((vector_size(16)));

double fp32_portable(int64_t iterations) {
  Float4 sum[8] = {}, one = {1, 1, 1, 1};
  HAQA_FORGET_IN_MEMORY(sum);
  HAQA_FORGET_IN_MEMORY(one);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) sum[k] = sum[k] * one + one;
  }
  return total<float>(sum);
}

double int8_portable(int64_t iterations) {
  int8_t a[64], b[64];
  int32_t sum[64] = {};
  std::memset(a, 1, sizeof a);
  std::memset(b, 1, sizeof b);
  for (int64_t i = 0; i < iterations; ++i) {
    HAQA_FORGET_IN_MEMORY(a);
    HAQA_FORGET_IN_MEMORY(b);
    for (int k = 0; k < 64; ++k) sum[k] += a[k] * b[k];
  }
  return total<int32_t>(sum);
}

uint64_t sum_portable(std::span<const uint64_t> words) {
  Word2 sum[8] = {};
  for (size_t i = 0; i < words.size(); i += 16) {
    const auto* block = reinterpret_cast<const Word2*>(words.data() + i);
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) sum[k] += block[k];
  }
  uint64_t all = 0;
  for (const Word2& part : sum) all += part[0] + part[1];
  return all;
}

// ---- x86 ----

#ifdef HAQA_X86

// 12 accumulators: two units times a latency of 4 or 5 cycles need 8 to 10, and AVX2 has 16 registers.
__attribute__((target("avx2,fma"))) double fp32_avx2(int64_t iterations) {
  __m256 sum[12] = {};
  __m256 one = _mm256_set1_ps(1);
  HAQA_FORGET_IN_MEMORY(sum);
  HAQA_FORGET_IN_MEMORY(one);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) sum[k] = _mm256_fmadd_ps(sum[k], one, one);
  }
  return total<float>(sum);
}

__attribute__((target("avx512f"))) double fp32_avx512(int64_t iterations) {
  __m512 sum[12] = {};
  __m512 one = _mm512_set1_ps(1);
  HAQA_FORGET_IN_MEMORY(sum);
  HAQA_FORGET_IN_MEMORY(one);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) sum[k] = _mm512_fmadd_ps(sum[k], one, one);
  }
  return total<float>(sum);
}

#ifdef HAQA_X86_FP16
__attribute__((target("avx512fp16,avx512vl"))) double fp16_avx512(int64_t iterations) {
  __m512h sum[12] = {};
  __m512h one = _mm512_set1_ph(static_cast<_Float16>(1));
  HAQA_FORGET_IN_MEMORY(sum);
  HAQA_FORGET_IN_MEMORY(one);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) sum[k] = _mm512_fmadd_ph(sum[k], one, one);
  }
  // Not total<_Float16>: a conversion outside this function's instruction set may be a library call.
  double counted = 0;
  for (const __m512h& part : sum)
    for (int lane = 0; lane < 32; ++lane) counted += static_cast<double>(static_cast<float>(part[lane]));
  return counted;
}
#endif

// 8 accumulators: the add that carries from one iteration to the next takes a single cycle.
__attribute__((target("avx2"))) double int8_avx2(int64_t iterations) {
  __m256i sum[8] = {};
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(1);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      HAQA_FORGET_X86_AVX2(a);
      sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
  return total<int32_t>(sum);
}

__attribute__((target("avx512f,avx512bw"))) double int8_avx512(int64_t iterations) {
  __m512i sum[8] = {};
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1);
  const __m512i ones = _mm512_set1_epi16(1);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      HAQA_FORGET_X86(a);
      sum[k] = _mm512_add_epi32(sum[k], _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), ones));
    }
  }
  return total<int32_t>(sum);
}

// The instruction itself: g++ 12 copies the accumulators around the intrinsic, which costs a good part of the rate.
#define HAQA_DOT(p, k) p "vpdpbusd %12, %12, %" #k "\n\t"
#define HAQA_DOT4(p, k, l, m, n) HAQA_DOT(p, k) HAQA_DOT(p, l) HAQA_DOT(p, m) HAQA_DOT(p, n)
#define HAQA_DOTS(p) HAQA_DOT4(p, 0, 1, 2, 3) HAQA_DOT4(p, 4, 5, 6, 7) HAQA_DOT4(p, 8, 9, 10, 11)

__attribute__((target("avx512f,avx512vnni"))) double int8_avx512_vnni(int64_t iterations) {
  __m512i s[12] = {};
  const __m512i a = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < iterations; ++i)
    asm volatile(HAQA_DOTS("")
                 : "+v"(s[0]), "+v"(s[1]), "+v"(s[2]), "+v"(s[3]), "+v"(s[4]), "+v"(s[5]), "+v"(s[6]), "+v"(s[7]),
                   "+v"(s[8]), "+v"(s[9]), "+v"(s[10]), "+v"(s[11])
                 : "v"(a));
  return total<int32_t>(s);
}

__attribute__((target("avx2,avxvnni"))) double int8_avx_vnni(int64_t iterations) {
  __m256i s[12] = {};
  const __m256i a = _mm256_set1_epi8(1);
  for (int64_t i = 0; i < iterations; ++i)
    asm volatile(HAQA_DOTS("%{vex%} ")
                 : "+x"(s[0]), "+x"(s[1]), "+x"(s[2]), "+x"(s[3]), "+x"(s[4]), "+x"(s[5]), "+x"(s[6]), "+x"(s[7]),
                   "+x"(s[8]), "+x"(s[9]), "+x"(s[10]), "+x"(s[11])
                 : "x"(a));
  return total<int32_t>(s);
}

__attribute__((target("avx2"))) uint64_t sum_avx2(std::span<const uint64_t> words) {
  __m256i sum[8] = {};
  for (size_t i = 0; i < words.size(); i += 32) {
    const auto* block = reinterpret_cast<const __m256i*>(words.data() + i);
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) sum[k] = _mm256_add_epi64(sum[k], _mm256_load_si256(block + k));
  }
  uint64_t parts[32], all = 0;
  std::memcpy(parts, sum, sizeof parts);
  for (const uint64_t part : parts) all += part;
  return all;
}

#endif

// ---- ARM ----

#ifdef __aarch64__

// 16 accumulators: Apple's and Neoverse V cores have four units, with latencies of 3 and 4 cycles.
double fp32_neon(int64_t iterations) {
  float32x4_t sum[16] = {};
  float32x4_t one = vdupq_n_f32(1);
  HAQA_FORGET_IN_MEMORY(sum);
  HAQA_FORGET_IN_MEMORY(one);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = vfmaq_f32(sum[k], one, one);
  }
  return total<float>(sum);
}

__attribute__((target("arch=armv8.2-a+fp16"))) double fp16_neon(int64_t iterations) {
  float16x8_t sum[16] = {};
  float16x8_t one = vdupq_n_f16(static_cast<float16_t>(1));
  HAQA_FORGET_IN_MEMORY(sum);
  HAQA_FORGET_IN_MEMORY(one);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) {
      sum[k] = vfmaq_f16(sum[k], one, one);
    }
  }
  return total<float16_t>(sum);
}

double int8_neon(int64_t iterations) {
  int32x4_t sum[8] = {};
  int16x8_t products;
  int8x8_t a = vdup_n_s8(1), b = vdup_n_s8(1);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      HAQA_FORGET_ARM(a);
      products = vmull_s8(a, b);
      sum[k] = vpadalq_s16(sum[k], products);
    }
  }
  return total<int32_t>(sum);
}

__attribute__((target("arch=armv8.2-a+dotprod"))) double int8_dotprod(int64_t iterations) {
  int32x4_t sum[16] = {};
  int8x16_t a = vdupq_n_s8(1);
  HAQA_FORGET_IN_MEMORY(sum);
  HAQA_FORGET_IN_MEMORY(a);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = vdotq_s32(sum[k], a, a);
  }
  return total<int32_t>(sum);
}

__attribute__((target("arch=armv8.2-a+i8mm"))) double int8_i8mm(int64_t iterations) {
  int32x4_t sum[16] = {};
  int8x16_t a = vdupq_n_s8(1);
  HAQA_FORGET_IN_MEMORY(sum);
  HAQA_FORGET_IN_MEMORY(a);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = vmmlaq_s32(sum[k], a, a);
  }
  return total<int32_t>(sum);
}

#endif

/// Two operations for each multiply-add: accumulators x elements of an accumulator x products added to each.
constexpr double operations(int accumulators, int elements, int products = 1) {
  return 2.0 * accumulators * elements * products;
}

}  // namespace

std::vector<PeakKernel> fp32_kernels() {
  return {
#if defined(HAQA_X86)
    {"avx512", operations(12, 16), fp32_avx512}, {"fma", operations(12, 8), fp32_avx2},
#elif defined(__aarch64__)
    {"neon", operations(16, 4), fp32_neon},
#endif
    {
      "", operations(8, 4), fp32_portable
    }
  };
}

std::vector<PeakKernel> fp16_kernels() {
#if defined(HAQA_X86_FP16)
  return {{"avx512_fp16", operations(12, 32), fp16_avx512}};
#elif defined(__aarch64__)
  return {{"fp16", operations(16, 8), fp16_neon}};
#else
  return {};
#endif
}

std::vector<PeakKernel> int8_kernels() {
  return {
#if defined(HAQA_X86)
    {"avx512_vnni", operations(12, 16, 4), int8_avx512_vnni}, {"avx512", operations(8, 16, 4), int8_avx512},
        {"avx_vnni", operations(12, 8, 4), int8_avx_vnni}, {"avx2", operations(8, 8, 4), int8_avx2},
#elif defined(__aarch64__)
    {"i8mm", operations(16, 4, 8), int8_i8mm}, {"dotprod", operations(16, 4, 4), int8_dotprod},
        {"neon", operations(8, 4, 2), int8_neon},
#endif
    {
      "", operations(64, 1), int8_portable
    }
  };
}

SumWords portable_sum_words() {
  return sum_portable;
}

SumWords best_sum_words([[maybe_unused]] bool avx2) {
#ifdef HAQA_X86
  if (avx2) return sum_avx2;
#endif
  return sum_portable;
}

}  // namespace haqa
