// out[j][i] = dot(row i of the weights, row j of the activations).
//
// For few j, as one token or a small batch asks for it, this is bound by how fast the weights stream in. They are read
// once, for up to eight columns together, behind two software prefetches, one into L2 far ahead and one into L1 shortly
// before use. For many, as a prompt asks for it, it is bound by arithmetic: what stays of the weights in the nearest
// caches is unpacked there once and multiplied with all columns before the next part is.
//
// Packed, `row_groups` vectors of rows lie side by side: for each block of 32 along k their scales, then four
// consecutive k of each row as one 32-bit lane, which is what one dot-product instruction takes. No sum across lanes is
// ever needed, and a thread reads a single stream.
#include "../kernel.h"

// 0 F32, 1 F16, 2 Q8_0, 3 Q4_0
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
#define HAQA_QUANTIZE_own 0
#define HAQA_QUANTIZE_team 1

#if defined(__AVX512VNNI__) && defined(__AVX512VL__) || defined(__AVXVNNI__)
#define HAQA_VNNI 1
#else
#define HAQA_VNNI 0
#endif

namespace {

enum { kF32, kF16, kQ8, kQ4 };
constexpr int kWeights = HAQA_WEIGHTS;
constexpr bool kQuantized = kWeights >= kQ8;
constexpr bool kTeamQuantizes = HAQA_CHOICE(HAQA_QUANTIZE_, quantize);

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    !(HAQA_WEIGHTS >= 2 && defined(__AVXVNNI__) && !defined(__AVX512VNNI__))
constexpr int kWidest = 16;
#elif defined(__AVX2__)
constexpr int kWidest = 8;
#else
constexpr int kWidest = 4;
#endif
constexpr int kLanes = vector_width < kWidest ? vector_width : kWidest;
constexpr int kBlock = 32;  // along k, with a common scale
constexpr int kScratch = 1 << 20;
constexpr int64_t kSharedScratch = int64_t{64} << 20;

/// Weights are the unsigned operand of the dot product, which is never negative in Q4_0 nor, with VNNI, in Q8_0, whose
/// sign bit is flipped then. What this adds is taken off before a block begins.
constexpr int kOffset = kWeights == kQ4 ? 8 : HAQA_VNNI ? 128 : 0;

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
  if (kWeights == kQ4) {  // pairs of nibbles times bytes stay within 16 bits
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

/// A block of one column as the dot products take it.
struct Block {
  int8_t values[kBlock];
  int32_t start;  ///< undoes kOffset
  float scale;
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
  int32_t sum = 0;
  for (int i = 0; i < kBlock; ++i) {
    // Adding 1.5 * 2^23 rounds to nearest; the integer is in the low bits then.
    const int32_t rounded = bits_of(x[i] * inverse + 0x1.8p23f) - 0x4b400000;
    sum += rounded;
    block.values[i] = static_cast<int8_t>(rounded);
  }
  block.start = -kOffset * sum;
  block.scale = bound / 127;
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

#if HAQA_CHOICE(HAQA_LAYOUT_, layout)
constexpr int kRows = row_groups * kLanes;
constexpr int kBlockBytes = kRows * (kWeights == kQ8 ? 34 : kWeights == kQ4 ? 18 : kWeights == kF16 ? 64 : 128);
constexpr int kDepthBytes = kBlockBytes / kBlock;  // not quantized: of one step along k

using Floats = Vector<kLanes>::Floats;
using Ints = Vector<kLanes>::Ints;

inline int64_t group_bytes(int64_t k) {
  return kQuantized ? k / kBlock * kBlockBytes : k * kDepthBytes;
}

/// The dot products of a block of one vector of rows. Of two weights in a byte the upper ones are taken as 16 times
/// what they are where the sums have room for it.
template <int C>
inline void dot_block(const uint8_t* w, const Block* x, Ints (&dot)[C]) {
  constexpr bool kPairs = kWeights == kQ4;
  constexpr bool kLateShift = kPairs && HAQA_VNNI;
  Ints upper[C] = {};
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) dot[c] = splat<Ints>(x[c].start);
  for (int q = 0; q < (kPairs ? 4 : 8); ++q) {
    const Ints quad = load_ints<kLanes>(w + 4 * kRows * q);
    const Ints low = kPairs ? quad & 0x0f0f0f0f : quad;
    const Ints high = kLateShift ? quad & static_cast<int32_t>(0xf0f0f0f0) : (quad >> 4) & 0x0f0f0f0f;
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

template <int C>
inline void add_block(const uint8_t* w, const Block* x, Floats (&sum)[row_groups][C]) {
#pragma GCC unroll 8
  for (int g = 0; g < row_groups; ++g) {
    Ints dot[C];
    dot_block<C>(w + 2 * kRows + 4 * kLanes * g, x, dot);
    const Floats scale = load_halves<kLanes>(w + 2 * kLanes * g);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[g][c] += __builtin_convertvector(dot[c], Floats) * (scale * x[c].scale);
  }
}

template <int C>
inline void multiply_quantized(const uint8_t* w, const Columns<C>& x, int64_t k, Floats (&sum)[row_groups][C]) {
  const int64_t blocks = k / kBlock;
  const Block* column = x.blocks;
  int64_t b = 0;
  for (; b + kUnroll<C> <= blocks; b += kUnroll<C>, w += kUnroll<C> * kBlockBytes, column += kUnroll<C> * C) {
    prefetch<kUnroll<C> * kBlockBytes>(w);
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll<C>; ++u) add_block<C>(w + u * kBlockBytes, column + u * C, sum);
  }
  for (; b < blocks; ++b, w += kBlockBytes, column += C) add_block<C>(w, column, sum);
}

template <int C>
inline void add_depth(const uint8_t* w, const Columns<C>& x, int64_t p, Floats (&sum)[row_groups][C]) {
#pragma GCC unroll 8
  for (int g = 0; g < row_groups; ++g) {
    const uint8_t* at = w + kDepthBytes / row_groups * g;
    const Floats weights = kWeights == kF16 ? load_halves<kLanes>(at) : load_floats<kLanes>(at);
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
  for (; p + kDepth <= k; p += kDepth, w += kDepth * kDepthBytes) {
    prefetch<kDepth * kDepthBytes>(w);
#pragma GCC unroll 32
    for (int d = 0; d < kDepth; ++d) add_depth<C>(w + d * kDepthBytes, x, p + d, part[d % kSums]);
  }
  for (; p < k; ++p, w += kDepthBytes) add_depth<C>(w, x, p, part[0]);
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
constexpr int kElementBytes = kWeights == kF16 ? 2 : 4;
/// A block's 32 numbers, or the 16 bytes with two each, are taken as vectors of this size.
constexpr int kParts = kWeights == kQ4 ? 4 : kWeights == kQ8 && kLanes > 8 ? 8 : kLanes;

using Floats = Vector<kParts>::Floats;
using Ints = Vector<kParts>::Ints;

[[maybe_unused]] inline Ints dot_block(const uint8_t* w, const Block& x) {
  Ints dot = {x.start};
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
      const Floats weights = kWeights == kF16 ? load_halves<kParts>(at) : load_floats<kParts>(at);
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
      const float weight = kWeights == kF16 ? load_halves_slowly<1>(at)[0] : load_floats<1>(at)[0];
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
            blocks * C * static_cast<int64_t>(sizeof(Block)) <= kSharedScratch;
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
    while (columns > 1 && k / kBlock * columns * static_cast<int64_t>(sizeof(Block)) > kScratch) columns /= 2;
  return columns;
}

// ---- many columns ----

#if HAQA_CHOICE(HAQA_LAYOUT_, layout)

/// Sums that the registers hold: of how many vectors of rows and of how many columns. Where weights are quantized each
/// takes two registers.
#if defined(__AVX512VL__) || defined(__aarch64__)
constexpr int kTileVectors = 2, kTileColumns = kQuantized ? 7 : 14;
#else
constexpr int kTileVectors = kQuantized ? 1 : 2, kTileColumns = kQuantized ? 4 : 6;
#endif
constexpr int kFewColumns = 8;  ///< more are a prompt

/// Unpacked, vector of rows after vector of rows: of each block its scales in single precision and its weights byte by
/// byte; else the weights in single precision.
constexpr int64_t kUnpackedBytes = kLanes * (kQuantized ? kBlock + 4 : 4 * kBlock);  ///< of a block
/// Of a vector of rows at once, and of a part of the weights: well within L2.
constexpr int64_t kMostBlocks = (128 << 10) / kUnpackedBytes;
constexpr int64_t kPartBytes = 512 << 10;

/// A vector of the packed weights, from block `first` to before `end`, as tiles take it.
inline void unpack(const haqa_launch* launch, int64_t vector, int64_t first, int64_t end, uint8_t* to) {
  const int64_t group = vector % row_groups;
  const uint8_t* w = weights_at(launch, vector * kLanes) + first * kBlockBytes;
  for (int64_t b = first; b < end; ++b, w += kBlockBytes) {
    if (!kQuantized) {
      for (int p = 0; p < kBlock; ++p, to += 4 * kLanes) {
        const uint8_t* at = w + p * kDepthBytes + kDepthBytes / row_groups * group;
        const Floats weights = kWeights == kF16 ? load_halves<kLanes>(at) : load_floats<kLanes>(at);
        *reinterpret_cast<Vector<kLanes>::LooseFloats*>(to) = weights;
      }
      continue;
    }
    auto* quads = reinterpret_cast<Vector<kLanes>::LooseInts*>(to);
    *quads++ = reinterpret_cast<Ints>(load_halves<kLanes>(w + 2 * kLanes * group));
    const uint8_t* at = w + 2 * kRows + 4 * kLanes * group;
    for (int q = 0; q < (kWeights == kQ4 ? 4 : 8); ++q, ++quads, at += 4 * kRows) {
      const Ints quad = load_ints<kLanes>(at);
      quads[0] = kWeights == kQ4 ? quad & 0x0f0f0f0f : quad;
      if (kWeights == kQ4) quads[4] = (quad >> 4) & 0x0f0f0f0f;
    }
    to += kUnpackedBytes;
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

/// A tile's products of one block.
template <int V, int C>
inline void add_products(const uint8_t* w, int64_t stride, const Block* x, Floats (&sum)[V][C]) {
  Ints dot[V][C];
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) dot[v][c] = splat<Ints>(x[c].start);
#pragma GCC unroll 8
  for (int q = 0; q < 8; ++q) {
    Ints quad[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) quad[v] = load_ints<kLanes>(w + v * stride + 4 * kLanes * (1 + q));
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
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const Floats scale = load_floats<kLanes>(w + v * stride);
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) sum[v][c] += __builtin_convertvector(dot[v][c], Floats) * (scale * x[c].scale);
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
          const Tile tile = {scratch + (v - from) * stride, stride,   some, x, y + v * kLanes, out.nb[1],
                             out.ne[0] - v * kLanes,        n - done, b > 0};
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
  const int64_t most = (kSharedScratch / column_bytes - kTileColumns) / kTileColumns * kTileColumns;
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
         x.ne[0] / kBlock * kBytes * 2 * kTileColumns <= kSharedScratch;
}
#endif

}  // namespace

extern "C" {

void haqa_kernel(const haqa_launch* launch) {
#if HAQA_CHOICE(HAQA_LAYOUT_, layout)
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

#if HAQA_CHOICE(HAQA_LAYOUT_, layout)
int64_t haqa_packed_bytes(const haqa_tensor* weights) {
  return ((weights->ne[1] + kRows - 1) / kRows * group_bytes(weights->ne[0]) + 63) / 64 * 64;
}

/// Rows that fill up the last group are zeros.
void haqa_pack(const haqa_tensor* weights, void* packed) {
  const int64_t k = weights->ne[0], m = weights->ne[1];
  for (int64_t row = 0; row < (m + kRows - 1) / kRows * kRows; ++row) {
    const uint8_t* from = static_cast<const uint8_t*>(weights->data) + row * weights->nb[1];
    const int64_t lane = row % kRows;
    uint8_t* to = static_cast<uint8_t*>(packed) + row / kRows * group_bytes(k);
    const auto copy = [&](uint8_t* target, int64_t offset, int bytes, int flip) {
      for (int i = 0; i < bytes; ++i) target[i] = row < m ? static_cast<uint8_t>(from[offset + i] ^ flip) : 0;
    };
    if (kQuantized) {
      constexpr int kQuads = kWeights == kQ4 ? 4 : 8;
      const int flip = kWeights == kQ8 && HAQA_VNNI ? 0x80 : 0;
      for (int64_t b = 0; b < k / kBlock; ++b, to += kBlockBytes) {
        const int64_t block = b * (2 + 4 * kQuads);
        copy(to + 2 * lane, block, 2, 0);
        for (int q = 0; q < kQuads; ++q) copy(to + 2 * kRows + 4 * (q * kRows + lane), block + 2 + 4 * q, 4, flip);
      }
    } else {
      constexpr int kBytes = kDepthBytes / kRows;
      for (int64_t p = 0; p < k; ++p, to += kDepthBytes) copy(to + kBytes * lane, p * kBytes, kBytes, 0);
    }
  }
}
#endif
}
