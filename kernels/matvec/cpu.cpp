// out[j][i] = dot(row i of the weights, row j of the activations).
//
// For few j, as one token or a small batch asks for it, this is bound by how fast the weights stream in. They are read
// once, for up to eight columns together, behind two software prefetches, one into L2 far ahead and one into L1 shortly
// before use. For many, as a prompt asks for it, it is bound by arithmetic: what stays of the weights in the nearest
// caches is unpacked there once and multiplied with all columns before the next part is.
//
// Packed, `row_groups` vectors of rows lie side by side: for each block of 32 along k their scales, then four
// consecutive k of each row as one 32-bit lane, which is what one dot-product instruction takes. No sum across lanes is
// ever needed, and a thread reads a single stream. Of blocks of 256 what is common to them comes first, then their
// nibbles, bits and bytes in the order in which they are multiplied (kFields below). Nothing is computed: unpacked
// again, weights have the bytes that they had.
#include "../kernel.h"

// 0 F32, 1 F16, 2 Q8_0, 3 Q4_0, 4 BF16, 5 Q4_K, 6 Q6_K, 7 IQ4_NL
#ifndef HAQA_WEIGHTS
#define HAQA_WEIGHTS 2
#endif
#ifndef layout
#define layout packed
#endif
#ifndef vector_width
#define vector_width 16
#endif
#ifndef row_groups
#define row_groups 1
#endif
#ifndef unroll
#define unroll 1
#endif
#ifndef prefetch_l1
#define prefetch_l1 32
#endif
#ifndef prefetch_l2
#define prefetch_l2 64
#endif
#ifndef sharing
#define sharing static
#endif
#ifndef share_rows
#define share_rows 64
#endif
#ifndef quantize
#define quantize own
#endif

#define HAQA_PASTE(a, b) a##b
#define HAQA_CHOICE(prefix, value) HAQA_PASTE(prefix, value)
#define HAQA_LAYOUT_rows 0
#define HAQA_LAYOUT_packed 1
// Blocks of Q4_K, Q6_K and IQ4_NL are always packed.
#define HAQA_PACKED (HAQA_CHOICE(HAQA_LAYOUT_, layout) || HAQA_WEIGHTS >= 5)
#define HAQA_QUANTIZED (HAQA_WEIGHTS == 2 || HAQA_WEIGHTS == 3 || HAQA_WEIGHTS >= 5)
#define HAQA_QUANTIZE_own 0
#define HAQA_QUANTIZE_team 1

#if defined(__AVX512VNNI__) && defined(__AVX512VL__) || defined(__AVXVNNI__)
#define HAQA_VNNI 1
#else
#define HAQA_VNNI 0
#endif

namespace {

enum { kF32, kF16, kQ8, kQ4, kBF16, kQ4K, kQ6K, kIQ4 };
constexpr int kWeights = HAQA_WEIGHTS;
constexpr bool kQuantized = HAQA_QUANTIZED;
constexpr bool kTeamQuantizes = HAQA_CHOICE(HAQA_QUANTIZE_, quantize);

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    !(HAQA_QUANTIZED && defined(__AVXVNNI__) && !defined(__AVX512VNNI__))
constexpr int kWidest = 16;
#elif defined(__AVX2__)
constexpr int kWidest = 8;
#else
constexpr int kWidest = 4;
#endif
constexpr int kLanes = vector_width < kWidest ? vector_width : kWidest;
constexpr int kBlock = 32;  // of the activations, along k, with a common scale

/// Weights are the unsigned operand of the dot product, which is never negative in most types nor, with VNNI, in Q8_0,
/// whose sign bit is flipped then, and IQ4_NL. What this adds is taken off before a block begins.
constexpr int kOffset = kWeights == kQ4                                      ? 8
                        : kWeights == kQ6K                                   ? 32
                        : (kWeights == kQ8 || kWeights == kIQ4) && HAQA_VNNI ? 128
                                                                             : 0;
/// Two weights of at most 6 bits times bytes stay within 16 bits.
[[maybe_unused]] constexpr bool kFewBits = kWeights == kQ4 || kWeights == kQ4K || kWeights == kQ6K;
/// Of two weights in a byte the upper ones are taken as 16 times what they are where the sums have room for it.
[[maybe_unused]] constexpr bool kLateShift = (kWeights == kQ4 || kWeights == kQ4K) && HAQA_VNNI;

template <int N>
struct Vector {
  typedef float Floats __attribute__((vector_size(4 * N)));
  typedef int32_t Ints __attribute__((vector_size(4 * N)));
  typedef int16_t Halves __attribute__((vector_size(2 * N)));
  typedef float LooseFloats __attribute__((vector_size(4 * N), aligned(1), may_alias));
  typedef int32_t LooseInts __attribute__((vector_size(4 * N), aligned(1), may_alias));
  typedef int16_t LooseHalves __attribute__((vector_size(2 * N), aligned(1), may_alias));
};

template <int N>
inline typename Vector<N>::Floats load_floats(const void* p) {
  return *static_cast<const typename Vector<N>::LooseFloats*>(p);
}

template <int N>
inline typename Vector<N>::Ints load_ints(const void* p) {
  return *static_cast<const typename Vector<N>::LooseInts*>(p);
}

template <typename V, typename T>
inline V splat(T value) {
  return value - V{};
}

/// Half precision without an instruction for it: the exponent is moved by a product, so that subnormals come out right.
template <int N>
inline typename Vector<N>::Floats load_halves_slowly(const void* p) {
  using Floats = typename Vector<N>::Floats;
  using Ints = typename Vector<N>::Ints;
  const auto half = *static_cast<const typename Vector<N>::LooseHalves*>(p);
  const Ints bits = __builtin_convertvector(half, Ints);
  const Ints infinite = ((bits & 0x7c00) == 0x7c00) & 0x7f800000;
  const Floats value = reinterpret_cast<Floats>((bits & 0x7fff) << 13) * 0x1p112f;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(value) | infinite | (bits & INT32_MIN));
}

template <int N>
inline typename Vector<N>::Floats load_halves(const void* p) {
#if defined(__F16C__)
  typename Vector<N>::Floats value;
  asm("vcvtph2ps %1, %0" : "=v"(value) : "m"(*static_cast<const typename Vector<N>::LooseHalves*>(p)));
  return value;
#else
  return load_halves_slowly<N>(p);
#endif
}

/// Weights that are not quantized.
template <int N>
inline typename Vector<N>::Floats load_weights(const void* p) {
  if (kWeights == kF16) return load_halves<N>(p);
  if (kWeights == kF32) return load_floats<N>(p);
  const auto bits = *static_cast<const typename Vector<N>::LooseHalves*>(p);
  return reinterpret_cast<typename Vector<N>::Floats>(__builtin_convertvector(bits, typename Vector<N>::Ints) << 16);
}

