// out = softmax(scale * q k^T + mask) v, for every head: ggml's FLASH_ATTN_EXT. q [d, n, heads], k and v [d, kv,
// kv_heads] in llama.cpp's formats, the mask [kv, n] in half precision, null where there is none, out [d, heads, n].
//
// The rows of a head of k and v are the queries of all heads that share it. Keys and values are read once for all of
// them, tile by tile of positions: scores of up to eight rows at a time, their powers by the largest so far (online
// softmax), and as much of the values. A token's rows are few: keys and values go straight from memory into registers.
// Of a prompt's many rows a part has its tiles converted to floats first. The positions are shared out too where there
// are fewer parts than threads; what each of them found is put together behind a barrier.
//
// Scores are computed in quads: a vector has four numbers of d of R positions each, so that what is summed at last lies
// within 128 bits, of four rows at once, and comes out as [position][row], which is what softmax and values need.
#include "../kernel.h"

// 1 F16, 2 Q8_0
#ifndef HAQA_WEIGHTS
#define HAQA_WEIGHTS 1
#endif
#ifndef vector_width
#define vector_width 16
#endif
#ifndef row_groups
#define row_groups 2
#endif
#ifndef kv_tile
#define kv_tile 16
#endif
#ifndef converted_tile
#define converted_tile 64
#endif
#ifndef tile_rows
#define tile_rows 256
#endif
#ifndef convert_from
#define convert_from 33
#endif
#ifndef parts_per_thread
#define parts_per_thread 1
#endif
#ifndef prefetch_l1
#define prefetch_l1 16
#endif
#ifndef prefetch_l2
#define prefetch_l2 0
#endif
#ifndef exp_degree
#define exp_degree 5
#endif

#include "../vector.h"

namespace {

constexpr int W = vector_width;
constexpr int R = W / 4;  ///< positions in a vector of quads
constexpr int kGroups = HAQA_AVX512 ? row_groups : 1;
constexpr int kStep = kGroups * R;  ///< positions whose scores are computed at once
constexpr int64_t kLargestTile = kv_tile > converted_tile ? kv_tile : converted_tile;
constexpr int64_t kLeastChunk = 32;   ///< positions that are worth a thread's while
constexpr int kMostRows = 8;          ///< whose scores are computed at once
constexpr float kNone = -1e38f;       ///< the largest of no score; the difference of two is a number
constexpr uint16_t kHidden = 0xfc00;  ///< minus infinity in half precision
constexpr uint64_t kFourHidden = 0xfc00fc00fc00fc00;
constexpr bool kIsQuantized = HAQA_WEIGHTS == 2;
constexpr int64_t kScratchFloats = haqa_scratch_bytes / 4, kSharedFloats = (int64_t{48} << 20) / 4;
static_assert(kv_tile % kStep == 0 && converted_tile % kStep == 0, "a tile is of whole steps");

typedef float Quad __attribute__((vector_size(16), aligned(4), may_alias));

inline int64_t rounded_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}
inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

// ---- vectors ----

