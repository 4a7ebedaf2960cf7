// out[j][i] = dot(row i of the weights, row j of the activations) in single precision.
//
// A register tile of `register_m` times `register_n` sums is multiplied over `tile_k` steps along k; the loops over
// cache tiles around it nest in any order. Packed, `register_m` vectors of rows lie side by side for each k, and a
// sum's lanes are rows: no sum across lanes is needed, and each activation is broadcast. As they are, the weights' rows
// are multiplied as vectors along k, as dot products.
#include "../kernel.h"

#ifndef layout
#define layout packed
#endif
#ifndef order
#define order mnk
#endif
#ifndef tile_m
#define tile_m 128
#endif
#ifndef tile_n
#define tile_n 64
#endif
#ifndef tile_k
#define tile_k 256
#endif
#ifndef register_m
#define register_m 2
#endif
#ifndef register_n
#define register_n 6
#endif
#ifndef vector_width
#define vector_width 16
#endif
#ifndef unroll
#define unroll 4
#endif
#ifndef transpose
#define transpose own
#endif
#ifndef prefetch_tile
#define prefetch_tile 2
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
#ifndef split_n
#define split_n 1
#endif

#define HAQA_PASTE(a, b) a##b
#define HAQA_CHOICE(prefix, value) HAQA_PASTE(prefix, value)
#define HAQA_LAYOUT_rows 0
#define HAQA_LAYOUT_packed 1
#define HAQA_TRANSPOSE_none 0
#define HAQA_TRANSPOSE_own 1
#define HAQA_TRANSPOSE_team 2

namespace {

#if defined(__AVX512F__)
constexpr int kWidest = 16;
#elif defined(__AVX__)
constexpr int kWidest = 8;
#else
constexpr int kWidest = 4;
#endif
constexpr int kLanes = vector_width < kWidest ? vector_width : kWidest;
constexpr bool kPacked = HAQA_CHOICE(HAQA_LAYOUT_, layout);
constexpr int kRows = kPacked ? register_m * kLanes : register_m;  // of a register tile

template <int N>
struct Vector {
  typedef float Type __attribute__((vector_size(4 * N)));
  typedef float Loose __attribute__((vector_size(4 * N), aligned(4), may_alias));
};
using Floats = Vector<kLanes>::Type;
using LooseFloats = Vector<kLanes>::Loose;

inline Floats load(const float* p) {
  return *reinterpret_cast<const LooseFloats*>(p);
}

/// GCC would read what is used several times from memory each time.
inline Floats in_register(Floats v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#endif
  return v;
}

constexpr int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

/// The whole product as one thread sees it.
struct Job {
  const float* weights;     ///< packed, or the first row
  int64_t row_stride;       ///< of the weights as they are, in numbers
  const float* x;           ///< the first row
  int64_t x_stride;         ///< from row to row, in numbers
  const float* transposed;  ///< panels of register_n columns, k after k; null where the rows are read
  float* out;
  int64_t out_stride;
  int64_t m, n, k;
};

/// What a register tile multiplies with: N columns, each where it lies, or transposed into a panel, step after step.
template <int N>
struct Columns {
  const float* column[N];
  inline float at(int c, int64_t p) const { return column[c][p]; }
};
template <int N>
struct Panel {
  const float* steps;
  inline float at(int c, int64_t p) const { return steps[p * N + c]; }
};

struct Range {
  int64_t first, end;
};

/// The columns from `j` on at step `p`; the last one stands in for those that are not there.
template <int N>
inline Columns<N> columns_at(const Job& job, int64_t j, int64_t p) {
  Columns<N> columns;
  for (int c = 0; c < N; ++c) columns.column[c] = job.x + (j + c < job.n ? j + c : job.n - 1) * job.x_stride + p;
  return columns;
}

/// What a tile is given to fetch while it computes: `prefetch_tile` lines a turn of its loop.
struct Ahead {
  const char* at;
  int64_t step;  ///< 0: there is nothing more
};

inline void fetch(Ahead& ahead) {
#pragma GCC unroll 16
  for (int i = 0; i < prefetch_tile; ++i) __builtin_prefetch(ahead.at + 64 * i, 0, 2);
  ahead.at += ahead.step;
}

/// What lies ahead in memory, at both distances in lines of 64 bytes, for products that are bound by how fast the
/// weights come.
template <int bytes>
inline void prefetch_stream(const float* weights) {
  const char* p = reinterpret_cast<const char*>(weights);
#pragma GCC unroll 64
  for (int i = 0; i < bytes; i += 64) {
    if (prefetch_l2 > 0) __builtin_prefetch(p + i + 64 * prefetch_l2, 0, 2);
    if (prefetch_l1 > 0) __builtin_prefetch(p + i + 64 * prefetch_l1, 0, 3);
  }
}

#if HAQA_CHOICE(HAQA_LAYOUT_, layout)
inline void store(float* p, Floats value) {
  *reinterpret_cast<LooseFloats*>(p) = value;
}

/// The sums of a tile, rows side by side in each column.
template <int N>
struct Tile {
  static constexpr int kSums = N * register_m >= 8 ? 1 : 8 / (N * register_m);  // so many that none waits for itself
  static constexpr int kTurn = unroll > kSums ? unroll : kSums;                 // steps in a turn of the loop
  Floats sums[N][register_m];