/// What IQ4_NL's four bits stand for, each byte by itself. Source: kvalues_iq4nl in llama.cpp's ggml-common.h.
template <typename Ints>
inline Ints look_up(Ints index) {
  alignas(64) static constexpr int8_t kValues[64] = {
      -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,  //
      -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,  //
      -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,  //
      -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  Ints values;
#if defined(__AVX2__)
  asm("vpshufb %2, %1, %0" : "=v"(values) : "v"(*reinterpret_cast<const Ints*>(kValues)), "v"(index));
#elif defined(__SSSE3__)
  values = *reinterpret_cast<const Ints*>(kValues);
  asm("pshufb %1, %0" : "+x"(values) : "x"(index));
#elif defined(__aarch64__)
  asm("tbl %0.16b, {%1.16b}, %2.16b" : "=w"(values) : "w"(*reinterpret_cast<const Ints*>(kValues)), "w"(index));
#else
  int8_t bytes[sizeof(Ints)];
  __builtin_memcpy(bytes, &index, sizeof index);
  for (int8_t& byte : bytes) byte = kValues[byte];
  __builtin_memcpy(&values, bytes, sizeof values);
#endif
  return kOffset ? values ^ static_cast<int32_t>(0x80808080) : values;
}

/// sum + w[even] * x[even] + w[odd] * x[odd] of 16-bit numbers, into 32 bits.
template <typename Ints>
inline Ints add_pairs(Ints sum, Ints w, Ints x) {
#if defined(__AVX2__)
  Ints products;
  asm("vpmaddwd %2, %1, %0" : "=v"(products) : "v"(w), "v"(x));
  return sum + products;
#elif defined(__SSE2__)
  asm("pmaddwd %1, %0" : "+x"(w) : "x"(x));
  return sum + w;
#else
  return sum + ((w << 16) >> 16) * ((x << 16) >> 16) + (w >> 16) * (x >> 16);
#endif
}

/// sum + the dot product of the four bytes of each lane; x is signed, w as kOffset says.
template <typename Ints>
inline Ints dot4(Ints sum, Ints w, Ints x) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
  return sum;
#elif defined(__AVXVNNI__)
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(w), "x"(x));
  return sum;
#elif defined(__ARM_FEATURE_DOTPROD)
  asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(w), "w"(x));
  return sum;
#else
#if defined(__AVX2__)
  if (kFewBits) {
    Ints pairs;
    asm("vpmaddubsw %2, %1, %0" : "=v"(pairs) : "v"(w), "v"(x));
    return add_pairs(sum, pairs, splat<Ints>(0x00010001));
  }
#endif
  typedef int16_t Shorts __attribute__((vector_size(sizeof(Ints))));
  const auto low = [](Ints v) { return reinterpret_cast<Ints>((reinterpret_cast<Shorts>(v) << 8) >> 8); };
  const auto high = [](Ints v) { return reinterpret_cast<Ints>(reinterpret_cast<Shorts>(v) >> 8); };
  return add_pairs(add_pairs(sum, low(w), low(x)), high(w), high(x));
#endif
}