/// Four floats, R times.
inline Floats quad_everywhere(const float* p) {
#if HAQA_AVX512 && vector_width == 16
  Floats v;
  asm("vbroadcastf32x4 %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const Quad*>(p)));
  return v;
#elif vector_width == 8
  Floats v;
  asm("vbroadcastf128 %1, %0" : "=x"(v) : "m"(*reinterpret_cast<const Quad*>(p)));
  return v;
#else
  return load(p);
#endif
}

/// fold(quad, quad) of all quads, in each of them.
template <typename Fold>
inline Floats across_quads(Floats v, Fold fold) {
#if vector_width == 16
  v = fold(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  return fold(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
#elif vector_width == 8
  return fold(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
#else
  return v;
#endif
}

/// R vectors of R quads become vectors of their first, second, ... quads.
inline void transpose_quads(Floats (&v)[R]) {
#if vector_width == 16
  const Floats a = __builtin_shufflevector(v[0], v[1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const Floats b = __builtin_shufflevector(v[0], v[1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const Floats c = __builtin_shufflevector(v[2], v[3], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const Floats d = __builtin_shufflevector(v[2], v[3], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  v[0] = __builtin_shufflevector(a, c, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  v[1] = __builtin_shufflevector(a, c, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  v[2] = __builtin_shufflevector(b, d, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  v[3] = __builtin_shufflevector(b, d, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
#elif vector_width == 8
  const Floats a = v[0];
  v[0] = __builtin_shufflevector(a, v[1], 0, 1, 2, 3, 8, 9, 10, 11);
  v[1] = __builtin_shufflevector(a, v[1], 4, 5, 6, 7, 12, 13, 14, 15);
#endif
}

/// In each quad the sums of a's, b's, c's and d's.
inline Floats sums_within_quads(Floats a, Floats b, Floats c, Floats d) {
#if vector_width == 16
#define HAQA_EACH(i, j, k, l) \
  i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8, l + 8, i + 12, j + 12, k + 12, l + 12
#elif vector_width == 8
#define HAQA_EACH(i, j, k, l) i, j, k, l, i + 4, j + 4, k + 4, l + 4
#else
#define HAQA_EACH(i, j, k, l) i, j, k, l
#endif
  const Floats ab = __builtin_shufflevector(a, b, HAQA_EACH(0, W, 1, W + 1)) +
                    __builtin_shufflevector(a, b, HAQA_EACH(2, W + 2, 3, W + 3));
  const Floats cd = __builtin_shufflevector(c, d, HAQA_EACH(0, W, 1, W + 1)) +
                    __builtin_shufflevector(c, d, HAQA_EACH(2, W + 2, 3, W + 3));
  return __builtin_shufflevector(ab, cd, HAQA_EACH(0, 1, W, W + 1)) +
         __builtin_shufflevector(ab, cd, HAQA_EACH(2, 3, W + 2, W + 3));
#undef HAQA_EACH
}

/// 2^t for t up to 0; 0 of what is masked.
inline Floats power_of_two(Floats t) {
  if (HAQA_AVX512) return exp2_of<exp_degree, true>(t);
  constexpr float kLeast = -100;
  const Ints is_seen = t > kLeast;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(exp2_of<exp_degree, true>(larger(all_lanes(kLeast), t))) &
                                  is_seen);
}
inline float power_of_two(float t) {
  return power_of_two(all_lanes(t))[0];
}

inline float half_to_float(uint16_t half) {
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
  float value;
  __builtin_memcpy(&value, &magnitude, sizeof value);
  value = (half & 0x7c00) == 0x7c00 ? __builtin_inff() : value * 0x1p112f;
  return half & 0x8000 ? -value : value;
}

/// W numbers in half precision.
inline Floats load_halves(const void* p) {
  typedef int16_t Halves __attribute__((vector_size(2 * W), aligned(1), may_alias));
#if defined(__F16C__)
  Floats value;
  asm("vcvtph2ps %1, %0" : "=v"(value) : "m"(*static_cast<const Halves*>(p)));
  return value;
#else
  // The exponent is moved by a product, so that subnormals come out right.
  const Ints bits = __builtin_convertvector(*static_cast<const Halves*>(p), Ints);
  const Ints infinite = ((bits & 0x7c00) == 0x7c00) & 0x7f800000;
  const Floats value = reinterpret_cast<Floats>((bits & 0x7fff) << 13) * 0x1p112f;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(value) | infinite | (bits & INT32_MIN));
#endif
}

/// A half everywhere, as a float.
inline Floats half_everywhere(const void* p) {
#if defined(__F16C__) && defined(__AVX2__) && vector_width >= 8
  typedef int16_t Halves __attribute__((vector_size(2 * W)));
  typedef int16_t Half __attribute__((aligned(1), may_alias));
  Halves halves;
  Floats value;
  asm("vpbroadcastw %1, %0" : "=x"(halves) : "m"(*static_cast<const Half*>(p)));
  asm("vcvtph2ps %1, %0" : "=v"(value) : "x"(halves));
  return value;
#else
  uint16_t half;
  __builtin_memcpy(&half, p, sizeof half);
  return all_lanes(half_to_float(half));
#endif
}

/// W numbers of 8 bits.
inline Floats load_bytes(const void* p) {
  typedef int8_t Bytes __attribute__((vector_size(W), aligned(1), may_alias));
#if defined(__AVX2__) && vector_width >= 8
  Ints v;
  asm("vpmovsxbd %1, %0" : "=v"(v) : "m"(*static_cast<const Bytes*>(p)));
  return __builtin_convertvector(v, Floats);
#else
  return __builtin_convertvector(__builtin_convertvector(*static_cast<const Bytes*>(p), Ints), Floats);
#endif
}

void write_scaled(float* to, int64_t n, const float* from, float factor) {
  int64_t i = 0;
  for (; i + W <= n; i += W) store(to + i, load(from + i) * factor);
  for (; i < n; ++i) to[i] = from[i] * factor;
}

// ---- keys and values ----

/// Bytes of a row of so many numbers.
inline int64_t bytes_of(int64_t n) {
  return kIsQuantized ? n / 32 * 34 : 2 * n;
}

/// The rows of one head of keys or values as they lie in memory, from one position on.
struct Cache {
  const uint8_t* first;
  int64_t stride, width;
  int64_t last;  ///< the row that stands in for those behind it

  const uint8_t* row(int64_t j) const { return first + (j < last ? j : last) * stride; }
  /// W numbers from `d` on, zeros beyond the width.
  Floats load_row(const uint8_t* row, int64_t d) const {
    if (kIsQuantized) {
      const uint8_t* block = row + d / 32 * 34;
      return load_bytes(block + 2 + d % 32) * half_everywhere(block);
    }
    if (__builtin_expect(d + W > width, 0)) {
      uint16_t part[W] = {};
      __builtin_memcpy(part, row + 2 * d, static_cast<uint64_t>(2 * (width - d)));
      return load_halves(part);
    }
    return load_halves(row + 2 * d);
  }
  Floats load(int64_t j, int64_t d) const { return load_row(row(j), d); }
  /// The quads of positions j to j + R - 1.
  void load_quads(int64_t j, int64_t d, Floats (&v)[R]) const {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) v[r] = load_row(row(j + r), d);
    transpose_quads(v);
  }
  /// Always inlined: the compiler takes a call of what only prefetches for one without effect.
  template <int ahead, int level>
  __attribute__((always_inline)) void prefetch(int64_t j, int64_t n) const {
    if (ahead == 0) return;
    const int64_t bytes = bytes_of(width);
    const uint8_t* p = first + (j + ahead) * stride;
    for (int64_t r = 0; r < n; ++r, p += stride)
      for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(p + b, 0, level);
  }
  __attribute__((always_inline)) void prefetch(int64_t j, int64_t n) const {
    prefetch<prefetch_l2, 2>(j, n);
    prefetch<prefetch_l1, 3>(j, n);
  }
};

/// A tile of keys in quads, as floats.
struct KeyTile {
  float* first;
  int64_t width;  ///< a multiple of W
  float* quads(int64_t j, int64_t d) const { return first + (j * width + d * R); }
  void load_quads(int64_t j, int64_t d, Floats (&v)[R]) const {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) v[r] = load(quads(j, d) + r * W);
  }
  void prefetch(int64_t, int64_t) const {}
  void take(const Cache& keys, int64_t n) const {
    for (int64_t j = 0; j < n; j += R)
      for (int64_t d = 0; d < width; d += W) {
        Floats v[R];
        keys.load_quads(j, d, v);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) store(quads(j, d) + r * W, v[r]);
      }
  }
};

/// A tile of values as floats.
struct ValueTile {
  float* first;
  int64_t width;
  Floats load(int64_t j, int64_t d) const { return ::load(first + j * width + d); }
  void prefetch(int64_t, int64_t) const {}
  void take(const Cache& values, int64_t n) const {
    for (int64_t j = 0; j < n; ++j)
      for (int64_t d = 0; d < width; d += W) store(first + j * width + d, values.load(j, d));
  }
};

// ---- H rows and a tile ----

/// Scores and what becomes of them: position j of row h is at (j / R * quads_of<H> + h / 4) * W + j % R * 4 + h % 4.
template <int H>
constexpr int quads_of = (H + 3) / 4;
template <int H>
inline int64_t place_of(int64_t j, int h) {
  return (j / R * quads_of<H> + h / 4) * W + j % R * 4 + h % 4;
}

/// What is known of rows so far.
struct Rows {
  const float* q;    ///< scaled, each of `width` floats
  float *max, *sum;  ///< of the powers of two
  float* out;        ///< the values by them, each row of `out_width` floats
  int64_t width, out_width;
};

/// Of positions [begin, end), whole steps. Not inlined, as the registers are needed for sums alone.
template <int H, typename Keys>
__attribute__((noinline)) void score(const Keys& keys, const Rows& rows, int64_t begin, int64_t end, float* scores) {
  for (int64_t j = begin; j < end; j += kStep) {
    keys.prefetch(j, kStep);
    Floats sum[kGroups][H] = {};
    for (int64_t d = 0; d < rows.width; d += W) {
      Floats k[kGroups][R];
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) keys.load_quads(j + g * R, d, k[g]);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int h = 0; h < H; ++h) {
          const Floats q = quad_everywhere(rows.q + h * rows.width + d + 4 * r);
#pragma GCC unroll 4
          for (int g = 0; g < kGroups; ++g) sum[g][h] += k[g][r] * q;
        }
      }
    }
    float* to = scores + place_of<H>(j, 0);
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g)
#pragma GCC unroll 2
      for (int b = 0; b < quads_of<H>; ++b, to += W) {
        if constexpr (H < 4)
          store(to, sums_within_quads(sum[g][0], Floats{}, Floats{}, Floats{}));
        else
          store(to, sums_within_quads(sum[g][4 * b], sum[g][4 * b + 1], sum[g][4 * b + 2], sum[g][4 * b + 3]));
      }
  }
}

/// Scores become powers of two; `factors` is what the rows had before is worth by the new maximum.
template <int H>
inline void to_powers(float* scores, int64_t begin, int64_t end, const Rows& rows, float* factors) {
  constexpr int64_t kStride = quads_of<H> * W;
  const int64_t first = begin / R, last = end / R;
#pragma GCC unroll 2
  for (int b = 0; b < quads_of<H>; ++b) {
    float* s = scores + b * W;
    const Floats before = quad_everywhere(rows.max + 4 * b);
    Floats max = before;
    for (int64_t i = first; i < last; ++i) max = larger(load(s + i * kStride), max);
    max = across_quads(max, larger);
    Floats sum[2] = {};
    int64_t i = first;
    for (; i + 1 < last; i += 2) {
#pragma GCC unroll 2
      for (int k = 0; k < 2; ++k) {
        const Floats p = power_of_two(load(s + (i + k) * kStride) - max);
        store(s + (i + k) * kStride, p);
        sum[k] += p;
      }
    }
    if (i < last) {
      const Floats p = power_of_two(load(s + i * kStride) - max);
      store(s + i * kStride, p);
      sum[0] += p;
    }
    const Floats all = across_quads(sum[0] + sum[1], [](Floats x, Floats y) { return x + y; });
    const Floats factor = power_of_two(before - max);
    const Floats whole = quad_everywhere(rows.sum + 4 * b) * factor + all;
    const auto keep = [](float* to, Floats v) { *reinterpret_cast<Quad*>(to) = Quad{v[0], v[1], v[2], v[3]}; };
    keep(rows.max + 4 * b, max);
    keep(rows.sum + 4 * b, whole);
    keep(factors + 4 * b, factor);
  }
}

/// N vectors of columns from `c` on.
template <int H, int N, typename Values>
__attribute__((noinline)) void add_columns(const Values& values, const float* powers, const float* factors,
                                           int64_t begin, int64_t end, const Rows& rows, int64_t c) {
  Floats sum[H][N];
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[h][n] = load(rows.out + h * rows.out_width + c + n * W) * factors[h];
  for (int64_t j = begin; j < end; j += R) {
    const float* p = powers + place_of<H>(j, 0);
    if (c == 0) values.prefetch(j, R);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      Floats v[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) v[n] = values.load(j + r, c + n * W);
#pragma GCC unroll 8
      for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[h][n] += v[n] * p[h / 4 * W + r * 4 + h % 4];
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) store(rows.out + h * rows.out_width + c + n * W, sum[h][n]);
}

template <int H, typename Values>
inline void add_values(const Values& values, const float* powers, const float* factors, int64_t begin, int64_t end,
                       const Rows& rows) {
  constexpr int N = H == 1 ? 4 : HAQA_AVX512 ? 2 : 1;
  int64_t c = 0;
  for (; c + N * W <= rows.out_width; c += N * W) add_columns<H, N>(values, powers, factors, begin, end, rows, c);
  for (; c < rows.out_width; c += W) add_columns<H, 1>(values, powers, factors, begin, end, rows, c);
}

// ---- the mask ----

/// What rows may see of a tile.
struct Seen {
  int64_t begin, end;  ///< nothing outside of it
  bool is_plain;       ///< all within it, without a change
  bool of_one_query;
};

inline const uint16_t* mask_row(const haqa_tensor& mask, int64_t query) {
  return reinterpret_cast<const uint16_t*>(static_cast<const char*>(mask.data) + query * mask.nb[1]);
}

inline uint64_t four(const uint16_t* m) {
  uint64_t bits;
  __builtin_memcpy(&bits, m, sizeof bits);
  return bits;
}

/// Of n positions from j on by queries [first, last].
Seen seen(const haqa_tensor& mask, int64_t first, int64_t last, int64_t j, int64_t n) {
  if (!mask.data) return {0, n, true, false};
  Seen all = {n, 0, true, false};
  for (int64_t i = first; i <= last; ++i) {
    const uint16_t* m = mask_row(mask, i) + j;
    int64_t begin = 0, end = n;
    while (end >= 4 && four(m + end - 4) == kFourHidden) end -= 4;
    while (end > 0 && m[end - 1] == kHidden) --end;
    while (begin + 4 <= end && four(m + begin) == kFourHidden) begin += 4;
    while (begin < end && m[begin] == kHidden) ++begin;
    uint64_t any = 0;
    int64_t k = begin;
    for (; k + 4 <= end; k += 4) any |= four(m + k);
    for (; k < end; ++k) any |= m[k];
    if (i > first && (begin != all.begin || end != all.end)) all.is_plain = false;
    all.is_plain = all.is_plain && any == 0;
    all.begin = smaller(all.begin, begin);
    all.end = all.end > end ? all.end : end;
  }
  return all;
}

/// Adds what the mask says of positions [begin, end) of the tile that begins at `tile` to the scores of `rows` rows,
/// the first of which is `row` of the head's.
template <int H>
void add_mask(const haqa_tensor& mask, int64_t group, int64_t row, int rows, int64_t tile, int64_t begin, int64_t end,
              float* scores) {
  for (int h = 0; h < rows; ++h) {
    const uint16_t* m = mask_row(mask, (row + h) / group) + tile;
    for (int64_t j = begin; j < end; ++j)
      if (m[j] != 0) scores[place_of<H>(j, h)] += half_to_float(m[j]) * kLog2E;
  }
}

/// Positions outside of [begin, end) that are computed all the same, as steps are whole.
template <int H>
void hide(float* scores, int64_t from, int64_t to) {
  for (int64_t j = from; j < to; ++j)
    for (int h = 0; h < 4 * quads_of<H>; ++h) scores[place_of<H>(j, h)] = -__builtin_inff();
}

// ---- parts of the work ----

/// The launch and how it is divided.
struct Work {
  const haqa_launch* launch;
  const haqa_tensor &q, &k, &v, &mask, &out;
  int64_t kv, kv_heads, group;  ///< heads that share one of keys and values
  int64_t rows;                 ///< queries of a group
  int64_t width, out_width;     ///< rounded to vectors
  bool converts;
  int64_t tile;  ///< positions whose scores are computed before their values are added
  int64_t row_parts, rows_of_part;
  int64_t head_parts, chunks, positions_of_chunk;
};

/// Rows that are computed at once when so many are left.
inline int rows_at_once(int64_t left) {
  return left > 4 ? 8 : left > 1 ? 4 : 1;
}
inline int64_t rows_with_room(int64_t rows) {
  const int64_t left = rows % kMostRows;
  return rows - left + (left > 4 ? 8 : left > 0 ? 4 : 0);
}

/// Floats that a part takes of a thread's scratch memory, scores and tiles included.
int64_t floats_of_part(const Work& w, int64_t heads, int64_t rows) {
  const int64_t state = heads * rows_with_room(rows) * (w.width + w.out_width + 2);
  return state + kLargestTile * kMostRows + (w.converts ? converted_tile * (w.width + w.out_width) : 0) + 256;
}

Work divided(const haqa_launch* launch) {
  const haqa_tensor *in = launch->in, &q = in[0], &k = in[1], &v = in[2];
  Work w = {launch, q, k, v, in[3], launch->out, 0, 0, 0, 0, 0, 0, false, 0, 0, 0, 0, 0, 0};
  w.kv = k.ne[1];
  w.kv_heads = k.ne[2];
  w.group = q.ne[2] / w.kv_heads;
  w.rows = q.ne[1] * w.group;
  w.width = rounded_up(k.ne[0], W);
  w.out_width = rounded_up(v.ne[0], W);
  w.converts = w.rows >= convert_from;
  w.converts =
      w.converts && floats_of_part(w, 1, 1) <= kScratchFloats;  // rows beyond what any model has are read as they are
  w.tile = w.converts ? converted_tile : kv_tile;
  w.rows_of_part = w.converts ? smaller(tile_rows, w.rows) : w.rows;
  w.head_parts = w.converts ? w.kv_heads : 1;
  const auto fits = [&] {
    return floats_of_part(w, (w.kv_heads + w.head_parts - 1) / w.head_parts, w.rows_of_part) <= kScratchFloats;
  };
  while (w.head_parts < w.kv_heads && !fits()) ++w.head_parts;
  while (w.rows_of_part > 1 && !fits()) w.rows_of_part = (w.rows_of_part + 1) / 2;
  // A prompt's parts differ in what they see: some for each thread even it out.
  const auto parts_of_rows = [&] { return (w.rows + w.rows_of_part - 1) / w.rows_of_part; };
  while (w.converts && w.rows_of_part >= 64 && parts_of_rows() * w.kv_heads < 4 * launch->threads) w.rows_of_part /= 2;
  w.row_parts = parts_of_rows();
  // Positions next: as many chunks as there are threads, of whole steps.
  const int64_t wanted = launch->threads == 1 ? 1 : launch->threads * int64_t{parts_per_thread};
  const int64_t parts = w.row_parts * w.head_parts;
  const int64_t partial = q.ne[2] * q.ne[1] * (w.out_width + W);
  const int64_t most = smaller((w.kv + kLeastChunk - 1) / kLeastChunk, kSharedFloats / partial);
  w.chunks = smaller((wanted + parts - 1) / parts, most);
  if (w.chunks < 1) w.chunks = 1;
  w.positions_of_chunk = rounded_up((w.kv + w.chunks - 1) / w.chunks, kStep);
  w.chunks = (w.kv + w.positions_of_chunk - 1) / w.positions_of_chunk;
  // Heads last.
  while (w.head_parts < w.kv_heads && w.row_parts * w.head_parts * w.chunks < wanted) ++w.head_parts;
  return w;
}

/// Rows [row, row + rows) of some heads, and positions [begin, end).
struct Share {
  int64_t row, rows, head, end_head, begin, end, chunk;
};

Share part_of(const Work& w, int64_t number) {
  const int64_t head_part = number % w.head_parts, others = number / w.head_parts;
  const int64_t chunk = others % w.chunks;
  const int64_t row = (w.row_parts - 1 - others / w.chunks) * w.rows_of_part;  // those that see most come first
  const int64_t begin = chunk * w.positions_of_chunk;
  return {row,
          smaller(w.rows_of_part, w.rows - row),
          w.kv_heads * head_part / w.head_parts,
          w.kv_heads * (head_part + 1) / w.head_parts,
          begin,
          smaller(begin + w.positions_of_chunk, w.kv),
          chunk};
}

/// A part's memory.
struct Room {
  float *q, *out, *max, *sum, *scores, *keys, *values;
  int64_t rows;  ///< of a head, with room for whole blocks

  Room(const Work& w, const Share& part) : rows(rows_with_room(part.rows)) {
    const int64_t all = (part.end_head - part.head) * rows;
    float* at = static_cast<float*>(w.launch->scratch);
    const auto take = [&](int64_t floats) {
      float* taken = at;
      at += rounded_up(floats, kLine);
      return taken;
    };
    scores = take(kLargestTile * kMostRows);
    q = take(all * w.width);
    out = take(all * w.out_width);
    max = take(all);
    sum = take(all);
    keys = w.converts ? take(converted_tile * w.width) : nullptr;
    values = w.converts ? take(converted_tile * w.out_width) : nullptr;
  }
  Rows rows_of(const Work& w, int64_t row) const {
    return {q + row * w.width, max + row, sum + row, out + row * w.out_width, w.width, w.out_width};
  }
};

void begin_rows(const Work& w, const Share& part, const Room& room) {
  const float scale = w.launch->scalars[0] * kLog2E;
  const int64_t all = (part.end_head - part.head) * room.rows;
  for (int64_t r = 0; r < all; ++r) {
    const int64_t head = part.head + r / room.rows, in_part = r % room.rows, row = part.row + in_part;
    float* to = room.q + r * w.width;
    if (in_part < part.rows) {
      write_scaled(to, w.q.ne[0], ::row(w.q, row / w.group, head * w.group + row % w.group), scale);
      __builtin_memset(to + w.q.ne[0], 0, static_cast<uint64_t>(4 * (w.width - w.q.ne[0])));
    } else {
      __builtin_memset(to, 0, static_cast<uint64_t>(4 * w.width));
    }
    room.max[r] = kNone;
    room.sum[r] = 0;
  }
  __builtin_memset(room.out, 0, static_cast<uint64_t>(4 * all * w.out_width));
}

Cache cache_of(const haqa_tensor& t, int64_t head, int64_t position) {
  return {static_cast<const uint8_t*>(t.data) + head * t.nb[2] + position * t.nb[1], t.nb[1], t.ne[0],
          t.ne[1] - 1 - position};
}

/// H rows, of which `rows` are there, and a tile.
template <int H, typename Keys, typename Values>
void attend(const Work& w, const Keys& keys, const Values& values, const Seen& s, int64_t tile, int64_t row, int rows,
            const Rows& state, float* scores) {
  const int64_t begin = s.begin / kStep * kStep, end = rounded_up(s.end, kStep);
  float factors[kMostRows];
  score<H>(keys, state, begin, end, scores);
  if (!s.is_plain) add_mask<H>(w.mask, w.group, row, rows, tile, s.begin, s.end, scores);
  hide<H>(scores, begin, s.begin);
  hide<H>(scores, s.end, end);
  to_powers<H>(scores, begin, end, state, factors);
  add_values<H>(values, scores, factors, begin, end, state);
}

template <typename Keys, typename Values>
void attend_all(const Work& w, const Share& part, const Room& room, const Keys& keys, const Values& values,
                const Seen* all_seen, int64_t tile, int64_t head) {
  for (int64_t r = 0, block = 0; r < part.rows; ++block) {
    const int at_once = rows_at_once(part.rows - r);
    const int rows = static_cast<int>(smaller(at_once, part.rows - r));
    const Seen& s = all_seen[block];
    if (s.begin < s.end) {
      const Rows state = room.rows_of(w, (head - part.head) * room.rows + r);
      if (at_once == 8)
        attend<8>(w, keys, values, s, tile, part.row + r, rows, state, room.scores);
      else if (at_once == 4)
        attend<4>(w, keys, values, s, tile, part.row + r, rows, state, room.scores);
      else
        attend<1>(w, keys, values, s, tile, part.row + r, rows, state, room.scores);
    }
    r += at_once;
  }
}

/// What the rows of a part may see of a tile, block by block. Returns up to where any of them sees, 0 for nothing.
int64_t see(const Work& w, const Share& part, int64_t tile, int64_t n, Seen* all_seen) {
  int64_t end = 0;
  for (int64_t r = 0, block = 0; r < part.rows; ++block) {
    const int64_t first = part.row + r, at_once = rows_at_once(part.rows - r);
    const int64_t last = part.row + smaller(r + at_once, part.rows) - 1;
    Seen& s = all_seen[block];
    const bool is_same = block > 0 && (first - 1) / w.group == last / w.group && all_seen[block - 1].of_one_query;
    s = is_same ? all_seen[block - 1] : seen(w.mask, first / w.group, last / w.group, tile, n);
    s.of_one_query = first / w.group == last / w.group;
    if (s.begin < s.end) end = end > s.end ? end : s.end;
    r += at_once;
  }
  return end;
}

void compute(const Work& w, const Share& part, const Room& room) {
  constexpr int64_t kMostBlocks = (convert_from > tile_rows ? convert_from : tile_rows) / 4 + 2;
  Seen all_seen[kMostBlocks];
  for (int64_t tile = part.begin; tile < part.end; tile += w.tile) {
    const int64_t end = see(w, part, tile, smaller(w.tile, part.end - tile), all_seen);
    if (end == 0) continue;
    for (int64_t head = part.head; head < part.end_head; ++head) {
      const Cache keys = cache_of(w.k, head, tile), values = cache_of(w.v, head, tile);
      if (w.converts) {
        const KeyTile key_tile = {room.keys, w.width};
        const ValueTile value_tile = {room.values, w.out_width};
        key_tile.take(keys, rounded_up(end, kStep));
        value_tile.take(values, rounded_up(end, kStep));
        attend_all(w, part, room, key_tile, value_tile, all_seen, tile, head);
      } else {
        attend_all(w, part, room, keys, values, all_seen, tile, head);
      }
    }
  }
}

// ---- results ----

/// What a chunk's part found of a row: max, sum, and the values from the first vector on.
float* partial_of(const Work& w, int64_t chunk, int64_t head, int64_t query) {
  const int64_t number = (chunk * w.q.ne[2] + head) * w.q.ne[1] + query;
  return static_cast<float*>(w.launch->shared_scratch) + number * (w.out_width + W);
}

inline float inverse_of(float max, float sum) {
  return max > kNone / 2 ? 1 / sum : 0;  // a row that sees nothing gets zeros
}

void finish(const Work& w, const Share& part, const Room& room) {
  for (int64_t head = part.head; head < part.end_head; ++head)
    for (int64_t r = 0; r < part.rows; ++r) {
      const int64_t row = part.row + r, query = row / w.group, q_head = head * w.group + row % w.group;
      const int64_t at = (head - part.head) * room.rows + r;
      const float* values = room.out + at * w.out_width;
      if (w.chunks == 1) {
        write_scaled(row_to_write(w.out, q_head, query), w.out.ne[0], values, inverse_of(room.max[at], room.sum[at]));
      } else {
        float* to = partial_of(w, part.chunk, q_head, query);
        to[0] = room.max[at];
        to[1] = room.sum[at];
        __builtin_memcpy(to + W, values, static_cast<uint64_t>(4 * w.out_width));
      }
    }
}

/// Puts together what the chunks' parts found of a row, in the first one's place.
void merge(const Work& w, int64_t head, int64_t query) {
  float* whole = partial_of(w, 0, head, query);
  float max = kNone, sum = 0;
  for (int64_t c = 0; c < w.chunks; ++c) {
    const float of_chunk = partial_of(w, c, head, query)[0];
    max = of_chunk > max ? of_chunk : max;
  }
  for (int64_t c = 0; c < w.chunks; ++c) {
    const float* part = partial_of(w, c, head, query);
    const float factor = power_of_two(part[0] - max);
    sum += part[1] * factor;
    for (int64_t i = W; i < W + w.out_width; i += W)
      store(whole + i, (c > 0 ? load(whole + i) : Floats{}) + load(part + i) * factor);
  }
  write_scaled(row_to_write(w.out, head, query), w.out.ne[0], whole + W, inverse_of(max, sum));
}

}  // namespace

void haqa_kernel(const haqa_launch* launch) {
  const Work w = divided(launch);
  const int64_t parts = w.row_parts * w.chunks * w.head_parts;
  const int schedule = parts <= launch->threads ? haqa_static : haqa_dynamic;
  haqa_share(launch, parts, 1, schedule, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) {
      const Share part = part_of(w, i);
      const Room room(w, part);
      begin_rows(w, part, room);
      compute(w, part, room);
      finish(w, part, room);
    }
  });
  if (w.chunks == 1) return;
  launch->barrier(launch->team);
  const int64_t heads = w.q.ne[2], rows = heads * w.q.ne[1];
  haqa_share(launch, rows, 1, haqa_static, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) merge(w, i % heads, i / heads);
  });
}