  /// Its own variables hold the sums meanwhile: those of the tile would be written to memory in every step.
  template <bool stream, typename X>
  inline void multiply(const Job&, const float* w, X x, int64_t depth, Ahead ahead) {
    Floats part[kSums][N][register_m] = {};
    const auto step = [&](int s, const float* at, int64_t p) {
      Floats weights[register_m];
#pragma GCC unroll 8
      for (int i = 0; i < register_m; ++i) weights[i] = in_register(load(at + i * kLanes));
#pragma GCC unroll 32
      for (int j = 0; j < N; ++j)
#pragma GCC unroll 8
        for (int i = 0; i < register_m; ++i) part[s][j][i] += weights[i] * x.at(j, p);
    };
    int64_t p = 0;
    for (; p + kTurn <= depth; p += kTurn, w += kTurn * kRows) {
      if (stream)
        prefetch_stream<kTurn * kRows * 4>(w);
      else
        fetch(ahead);
#pragma GCC unroll 32
      for (int d = 0; d < kTurn; ++d) step(d % kSums, w + d * kRows, p + d);
    }
    for (; p < depth; ++p, w += kRows) step(0, w, p);
#pragma GCC unroll 32
    for (int j = 0; j < N; ++j)
#pragma GCC unroll 8
      for (int i = 0; i < register_m; ++i) {
        sums[j][i] = part[0][j][i];
#pragma GCC unroll 8
        for (int s = 1; s < kSums; ++s) sums[j][i] += part[s][j][i];
      }
  }

  inline void put(float* out, int64_t stride, bool add) const {
#pragma GCC unroll 32
    for (int j = 0; j < N; ++j)
#pragma GCC unroll 8
      for (int i = 0; i < register_m; ++i) {
        float* to = out + j * stride + i * kLanes;
        store(to, add ? load(to) + sums[j][i] : sums[j][i]);
      }
  }
};

inline const float* weights_at(const Job& job, int64_t row, int64_t p) {
  return job.weights + row * job.k + p * kRows;
}

/// The tile's columns from `j` on, over the steps `k`.
inline void multiply_columns(const Job& job, Tile<register_n>& tile, const float* w, int64_t j, Range k, Ahead ahead) {
  const Panel<register_n> panel = {job.transposed + j * job.k + k.first * register_n};
  if (job.transposed)
    tile.multiply<false>(job, w, panel, k.end - k.first, ahead);
  else
    tile.multiply<false>(job, w, columns_at<register_n>(job, j, k.first), k.end - k.first, ahead);
}

#else
template <int N>
inline float sum_of_lanes(typename Vector<N>::Type v) {
  if constexpr (N == 1) {
    return v[0];
  } else {
    struct {
      typename Vector<N / 2>::Type low, high;
    } halves;
    __builtin_memcpy(&halves, &v, sizeof halves);
    return sum_of_lanes<N / 2>(halves.low + halves.high);
  }
}

/// The dot products of a tile.
template <int N>
struct Tile {
  static constexpr int kTurn = unroll * kLanes;  // steps in a turn of the loop
  float sums[N][register_m];

  /// The last row stands in for those that are not there.
  template <bool stream>
  inline void multiply(const Job& job, const float* w, Columns<N> x, int64_t depth, Ahead ahead) {
    const float* rows[register_m];
    const float* end = job.weights + (job.m - 1) * job.row_stride + job.k;
#pragma GCC unroll 8
    for (int i = 0; i < register_m; ++i) {
      rows[i] = i == 0 ? w : rows[i - 1] + job.row_stride;
      if (rows[i] >= end) rows[i] = rows[i - 1];
    }
    Floats part[N][register_m] = {};
    const auto step = [&](int64_t p) {
      Floats weights[register_m];
#pragma GCC unroll 8
      for (int i = 0; i < register_m; ++i) weights[i] = load(rows[i] + p);
#pragma GCC unroll 32
      for (int j = 0; j < N; ++j) {
        const Floats column = load(x.column[j] + p);
#pragma GCC unroll 8
        for (int i = 0; i < register_m; ++i) part[j][i] += weights[i] * column;
      }
    };
    int64_t p = 0;
    for (; p + kTurn <= depth; p += kTurn) {
      if (stream)
        for (int i = 0; i < register_m; ++i) prefetch_stream<kTurn * 4>(rows[i] + p);
      else
        fetch(ahead);
#pragma GCC unroll 32
      for (int u = 0; u < unroll; ++u) step(p + u * kLanes);
    }
    for (; p + kLanes <= depth; p += kLanes) step(p);
#pragma GCC unroll 32
    for (int j = 0; j < N; ++j)
#pragma GCC unroll 8
      for (int i = 0; i < register_m; ++i) sums[j][i] = sum_of_lanes<kLanes>(part[j][i]);
    for (; p < depth; ++p)
      for (int j = 0; j < N; ++j)
        for (int i = 0; i < register_m; ++i) sums[j][i] += rows[i][p] * x.column[j][p];
  }