/// dot4() with the four bytes at `x` for every lane, as part of the instruction where that can be.
template <typename Ints>
inline Ints dot4_everywhere(Ints sum, Ints w, const int8_t* x) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
  using Int = typename Vector<1>::LooseInts;
  if constexpr (sizeof(Ints) == 64)
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*reinterpret_cast<const Int*>(x)));
  else if constexpr (sizeof(Ints) == 32)
    asm("vpdpbusd %2%{1to8%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*reinterpret_cast<const Int*>(x)));
  else
    asm("vpdpbusd %2%{1to4%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*reinterpret_cast<const Int*>(x)));
  return sum;
#else
  return dot4(sum, w, splat<Ints>(load_ints<1>(x)[0]));
#endif
}

/// Fetches the `bytes` that follow `p` at both distances, which count lines of 64 bytes.
template <int bytes>
inline void prefetch(const uint8_t* p) {
#pragma GCC unroll 64
  for (int i = 0; i < bytes; i += 64) {
    if (prefetch_l2 > 0) __builtin_prefetch(p + i + 64 * prefetch_l2, 0, 2);
    if (prefetch_l1 > 0) __builtin_prefetch(p + i + 64 * prefetch_l1, 0, 3);
  }
}

/// What prefetch() will count on: the lines up to its longer distance.
inline void fetch_ahead(const uint8_t* p) {
  for (int i = 0; i < prefetch_l2; ++i) __builtin_prefetch(p + 64 * i, 0, 2);
}

// ---- activations ----

constexpr int kStarts = kWeights == kQ6K ? 2 : kWeights == kQ4K ? 0 : 1;

/// A block of one column as the dot products take it.
struct Block {
  int8_t values[kBlock];
  int32_t start[kStarts];  ///< undoes kOffset, for each stretch of weights with a scale of its own
  float scale;
  float sum[kWeights == kQ4K];  ///< of the values, with their scale: for what Q4_K takes off all weights
};

/// C columns: where the weights are quantized, block by block side by side; else as they are.
template <int C>
struct Columns {
  const Block* blocks;
  const float* values[C];
};

inline int32_t bits_of(float value) {
  int32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// To 8 bits. Loops that the compiler turns into vectors, as the largest size is that of the bits without their sign.
inline void quantize_block(const float* x, Block& block) {
  int32_t largest = 0;
  for (int i = 0; i < kBlock; ++i) {
    const int32_t size = bits_of(x[i]) & INT32_MAX;
    largest = size > largest ? size : largest;
  }
  float bound;
  __builtin_memcpy(&bound, &largest, sizeof bound);
  const float inverse = bound > 1e-35f ? 127 / bound : 0;
  constexpr int kParts = kStarts > 1 ? kStarts : 1;
  int32_t sum[kParts] = {};
#pragma GCC unroll 2
  for (int part = 0; part < kParts; ++part)
    for (int i = kBlock / kParts * part; i < kBlock / kParts * (part + 1); ++i) {
      // Adding 1.5 * 2^23 rounds to nearest; the integer is in the low bits then.
      const int32_t rounded = bits_of(x[i] * inverse + 0x1.8p23f) - 0x4b400000;
      sum[part] += rounded;
      block.values[i] = static_cast<int8_t>(rounded);
    }
  for (int part = 0; part < kStarts; ++part) block.start[part] = -kOffset * sum[part];
  block.scale = bound / 127;
  if (kWeights == kQ4K) block.sum[0] = block.scale * sum[0];
}

inline const float* column(const haqa_tensor& x, int64_t j) {
  const int64_t last = x.ne[1] - 1;
  return reinterpret_cast<const float*>(static_cast<const char*>(x.data) + (j < last ? j : last) * x.nb[1]);
}

/// Blocks [first, end) of `count` columns from `j` on, side by side; the last column stands in for those that are not
/// there.
inline void quantize_columns(const haqa_tensor& x, int64_t j, int count, int64_t first, int64_t end, Block* blocks) {
  for (int c = 0; c < count; ++c) {
    const float* values = column(x, j + c);
    for (int64_t b = first; b < end; ++b) quantize_block(values + b * kBlock, blocks[b * count + c]);
  }
}

/// How far the innermost loop is unrolled: less where so many sums are computed at once that nothing is gained.
template <int C>
constexpr int kUnroll = unroll* C* row_groups <= 16 ? unroll
                        : C* row_groups >= 16       ? 1
                                                    : 16 / (C * row_groups);

// ---- products: what one thread does for kRows rows of the weights and C columns ----

#if HAQA_PACKED
constexpr int kRows = row_groups * kLanes;
/// A block of the weights along k: elements and, as llama.cpp has it, bytes.
constexpr int kLength = kWeights == kQ4K || kWeights == kQ6K ? 256 : kQuantized ? 32 : 1;
constexpr int kRawBytes = kWeights == kQ8                       ? 34
                          : kWeights == kQ4 || kWeights == kIQ4 ? 18
                          : kWeights == kQ4K                    ? 144
                          : kWeights == kQ6K                    ? 210
                          : kWeights == kF32                    ? 4
                                                                : 2;
constexpr int kBlockBytes = kRows * kRawBytes;
constexpr int kBlocks = kQuantized ? kLength / kBlock : 1;  ///< of the activations, in one of the weights

using Floats = Vector<kLanes>::Floats;
using Ints = Vector<kLanes>::Ints;

inline int64_t group_bytes(int64_t k) {
  return k / kLength * kBlockBytes;
}

inline Ints lower_nibbles(Ints quad) {
  const Ints low = quad & 0x0f0f0f0f;
  return kWeights == kIQ4 ? look_up(low) : low;
}
template <bool late>
inline Ints upper_nibbles(Ints quad) {
  if (late) return quad & static_cast<int32_t>(0xf0f0f0f0);
  const Ints high = (quad >> 4) & 0x0f0f0f0f;
  return kWeights == kIQ4 ? look_up(high) : high;
}

/// The dot products of a block of 32 of one vector of rows.
template <int C>
inline void dot_block(const uint8_t* w, const Block* x, Ints (&dot)[C]) {
  constexpr bool kPairs = kWeights != kQ8;
  Ints upper[C] = {};
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) dot[c] = splat<Ints>(x[c].start[0]);
  for (int q = 0; q < (kPairs ? 4 : 8); ++q) {
    const Ints quad = load_ints<kLanes>(w + 4 * kRows * q);
    const Ints low = kPairs ? lower_nibbles(quad) : quad;
    const Ints high = upper_nibbles<kLateShift>(quad);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      dot[c] = dot4_everywhere(dot[c], low, x[c].values + 4 * q);
      if (kPairs) upper[c] = dot4_everywhere(upper[c], high, x[c].values + 16 + 4 * q);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c)
    if (kPairs) dot[c] += kLateShift ? upper[c] >> 4 : upper[c];
}

/// Adds the products of a block of one type, of vector `g` of the group.
template <int type>
struct Products {
  template <int C>
  static void add(const uint8_t* w, const Block* x, int g, Floats (&sum)[C]) {
    Ints dot[C];
    dot_block<C>(w + 2 * kRows + 4 * kLanes * g, x, dot);
    const Floats scale = load_halves<kLanes>(w + 2 * kLanes * g);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[c] += __builtin_convertvector(dot[c], Floats) * (scale * x[c].scale);
  }
};

inline Floats to_floats(Ints v) {
  return __builtin_convertvector(v, Floats);
}

/// Q4_K: eight times 32 weights, each with a scale and what is taken off, of 6 bits, beside those of the block. Source:
/// get_scale_min_k4 in llama.cpp's ggml-quants.c.
struct FourBitScales {
  Ints scales[2], mins[2];
  Floats scale, min;
  FourBitScales(const uint8_t* w, int g) {
    const auto part = [&](int i) { return load_ints<kLanes>(w + 4 * kRows * (1 + i) + 4 * kLanes * g); };
    const Ints a = part(0), b = part(1), c = part(2);
    scales[0] = a & 0x3f3f3f3f;
    mins[0] = b & 0x3f3f3f3f;
    scales[1] = (c & 0x0f0f0f0f) | ((a >> 2) & 0x30303030);
    mins[1] = ((c >> 4) & 0x0f0f0f0f) | ((b >> 2) & 0x30303030);
    scale = load_halves<kLanes>(w + 2 * kLanes * g);
    min = load_halves<kLanes>(w + 2 * kRows + 2 * kLanes * g);
  }
  Floats scale_of(int block) const { return scale * to_floats((scales[block / 4] >> (block % 4 * 8)) & 0xff); }
  Floats min_of(int block) const { return min * to_floats((mins[block / 4] >> (block % 4 * 8)) & 0xff); }
};

/// Quad `t` of the pair of blocks 2 * pair and 2 * pair + 1.
inline Ints four_bits(const uint8_t* w, int g, int pair, int t) {
  return load_ints<kLanes>(w + 16 * kRows + 4 * kRows * (8 * pair + t) + 4 * kLanes * g);
}

template <>
struct Products<kQ4K> {
  template <int C>
  static void add(const uint8_t* w, const Block* x, int g, Floats (&sum)[C]) {
    const FourBitScales scales(w, g);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair, x += 2 * C) {
      if (g == 0) prefetch<kBlockBytes / 4>(w + kBlockBytes / 4 * pair);
      Ints low[C] = {}, high[C] = {};
#pragma GCC unroll 8
      for (int t = 0; t < 8; ++t) {
        const Ints quad = four_bits(w, g, pair, t);
        const Ints lower = lower_nibbles(quad), upper = upper_nibbles<kLateShift>(quad);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          low[c] = dot4_everywhere(low[c], lower, x[c].values + 4 * t);
          high[c] = dot4_everywhere(high[c], upper, x[C + c].values + 4 * t);
        }
      }
      const Floats low_scale = scales.scale_of(2 * pair), low_min = scales.min_of(2 * pair);
      const Floats high_scale = scales.scale_of(2 * pair + 1) * (kLateShift ? 0.0625f : 1);
      const Floats high_min = scales.min_of(2 * pair + 1);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        sum[c] += to_floats(low[c]) * (low_scale * x[c].scale);
        sum[c] += to_floats(high[c]) * (high_scale * x[C + c].scale);
        sum[c] -= low_min * x[c].sum[0];
        sum[c] -= high_min * x[C + c].sum[0];
      }
    }
  }
};

/// Q6_K: sixteen times 16 weights, each with a scale of 8 bits beside that of the block.
struct SixBitScales {
  const uint8_t* at;
  Floats scale;
  SixBitScales(const uint8_t* w, int g)
      : at(w + 2 * kRows + 4 * kLanes * g), scale(load_halves<kLanes>(w + 2 * kLanes * g)) {}
  Floats of(int stretch) const {
    return scale * to_floats((load_ints<kLanes>(at + stretch / 4 * 4 * kRows) << (24 - stretch % 4 * 8)) >> 24);
  }
};

/// Quad `t` of the blocks `first` = 0, 1, 4 or 5, lower, and first + 2, upper: four bits of each byte and two others.
inline void six_bits(const uint8_t* w, int g, int first, int t, Ints& lower, Ints& upper) {
  const uint8_t* half = w + 18 * kRows + first / 4 * 96 * kRows + 4 * kLanes * g;
  const Ints two = load_ints<kLanes>(half + 4 * kRows * t);
  const Ints four = load_ints<kLanes>(half + 4 * kRows * (8 + first % 4 * 8 + t));
  const int shift = first % 4 * 2;
  lower = (four & 0x0f0f0f0f) | ((shift ? two << 2 : two << 4) & 0x30303030);
  upper = ((four >> 4) & 0x0f0f0f0f) | ((shift ? two >> 2 : two) & 0x30303030);
}

template <>
struct Products<kQ6K> {
  template <int C>
  static void add(const uint8_t* w, const Block* x, int g, Floats (&sum)[C]) {
    const SixBitScales scales(w, g);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
      if (g == 0) prefetch<kBlockBytes / 4>(w + kBlockBytes / 4 * pair);
      const int block = pair / 2 * 4 + pair % 2;
      const Block *x0 = x + block * C, *x1 = x0 + 2 * C;
#pragma GCC unroll 2
      for (int part = 0; part < 2; ++part) {
        Ints low[C], high[C];
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          low[c] = splat<Ints>(x0[c].start[part]);
          high[c] = splat<Ints>(x1[c].start[part]);
        }
#pragma GCC unroll 4
        for (int t = 4 * part; t < 4 * part + 4; ++t) {
          Ints lower, upper;
          six_bits(w, g, block, t, lower, upper);
#pragma GCC unroll 8
          for (int c = 0; c < C; ++c) {
            low[c] = dot4_everywhere(low[c], lower, x0[c].values + 4 * t);
            high[c] = dot4_everywhere(high[c], upper, x1[c].values + 4 * t);
          }
        }
        const Floats low_scale = scales.of(2 * block + part), high_scale = scales.of(2 * block + 4 + part);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          sum[c] += to_floats(low[c]) * (low_scale * x0[c].scale);
          sum[c] += to_floats(high[c]) * (high_scale * x1[c].scale);
        }
      }
    }
  }
};

template <int C>
inline void add_block(const uint8_t* w, const Block* x, Floats (&sum)[row_groups][C]) {
#pragma GCC unroll 8
  for (int g = 0; g < row_groups; ++g) Products<kWeights>::template add<C>(w, x, g, sum[g]);
}

template <int C>
inline void multiply_quantized(const uint8_t* w, const Columns<C>& x, int64_t k, Floats (&sum)[row_groups][C]) {
  constexpr int kTurn = kBlocks > 1 ? 1 : kUnroll<C>;
  const int64_t blocks = k / kLength;
  const Block* column = x.blocks;
  int64_t b = 0;
  for (; b + kTurn <= blocks; b += kTurn, w += kTurn * kBlockBytes, column += kTurn * kBlocks * C) {
    if (kBlocks == 1) prefetch<kTurn * kBlockBytes>(w);  // else between the parts of a block
#pragma GCC unroll 8
    for (int u = 0; u < kTurn; ++u) add_block<C>(w + u * kBlockBytes, column + u * kBlocks * C, sum);
  }
  for (; b < blocks; ++b, w += kBlockBytes, column += kBlocks * C) add_block<C>(w, column, sum);
}

template <int C>
inline void add_depth(const uint8_t* w, const Columns<C>& x, int64_t p, Floats (&sum)[row_groups][C]) {
#pragma GCC unroll 8
  for (int g = 0; g < row_groups; ++g) {
    const uint8_t* at = w + kRawBytes * kLanes * g;
    const Floats weights = load_weights<kLanes>(at);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[g][c] += weights * x.values[c][p];
  }
}

/// Several sums at once where there are too few of them to hide the latency of an addition.
template <int C>
inline void multiply_floats(const uint8_t* w, const Columns<C>& x, int64_t k, Floats (&sum)[row_groups][C]) {
  constexpr int kSums = C * row_groups >= 8 ? 1 : C * row_groups >= 4 ? 2 : 4;
  constexpr int kDepth = 4 * kUnroll<C>;
  Floats part[kSums][row_groups][C] = {};
  int64_t p = 0;
  for (; p + kDepth <= k; p += kDepth, w += kDepth * kBlockBytes) {
    prefetch<kDepth * kBlockBytes>(w);
#pragma GCC unroll 32
    for (int d = 0; d < kDepth; ++d) add_depth<C>(w + d * kBlockBytes, x, p + d, part[d % kSums]);
  }
  for (; p < k; ++p, w += kBlockBytes) add_depth<C>(w, x, p, part[0]);
#pragma GCC unroll 4
  for (int s = 0; s < kSums; ++s)
#pragma GCC unroll 8
    for (int g = 0; g < row_groups; ++g)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[g][c] += part[s][g][c];
}

inline const uint8_t* weights_at(const haqa_launch* launch, int64_t row) {
  return static_cast<const uint8_t*>(launch->packed) + row / kRows * group_bytes(launch->in[1].ne[0]);
}

template <int C>
void multiply_rows(const haqa_launch* launch, const Columns<C>& x, int64_t row, float (&result)[C][kRows]) {
  const int64_t k = launch->in[1].ne[0];
  const uint8_t* w = weights_at(launch, row);
  Floats sum[row_groups][C] = {};
  if constexpr (kQuantized)
    multiply_quantized<C>(w, x, k, sum);
  else
    multiply_floats<C>(w, x, k, sum);
#pragma GCC unroll 8
  for (int g = 0; g < row_groups; ++g)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) *reinterpret_cast<Vector<kLanes>::LooseFloats*>(result[c] + g * kLanes) = sum[g][c];
}

#else
constexpr int kRows = row_groups;
constexpr int kBlockBytes = kWeights == kQ8 ? 34 : kWeights == kQ4 ? 18 : 0;
constexpr int kElementBytes = kWeights == kF32 ? 4 : 2;
/// A block's 32 numbers, or the 16 bytes with two each, are taken as vectors of this size.
constexpr int kParts = kWeights == kQ4 ? 4 : kWeights == kQ8 && kLanes > 8 ? 8 : kLanes;

using Floats = Vector<kParts>::Floats;
using Ints = Vector<kParts>::Ints;

[[maybe_unused]] inline Ints dot_block(const uint8_t* w, const Block& x) {
  Ints dot = {x.start[0]};
  if (kWeights == kQ4) {
    const Ints pairs = load_ints<kParts>(w + 2);
    dot = dot4(dot, pairs & 0x0f0f0f0f, load_ints<kParts>(x.values));
    return dot4(dot, (pairs >> 4) & 0x0f0f0f0f, load_ints<kParts>(x.values + 16));
  }
  const Ints flip = splat<Ints>(HAQA_VNNI ? static_cast<int32_t>(0x80808080) : 0);
#pragma GCC unroll 2
  for (int i = 0; i < kBlock; i += 4 * kParts)
    dot = dot4(dot, load_ints<kParts>(w + 2 + i) ^ flip, load_ints<kParts>(x.values + i));
  return dot;
}