  inline void put(float* out, int64_t stride, bool add) const {
    for (int j = 0; j < N; ++j)
      for (int i = 0; i < register_m; ++i) out[j * stride + i] = sums[j][i] + (add ? out[j * stride + i] : 0);
  }
};

inline const float* weights_at(const Job& job, int64_t row, int64_t p) {
  return job.weights + row * job.row_stride + p;
}

inline void multiply_columns(const Job& job, Tile<register_n>& tile, const float* w, int64_t j, Range k, Ahead ahead) {
  tile.multiply<false>(job, w, columns_at<register_n>(job, j, k.first), k.end - k.first, ahead);
}
#endif

/// At the edges a tile is whole too, and what is beyond the product is left out when it is stored.
template <int N>
inline void put_tile(const Job& job, const Tile<N>& tile, int64_t row, int64_t j, bool add) {
  float* out = job.out + j * job.out_stride + row;
  if (row + kRows <= job.m && j + N <= job.n) return tile.put(out, job.out_stride, add);
  float whole[N * kRows];
  tile.put(whole, kRows, false);
  for (int c = 0; c < N && j + c < job.n; ++c)
    for (int r = 0; r < kRows && row + r < job.m; ++r)
      out[c * job.out_stride + r] = whole[c * kRows + r] + (add ? out[c * job.out_stride + r] : 0);
}

#define HAQA_ORDER_mnk \
  { 0, 1, 2 }
#define HAQA_ORDER_mkn \
  { 0, 2, 1 }
#define HAQA_ORDER_nmk \
  { 1, 0, 2 }
#define HAQA_ORDER_nkm \
  { 1, 2, 0 }
#define HAQA_ORDER_kmn \
  { 2, 0, 1 }
#define HAQA_ORDER_knm \
  { 2, 1, 0 }
constexpr int kOrder[] = HAQA_CHOICE(HAQA_ORDER_, order);

/// The weights of the next register tile's rows, in parts: one for each register tile that is computed meanwhile. There
/// are none in the layout of rows, whose next weights lie in several places.
class NextWeights {
 public:
  NextWeights(const Job& job, Range m, Range k, int64_t row) {
    if (!kPacked || prefetch_tile == 0) return;
    const bool same_k = row + kRows < m.end || kOrder[2] == 0;
    const float* next = same_k ? weights_at(job, row + kRows, k.first) : weights_at(job, m.first, k.end);
    at_ = reinterpret_cast<const char*>(next);
    end_ = at_ + (k.end - k.first) * kRows * 4;
    part_ = (k.end - k.first) / kTurn * kLine;
  }

  Ahead part() {
    const Ahead ahead = {at_, at_ < end_ ? kLine : 0};
    at_ += at_ < end_ ? part_ : 0;
    return ahead;
  }