template <int C>
inline void multiply_quantized(const uint8_t* (&w)[kRows], const Columns<C>& x, int64_t k, Floats (&sum)[kRows][C]) {
  const int64_t blocks = k / kBlock;
  const auto add = [&](int64_t b) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* block = w[r] + b * kBlockBytes;
      const float scale = load_halves<4>(block)[0];
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const Block& column = x.blocks[b * C + c];
        sum[r][c] += __builtin_convertvector(dot_block(block, column), Floats) * (scale * column.scale);
      }
    }
  };
  int64_t b = 0;
  for (; b + kUnroll<C> <= blocks; b += kUnroll<C>) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) prefetch<kUnroll<C> * kBlockBytes>(w[r] + b * kBlockBytes);
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll<C>; ++u) add(b + u);
  }
  for (; b < blocks; ++b) add(b);
}

template <int C>
inline void multiply_floats(const uint8_t* (&w)[kRows], const Columns<C>& x, int64_t k, Floats (&sum)[kRows][C]) {
  constexpr int kDepth = kParts * kUnroll<C>;
  const auto add = [&](int64_t p) {
    Floats column[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) column[c] = load_floats<kParts>(x.values[c] + p);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* at = w[r] + p * kElementBytes;
      const Floats weights = load_weights<kParts>(at);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] += weights * column[c];
    }
  };
  int64_t p = 0;
  for (; p + kDepth <= k; p += kDepth) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) prefetch<kDepth * kElementBytes>(w[r] + p * kElementBytes);
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll<C>; ++u) add(p + u * kParts);
  }
  for (; p + kParts <= k; p += kParts) add(p);
  for (; p < k; ++p)
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* at = w[r] + p * kElementBytes;
      const float weight = kWeights == kF16 ? load_halves_slowly<1>(at)[0] : load_weights<1>(at)[0];
      for (int c = 0; c < C; ++c) sum[r][c][0] += weight * x.values[c][p];
    }
}

/// The last row stands in for those that are not there.
inline const uint8_t* weights_at(const haqa_launch* launch, int64_t row) {
  const haqa_tensor& weights = launch->in[0];
  const int64_t last = launch->out.ne[0] - 1;
  return static_cast<const uint8_t*>(weights.data) + (row < last ? row : last) * weights.nb[1];
}

template <int C>
void multiply_rows(const haqa_launch* launch, const Columns<C>& x, int64_t row, float (&result)[C][kRows]) {
  const int64_t k = launch->in[1].ne[0];
  const uint8_t* w[kRows];
  for (int r = 0; r < kRows; ++r) w[r] = weights_at(launch, row + r);
  Floats sum[kRows][C] = {};
  if constexpr (kQuantized)
    multiply_quantized<C>(w, x, k, sum);
  else
    multiply_floats<C>(w, x, k, sum);
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < C; ++c) {
      result[c][r] = 0;
      for (int i = 0; i < kParts; ++i) result[c][r] += sum[r][c][i];
    }
}
#endif

// ---- the launch ----

template <int C>
void store(const haqa_tensor& out, int64_t row, int64_t j, const float (&result)[C][kRows]) {
  const int64_t rows = out.ne[0] - row < kRows ? out.ne[0] - row : kRows;
  for (int c = 0; c < C && j + c < out.ne[1]; ++c) {
    float* y = reinterpret_cast<float*>(static_cast<char*>(out.data) + (j + c) * out.nb[1]) + row;
    for (int64_t r = 0; r < rows; ++r) y[r] = result[c][r];
  }
}

/// Makes C columns ready for use by this thread, each batch of columns when the first of its rows comes up.
template <int C>
class Preparation {
 public:
  explicit Preparation(const haqa_launch* launch) : launch_(launch), x_(launch->in[1]) {
    const int64_t blocks = x_.ne[0] / kBlock;
    team_ = kQuantized && kTeamQuantizes && x_.ne[1] <= C &&
            blocks * C * static_cast<int64_t>(sizeof(Block)) <= haqa_shared_scratch_bytes;
    if (!team_) return;
    const auto part = [&](int64_t first, int64_t end) {
      quantize_columns(x_, 0, C, first, end, static_cast<Block*>(launch->shared_scratch));
    };
    part(blocks * launch->thread / launch->threads, blocks * (launch->thread + 1) / launch->threads);
    launch->barrier(launch->team);
  }

  const Columns<C>& batch(int64_t number) {
    if (number != number_) prepare(number);
    number_ = number;
    return columns_;
  }

 private:
  void prepare(int64_t number) {
    for (int c = 0; c < C; ++c) columns_.values[c] = column(x_, number * C + c);
    if (!kQuantized) return;
    columns_.blocks = static_cast<const Block*>(team_ ? launch_->shared_scratch : launch_->scratch);
    if (!team_) quantize_columns(x_, number * C, C, 0, x_.ne[0] / kBlock, static_cast<Block*>(launch_->scratch));
  }

  const haqa_launch* launch_;
  const haqa_tensor& x_;
  bool team_ = false;
  int64_t number_ = -1;
  Columns<C> columns_{};
};

template <int C>
void multiply(const haqa_launch* launch) {
  const haqa_tensor& out = launch->out;
  const int64_t groups = (out.ne[0] + kRows - 1) / kRows, batches = (out.ne[1] + C - 1) / C;
  constexpr int64_t kStep = share_rows > kRows ? share_rows / kRows : 1;
  Preparation<C> preparation(launch);
  bool begun = false;
  haqa_share(launch, groups * batches, kStep, HAQA_CHOICE(haqa_, sharing), [&](int64_t first, int64_t end) {
    // The first weights come in while the activations are quantized.
    if (!begun) fetch_ahead(weights_at(launch, first % groups * kRows));
    begun = true;
    for (int64_t i = first; i < end; ++i) {
      const int64_t batch = i / groups, row = i % groups * kRows;
      float result[C][kRows];
      multiply_rows<C>(launch, preparation.batch(batch), row, result);
      store<C>(out, row, batch * C, result);
    }
  });
}

/// As many columns at once as there are, while the thread's scratch holds them.
int columns_at_once(int64_t k, int64_t n) {
  int columns = n > 4 ? 8 : n > 2 ? 4 : static_cast<int>(n);
  if (kQuantized)
    while (columns > 1 && k / kBlock * columns * static_cast<int64_t>(sizeof(Block)) > haqa_scratch_bytes) columns /= 2;
  return columns;
}

// ---- packing ----

#if HAQA_PACKED

/// Of a block as llama.cpp has it: `count` numbers of `bytes` each, that lie one after the other. Packed, each of them
/// is there for all rows of a group before the next one. Source: ggml-common.h of llama.cpp.
struct Field {
  int offset, bytes, count;
};
template <int type>
constexpr Field kFields[] = {{0, kRawBytes, 1}};
template <>
constexpr Field kFields<kQ8>[] = {{0, 2, 1}, {2, 4, 8}};
template <>
constexpr Field kFields<kQ4>[] = {{0, 2, 1}, {2, 4, 4}};
template <>
constexpr Field kFields<kIQ4>[] = {{0, 2, 1}, {2, 4, 4}};
/// Scale and minimum of the block, those of its parts, nibbles.
template <>
constexpr Field kFields<kQ4K>[] = {{0, 2, 2}, {4, 4, 3}, {16, 4, 32}};
/// Scale of the block, those of its parts; then for each half two bits and four bits.
template <>
constexpr Field kFields<kQ6K>[] = {{208, 2, 1}, {192, 4, 4}, {128, 4, 8}, {0, 4, 16}, {160, 4, 8}, {64, 4, 16}};

/// Where the rows of a group lie; rows that are not there are zeros.
struct GroupRows {
  uint8_t* at[kRows];
  int64_t step[kRows];  ///< from block to block
  int count;
};

template <bool packs, typename Word>
inline uint8_t* move_field(const GroupRows& rows, int64_t block, int offset, uint8_t* packed) {
  constexpr bool kFlips = kWeights == kQ8 && HAQA_VNNI && sizeof(Word) == 4;
#pragma GCC unroll 16
  for (int lane = 0; lane < kRows; ++lane) {
    if (!packs && lane >= rows.count) break;
    uint8_t* raw = rows.at[lane] + block * rows.step[lane] + offset;
    uint8_t* own = packed + static_cast<int>(sizeof(Word)) * lane;
    Word word;
    __builtin_memcpy(&word, packs ? raw : own, sizeof word);
    if (kFlips) word ^= static_cast<Word>(0x80808080);
    __builtin_memcpy(packs ? own : raw, &word, sizeof word);
  }
  return packed + sizeof(Word) * kRows;
}

/// Four times four numbers of 16 bits: those of k for a row become those of rows for a k, and the other way round.
inline void transpose(uint64_t (&v)[4]) {
  constexpr uint64_t kEven = 0x0000ffff0000ffff, kLow = 0xffffffff;
  const auto even = [](uint64_t a, uint64_t b) { return (a & kEven) | ((b & kEven) << 16); };
  const auto odd = [](uint64_t a, uint64_t b) { return ((a >> 16) & kEven) | (b & ~kEven); };
  const uint64_t even01 = even(v[0], v[1]), even23 = even(v[2], v[3]);
  const uint64_t odd01 = odd(v[0], v[1]), odd23 = odd(v[2], v[3]);
  v[0] = (even01 & kLow) | (even23 << 32);
  v[1] = (odd01 & kLow) | (odd23 << 32);
  v[2] = (even01 >> 32) | (even23 & ~kLow);
  v[3] = (odd01 >> 32) | (odd23 & ~kLow);
}

constexpr int kStretch = 32;  ///< of weights of 16 bits: a line

/// Such a stretch of all rows. Four rows at a time, as lines of all of them may have one place in L1.
template <bool packs>
inline void move_stretch(const GroupRows& rows, int64_t k, uint8_t* packed) {
  for (int lane = 0; lane < kRows; lane += 4)
#pragma GCC unroll 8
    for (int step = 0; step < kStretch; step += 4) {
      uint64_t v[4];
      const auto raw = [&](int i) { return rows.at[lane + i] + k * rows.step[lane + i] + 2 * step; };
      const auto own = [&](int i) { return packed + 2 * (kRows * (step + i) + lane); };
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) __builtin_memcpy(&v[i], packs ? raw(i) : own(i), 8);
      transpose(v);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        if (packs || lane + i < rows.count) __builtin_memcpy(packs ? own(i) : raw(i), &v[i], 8);
    }
}

/// Packs a group, block by block, or unpacks it.
template <bool packs>
void move_group(const GroupRows& rows, int64_t blocks, uint8_t* packed) {
  int64_t block = 0;
  if (kRawBytes == 2)
    for (; block + kStretch <= blocks; block += kStretch, packed += kStretch * kBlockBytes)
      move_stretch<packs>(rows, block, packed);
  for (; block < blocks; ++block)
    for (const Field& field : kFields<kWeights>)
      for (int i = 0; i < field.count; ++i) {
        const int offset = field.offset + i * field.bytes;
        packed = field.bytes == 4 ? move_field<packs, uint32_t>(rows, block, offset, packed)
                                  : move_field<packs, uint16_t>(rows, block, offset, packed);
      }
}

template <bool packs>
void move_rows(const haqa_tensor* weights, uint8_t* packed, int64_t first, int64_t end) {
  const int64_t k = weights->ne[0], m = weights->ne[1];
  uint8_t zeros[256] = {};
  for (int64_t row = first / kRows * kRows; row < end; row += kRows) {
    GroupRows rows;
    rows.count = static_cast<int>(m - row < kRows ? m - row : kRows);
    for (int lane = 0; lane < kRows; ++lane) {
      const bool is_there = lane < rows.count;
      rows.at[lane] = is_there ? static_cast<uint8_t*>(weights->data) + (row + lane) * weights->nb[1] : zeros;
      rows.step[lane] = is_there ? kRawBytes : 0;
    }
    move_group<packs>(rows, k / kLength, packed + row / kRows * group_bytes(k));
  }
}
#endif

// ---- many columns ----

#if HAQA_PACKED

/// Sums that the registers hold: of how many vectors of rows and of how many columns. Where weights are quantized each
/// takes two registers.
#if defined(__AVX512VL__) || defined(__aarch64__)
constexpr int kTileVectors = 2, kTileColumns = kQuantized ? 7 : 14;
#else
constexpr int kTileVectors = kQuantized ? 1 : 2, kTileColumns = kQuantized ? 4 : 6;
#endif
constexpr int kFewColumns = 8;  ///< more are a prompt

/// Unpacked, vector of rows after vector of rows: of each 32 along k their scales in single precision, two where there
/// are two or something is taken off, and the weights byte by byte; else the weights in single precision.
constexpr int kScales = kWeights == kQ4K || kWeights == kQ6K ? 2 : 1;
constexpr int64_t kUnpackedBytes = kLanes * (kQuantized ? kBlock + 4 * kScales : 4 * kBlock);
/// Of a vector of rows at once, and of a part of the weights: well within L2.
constexpr int64_t kMostBlocks = (128 << 10) / kUnpackedBytes / kBlocks * kBlocks;
constexpr int64_t kPartBytes = 512 << 10;

using LooseInts = Vector<kLanes>::LooseInts;
using LooseFloats = Vector<kLanes>::LooseFloats;

/// Quad `q` of an unpacked block, or with a negative one its scales.
inline LooseInts& quad_at(uint8_t* block, int q) {
  return *reinterpret_cast<LooseInts*>(block + 4 * kLanes * (kScales + q));
}
inline LooseFloats& scale_at(uint8_t* block, int i) {
  return *reinterpret_cast<LooseFloats*>(block + 4 * kLanes * i);
}