 private:
  static constexpr int64_t kTurn = Tile<register_n>::kTurn, kLine = 64 * prefetch_tile;
  const char *at_ = nullptr, *end_ = nullptr;
  int64_t part_ = 0;
};

/// One cache tile. The weights of a register tile's rows stay in L1 while the columns pass.
void multiply_tile(const Job& job, Range m, Range n, Range k) {
  Tile<register_n> tile;
  for (int64_t row = m.first; row < m.end; row += kRows) {
    NextWeights next(job, m, k, row);
    for (int64_t j = n.first; j < n.end; j += register_n) {
      multiply_columns(job, tile, weights_at(job, row, k.first), j, k, next.part());
      put_tile(job, tile, row, j, k.first > 0);
    }
  }
}

constexpr int64_t kTiles[] = {round_up(tile_m, kRows), round_up(tile_n, register_n), tile_k};

/// Cuts `whole`, of m, n and k, into cache tiles in the order of `order`.
void multiply_tiles(const Job& job, const Range (&whole)[3]) {
  Range part[3];
  const auto each = [&](int level, auto inside) {
    const int axis = kOrder[level];
    for (int64_t i = whole[axis].first; i < whole[axis].end; i += kTiles[axis]) {
      part[axis] = {i, i + kTiles[axis] < whole[axis].end ? i + kTiles[axis] : whole[axis].end};
      inside();
    }
  };
  each(0, [&] { each(1, [&] { each(2, [&] { multiply_tile(job, part[0], part[1], part[2]); }); }); });
}

/// Matrix x vector, which needs no tiles.
void multiply_vector(const Job& job, Range m) {
  Tile<1> tile;
  for (int64_t row = m.first; row < m.end; row += kRows) {
    tile.template multiply<true>(job, weights_at(job, row, 0), columns_at<1>(job, 0, 0), job.k, {});
    put_tile(job, tile, row, 0, false);
  }
}

/// Panels [first, end) of the activations, k after k.
void transpose_panels(const Job& job, int64_t first, int64_t end, float* to) {
  for (int64_t panel = first; panel < end; ++panel) {
    const Columns<register_n> x = columns_at<register_n>(job, panel * register_n, 0);
    float* at = to + panel * register_n * job.k;
    for (int64_t p = 0; p < job.k; ++p)
      for (int c = 0; c < register_n; ++c) *at++ = x.column[c][p];
  }
}

/// Where the activations of this launch lie transposed, made by each thread for itself or by the team; null if nowhere.
const float* transposed(const haqa_launch* launch, const Job& job) {
  constexpr int kMode = HAQA_CHOICE(HAQA_TRANSPOSE_, transpose);
  const int64_t panels = (job.n + register_n - 1) / register_n, bytes = panels * register_n * job.k * 4;
  if (!kPacked || kMode == HAQA_TRANSPOSE_none || bytes > haqa_shared_scratch_bytes) return nullptr;
  if (kMode == HAQA_TRANSPOSE_own && bytes <= haqa_scratch_bytes) {
    transpose_panels(job, 0, panels, static_cast<float*>(launch->scratch));
    return static_cast<const float*>(launch->scratch);
  }
  const int64_t first = panels * launch->thread / launch->threads;
  const int64_t end = panels * (launch->thread + 1) / launch->threads;
  transpose_panels(job, first, end, static_cast<float*>(launch->shared_scratch));
  launch->barrier(launch->team);
  return static_cast<const float*>(launch->shared_scratch);
}

Job job_of(const haqa_launch* launch) {
  const haqa_tensor &w = launch->in[0], &x = launch->in[1], &out = launch->out;
  return {static_cast<const float*>(kPacked ? launch->packed : w.data),
          w.nb[1] / 4,
          static_cast<const float*>(x.data),
          x.nb[1] / 4,
          nullptr,
          static_cast<float*>(out.data),
          out.nb[1] / 4,
          out.ne[0],
          x.ne[1],
          x.ne[0]};
}

}  // namespace

extern "C" {

/// Threads share the cache tiles along m, and along n in `split_n` parts.
void haqa_kernel(const haqa_launch* launch) {
  Job job = job_of(launch);
  const bool vector = job.n == 1;
  if (!vector) job.transposed = transposed(launch, job);
  const int64_t tiles = (job.m + kTiles[0] - 1) / kTiles[0], parts = vector ? 1 : split_n;
  const int64_t part = round_up((job.n + parts - 1) / parts, register_n);
  haqa_share(launch, tiles * parts, 1, HAQA_CHOICE(haqa_, sharing), [&](int64_t first, int64_t end) {
    while (first < end) {
      const int64_t number = first / tiles, last = end < (number + 1) * tiles ? end : (number + 1) * tiles;
      const int64_t rows = (last - number * tiles) * kTiles[0], columns = (number + 1) * part;
      const Range m = {(first - number * tiles) * kTiles[0], rows < job.m ? rows : job.m};
      if (vector)
        multiply_vector(job, m);
      else
        multiply_tiles(job, {m, {number * part, columns < job.n ? columns : job.n}, {0, job.k}});
      first = last;
    }
  });
}

#if HAQA_CHOICE(HAQA_LAYOUT_, layout)
int64_t haqa_packed_bytes(const haqa_tensor* weights) {
  return round_up(round_up(weights->ne[1], kRows) * weights->ne[0] * 4, 64);
}

/// Rows that fill up the last group are zeros.
void haqa_pack(const haqa_tensor* weights, void* packed) {
  const int64_t m = weights->ne[1], k = weights->ne[0];
  float* to = static_cast<float*>(packed);
  for (int64_t first = 0; first < m; first += kRows)
    for (int64_t p = 0; p < k; ++p)
      for (int64_t row = first; row < first + kRows; ++row)
        *to++ = row < m ? static_cast<const float*>(weights->data)[row * (weights->nb[1] / 4) + p] : 0;
}
#endif
}