/// A block of vector `g` of a packed group, as so many of the activations' blocks as it has.
inline void unpack_block(const uint8_t* w, int g, uint8_t* to) {
  const auto block = [&](int i) { return to + i * kUnpackedBytes; };
  if (kWeights == kQ4K) {
    const FourBitScales scales(w, g);
    for (int i = 0; i < kBlocks; ++i) {
      scale_at(block(i), 0) = scales.scale_of(i);
      scale_at(block(i), 1) = scales.min_of(i);
    }
    for (int i = 0; i < 32; ++i) {
      const Ints quad = four_bits(w, g, i / 8, i % 8);
      quad_at(block(i / 8 * 2), i % 8) = lower_nibbles(quad);
      quad_at(block(i / 8 * 2 + 1), i % 8) = upper_nibbles<false>(quad);
    }
  } else if (kWeights == kQ6K) {
    const SixBitScales scales(w, g);
    for (int i = 0; i < 2 * kBlocks; ++i) scale_at(block(i / 2), i % 2) = scales.of(i);
    for (int i = 0; i < 32; ++i) {
      const int first = i / 16 * 4 + i / 8 % 2;
      Ints lower, upper;
      six_bits(w, g, first, i % 8, lower, upper);
      quad_at(block(first), i % 8) = lower;
      quad_at(block(first + 2), i % 8) = upper;
    }
  } else {
    scale_at(to, 0) = load_halves<kLanes>(w + 2 * kLanes * g);
    for (int q = 0; q < (kWeights == kQ8 ? 8 : 4); ++q) {
      const Ints quad = load_ints<kLanes>(w + 2 * kRows + 4 * kRows * q + 4 * kLanes * g);
      quad_at(to, q) = kWeights == kQ8 ? quad : lower_nibbles(quad);
      if (kWeights != kQ8) quad_at(to, q + 4) = upper_nibbles<false>(quad);
    }
  }
}

/// A vector of the packed weights, from block `first` of the activations to before `end`, as tiles take it.
inline void unpack(const haqa_launch* launch, int64_t vector, int64_t first, int64_t end, uint8_t* to) {
  const int g = static_cast<int>(vector % row_groups);
  const uint8_t* w = weights_at(launch, vector * kLanes) + first * kBlock / kLength * kBlockBytes;
  if (kQuantized) {
    for (int64_t b = first; b < end; b += kBlocks, w += kBlockBytes, to += kBlocks * kUnpackedBytes)
      unpack_block(w, g, to);
  } else {
    for (int64_t p = first * kBlock; p < end * kBlock; ++p, w += kBlockBytes, to += 4 * kLanes)
      *reinterpret_cast<LooseFloats*>(to) = load_weights<kLanes>(w + kRawBytes * kLanes * g);
  }
}

/// The columns of a prompt as tiles take them, a batch of at most kTileColumns after the other, made by all threads
/// together: quantized, or for each step along k the numbers of all columns of the batch.
template <bool quantized>
struct OperandOf {
  typedef Block Type;
};
template <>
struct OperandOf<false> {
  typedef float Type;
};
using Operand = OperandOf<kQuantized>::Type;
constexpr int64_t kOperands = kQuantized ? 1 : kBlock;  ///< for a block of one column

/// How many columns the next batch is made for, of those left: those that are not there are made up.
inline int batch_columns(int64_t left) {
  if (left > (kTileColumns > 8 ? 8 : 4)) return kTileColumns;
  return left > 4 ? 8 : left > 1 ? 4 : 1;
}

inline void make_batch(const haqa_tensor& x, int64_t j, int columns, int64_t first, int64_t end, Block* batch) {
  quantize_columns(x, j, columns, first, end, batch);
}
inline void make_batch(const haqa_tensor& x, int64_t j, int columns, int64_t first, int64_t end, float* batch) {
  for (int c = 0; c < columns; ++c) {
    const float* from = column(x, j + c);
    for (int64_t p = first * kBlock; p < end * kBlock; ++p) batch[p * columns + c] = from[p];
  }
}

/// The part [first, end) of the blocks of each of n columns from `j` on.
inline void make_batches(const haqa_tensor& x, int64_t j, int64_t n, int64_t first, int64_t end, Operand* to) {
  const int64_t blocks = x.ne[0] / kBlock;
  for (int64_t done = 0; done < n;) {
    const int columns = batch_columns(n - done);
    make_batch(x, j + done, columns, first, end, to + done * blocks * kOperands);
    done += columns;
  }
}

/// Of quads [first, end) of the tile's vectors.
template <int V, int C>
inline void add_dots(const uint8_t* w, int64_t stride, const Block* x, int first, int end, Ints (&dot)[V][C]) {
#pragma GCC unroll 8
  for (int q = first; q < end; ++q) {
    Ints quad[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) quad[v] = load_ints<kLanes>(w + v * stride + 4 * kLanes * (kScales + q));
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      if (V == 1) {
        dot[0][c] = dot4_everywhere(dot[0][c], quad[0], x[c].values + 4 * q);
        continue;
      }
      const Ints values = splat<Ints>(load_ints<1>(x[c].values + 4 * q)[0]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) dot[v][c] = dot4(dot[v][c], quad[v], values);
    }
  }
}

/// A tile's products of one block.
template <int V, int C>
inline void add_products(const uint8_t* w, int64_t stride, const Block* x, Floats (&sum)[V][C]) {
  constexpr int kParts = kStarts > 1 ? kStarts : 1;
#pragma GCC unroll 2
  for (int part = 0; part < kParts; ++part) {
    Ints dot[V][C] = {};
    if (kStarts > 0)
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) dot[v][c] = splat<Ints>(x[c].start[part]);
    add_dots<V, C>(w, stride, x, 8 / kParts * part, 8 / kParts * (part + 1), dot);
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const Floats scale = load_floats<kLanes>(w + v * stride + 4 * kLanes * part);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sum[v][c] += to_floats(dot[v][c]) * (scale * x[c].scale);
    }
  }
  if (kWeights == kQ4K)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const Floats min = load_floats<kLanes>(w + v * stride + 4 * kLanes);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sum[v][c] -= min * x[c].sum[0];
    }
}
template <int V, int C>
inline void add_products(const uint8_t* w, int64_t stride, const float* x, Floats (&sum)[V][C]) {
#pragma GCC unroll 4
  for (int p = 0; p < kBlock; ++p) {
    Floats weights[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) weights[v] = load_floats<kLanes>(w + v * stride + 4 * kLanes * p);
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      const Floats value = splat<Floats>(x[p * C + c]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[v][c] += weights[v] * value;
    }
  }
}

/// What a tile is of: unpacked weights of some blocks, a batch of columns, and where their products belong.
struct Tile {
  const uint8_t* weights;
  int64_t stride;  ///< from a vector of rows to the next one
  int64_t blocks;
  const Operand* columns;
  float* out;
  int64_t out_stride;  ///< bytes from a column to the next one
  int64_t rows, real_columns;
  bool adds;  ///< to the products of the blocks before
};

/// A vector's end, where there are fewer rows.
[[gnu::noinline]] void store_part(float* to, int64_t rows, Floats sum, bool adds) {
  float part[kLanes];
  *reinterpret_cast<Vector<kLanes>::LooseFloats*>(part) = sum;
  for (int64_t r = 0; r < rows; ++r) to[r] = adds ? to[r] + part[r] : part[r];
}

inline void store_sums(float* to, int64_t rows, Floats sum, bool adds) {
  if (rows < kLanes) return store_part(to, rows, sum, adds);
  if (adds) sum += load_floats<kLanes>(to);
  *reinterpret_cast<Vector<kLanes>::LooseFloats*>(to) = sum;
}

/// All loops over sums are unrolled: what is looked up by a number would be in memory all the time.
template <int V, int C>
void multiply_tile(const Tile& tile) {
  Floats sum[V][C] = {};
  for (int64_t b = 0; b < tile.blocks; ++b)
    add_products<V, C>(tile.weights + b * kUnpackedBytes, tile.stride, tile.columns + b * C * kOperands, sum);
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c) {
    float* to = reinterpret_cast<float*>(reinterpret_cast<char*>(tile.out) + c * tile.out_stride);
    if (c < tile.real_columns)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) store_sums(to + v * kLanes, tile.rows - v * kLanes, sum[v][c], tile.adds);
  }
}

inline void multiply_tile(const Tile& tile, int columns) {
  if (columns == kTileColumns) return multiply_tile<kTileVectors, kTileColumns>(tile);
  if (kTileColumns > 8 && columns == 8) return multiply_tile < kTileVectors, kTileColumns < 8 ? 1 : 8 > (tile);
  return columns == 1 ? multiply_tile<kTileVectors, 1>(tile) : multiply_tile<kTileVectors, 4>(tile);
}

/// The vectors of rows from `first` to before `end` with n columns from `j` on. Where the last tile lacks a vector, it
/// multiplies what happens to be there and stores nothing of it.
void multiply_vectors(const haqa_launch* launch, int64_t first, int64_t end, int64_t j, int64_t n,
                      const Operand* columns) {
  const haqa_tensor& out = launch->out;
  const int64_t blocks = launch->in[1].ne[0] / kBlock;
  const int64_t deep = blocks < kMostBlocks ? blocks : kMostBlocks;
  const int64_t stride = deep * kUnpackedBytes;
  const int64_t high = kPartBytes / stride / kTileVectors * kTileVectors;
  uint8_t* scratch = static_cast<uint8_t*>(launch->scratch);
  for (int64_t from = first; from < end; from += high) {
    const int64_t to = from + high < end ? from + high : end;
    for (int64_t b = 0; b < blocks; b += deep) {
      const int64_t some = b + deep < blocks ? deep : blocks - b;
      for (int64_t v = from; v < to; ++v) unpack(launch, v, b, b + some, scratch + (v - from) * stride);
      for (int64_t done = 0; done < n;) {
        const int batch = batch_columns(n - done);
        const Operand* x = columns + (done * blocks + b * batch) * kOperands;
        float* y = reinterpret_cast<float*>(static_cast<char*>(out.data) + (j + done) * out.nb[1]);
        for (int64_t v = from; v < to; v += kTileVectors) {
          const int64_t rows = (to * kLanes < out.ne[0] ? to * kLanes : out.ne[0]) - v * kLanes;
          const Tile tile = {
              scratch + (v - from) * stride, stride, some, x, y + v * kLanes, out.nb[1], rows, n - done, b > 0};
          multiply_tile(tile, batch);
        }
        done += batch;
      }
    }
  }
}

/// As many columns at a time as the team's scratch holds.
void multiply_many(const haqa_launch* launch) {
  const haqa_tensor &x = launch->in[1], &out = launch->out;
  const int64_t blocks = x.ne[0] / kBlock, n = x.ne[1];
  const int64_t column_bytes = blocks * kOperands * static_cast<int64_t>(sizeof(Operand));
  const int64_t most = (haqa_shared_scratch_bytes / column_bytes - kTileColumns) / kTileColumns * kTileColumns;
  const int64_t vectors = (out.ne[0] + kLanes - 1) / kLanes;
  constexpr int64_t kStep = share_rows > kLanes ? share_rows / kLanes : 1;
  auto* columns = static_cast<Operand*>(launch->shared_scratch);
  for (int64_t j = 0; j < n; j += most) {
    const int64_t some = n - j < most ? n - j : most;
    if (j > 0) launch->barrier(launch->team);
    make_batches(x, j, some, blocks * launch->thread / launch->threads, blocks * (launch->thread + 1) / launch->threads,
                 columns);
    launch->barrier(launch->team);
    // The counter of a launch serves once.
    constexpr int kSchedule = HAQA_CHOICE(haqa_, sharing);
    haqa_share(launch, vectors, kStep, n > most && kSchedule == haqa_dynamic ? haqa_chunks : kSchedule,
               [&](int64_t first, int64_t end) { multiply_vectors(launch, first, end, j, some, columns); });
  }
}

/// Whether there are that many columns, and the team's scratch holds some of them.
inline bool is_prompt(const haqa_launch* launch) {
  const haqa_tensor& x = launch->in[1];
  constexpr int64_t kBytes = kQuantized ? sizeof(Block) : 4 * kBlock;
  return x.ne[1] > kFewColumns && x.ne[0] % kBlock == 0 &&
         x.ne[0] / kBlock * kBytes * 2 * kTileColumns <= haqa_shared_scratch_bytes;
}
#endif

}  // namespace

extern "C" {

void haqa_kernel(const haqa_launch* launch) {
#if HAQA_PACKED
  if (is_prompt(launch)) return multiply_many(launch);
#endif
  const int columns = columns_at_once(launch->in[1].ne[0], launch->in[1].ne[1]);
  if (columns == 8)
    multiply<8>(launch);
  else if (columns == 4)
    multiply<4>(launch);
  else if (columns == 2)
    multiply<2>(launch);
  else
    multiply<1>(launch);
}

#if HAQA_PACKED
int64_t haqa_packed_bytes(const haqa_tensor* weights) {
  return ((weights->ne[1] + kRows - 1) / kRows * group_bytes(weights->ne[0]) + 63) / 64 * 64;
}

void haqa_pack_rows(const haqa_tensor* weights, void* packed, int64_t first_row, int64_t end_row) {
  move_rows<true>(weights, static_cast<uint8_t*>(packed), first_row, end_row);
}

void haqa_pack(const haqa_tensor* weights, void* packed) {
  haqa_pack_rows(weights, packed, 0, weights->ne[1]);
}

void haqa_unpack(const haqa_tensor* weights, const void* packed) {
  move_rows<false>(weights, static_cast<uint8_t*>(const_cast<void*>(packed)), 0, weights->ne[1]);
}
#endif
}
