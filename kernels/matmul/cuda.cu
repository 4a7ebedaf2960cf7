// out[j][i] = dot(row i of the weights, row j of the activations): tiles of both in shared memory, a small matrix of
// sums in each thread's registers. A block is block_size_x * thread_m rows of the weights by block_size_y * thread_n of
// the activations; its block_size_z slices take every block_size_z-th tile along k, and add up in the end.
#include "../cuda.h"

// 0 F32, 1 F16, 2 Q8_0, 3 Q4_0
#ifndef HAQA_WEIGHTS
#define HAQA_WEIGHTS 0
#endif
#ifndef block_size_x
#define block_size_x 16
#endif
#ifndef block_size_y
#define block_size_y 16
#endif
#ifndef block_size_z
#define block_size_z 1
#endif
#ifndef thread_m
#define thread_m 4
#endif
#ifndef thread_n
#define thread_n 4
#endif
#ifndef tile_k
#define tile_k 16
#endif
#ifndef vector_width
#define vector_width 4
#endif
#ifndef weights_tile
#define weights_tile k_major
#endif
#ifndef activations_tile
#define activations_tile k_major
#endif
#ifndef tile_padding
#define tile_padding 4
#endif
#ifndef double_buffer
#define double_buffer 2
#endif
#ifndef block_order
#define block_order m_first
#endif
#ifndef loop_unroll
#define loop_unroll 8
#endif

namespace {

/// How a tile lies in shared memory: k varies slowest, or fastest.
enum { k_major, row_major };
/// Which blocks are neighbours: those of the same activations, or those of the same weights.
enum { m_first, n_first };

constexpr int X = block_size_x, Y = block_size_y, Z = block_size_z, kThreads = X * Y;
constexpr int M = X * thread_m, N = Y * thread_n, K = tile_k;
constexpr int kUnroll = loop_unroll;  // a pragma does not see macros
constexpr bool kPrefetch = double_buffer > 0;
constexpr int kBuffers = double_buffer > 1 ? 2 : 1;

/// As many of a thread's rows lie together as a vector holds; the next of them begin behind all the other threads'.
__device__ __forceinline__ constexpr int together(int per_thread) {
  return per_thread % 4 == 0 ? 4 : per_thread % 2 == 0 ? 2 : 1;
}
template <int per_thread, int threads>
__device__ __forceinline__ constexpr int row_of(int thread, int i) {
  constexpr int G = together(per_thread);
  return (i / G * threads + thread) * G + i % G;
}

/// `rows` of K elements, in shared memory.
template <int rows, int order>
struct Tile {
  static constexpr int kStride = (order == k_major ? rows : K) + tile_padding;
  static constexpr int kFloats = (order == k_major ? K : rows) * kStride;

  static __device__ __forceinline__ int at(int row, int k) {
    return order == k_major ? k * kStride + row : row * kStride + k;
  }

  /// Elements k of the rows that are a thread's.
  template <int per_thread, int threads>
  static __device__ __forceinline__ void read(float (&to)[per_thread], const float* tile, int thread, int k) {
    constexpr int G = together(per_thread);
    if constexpr (order == k_major && kStride % G == 0) {
#pragma unroll
      for (int i = 0; i < per_thread; i += G) {
        float v[G];
        haqa_load<G>(v, tile + at(row_of<per_thread, threads>(thread, i), k));
#pragma unroll
        for (int e = 0; e < G; ++e) to[i + e] = v[e];
      }
    } else {
#pragma unroll
      for (int i = 0; i < per_thread; ++i) to[i] = tile[at(row_of<per_thread, threads>(thread, i), k)];
    }
  }
};

/// What a thread brings of one tile: read from global memory, held in registers, then stored.
template <int rows, int order, int type, int V, bool aligned>
struct Carrier {
  static constexpr int kPerRow = K / V, kUnits = rows * kPerRow, kItems = (kUnits + kThreads - 1) / kThreads;
  float held[kItems][V];

  __device__ __forceinline__ void load(const haqa_tensor& t, int first_row, int all_rows, int first_k, int all_k,
                                       int thread) {
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int unit = i * kThreads + thread, row = first_row + unit / kPerRow, k = first_k + unit % kPerRow * V;
#pragma unroll
      for (int e = 0; e < V; ++e) held[i][e] = 0;
      // V divides all_k, or is 1.
      if (unit < kUnits && row < all_rows && k < all_k)
        haqa_weights<type, V, aligned>(held[i], static_cast<const char*>(t.data) + row * t.nb[1], k);
    }
  }

  __device__ __forceinline__ void store(float* tile, int thread) const {
    using To = Tile<rows, order>;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int unit = i * kThreads + thread, row = unit / kPerRow, k = unit % kPerRow * V;
      if (unit >= kUnits) continue;
      if constexpr (order == row_major && To::kStride % V == 0) {
        haqa_store<V>(tile + To::at(row, k), held[i]);
      } else {
#pragma unroll
        for (int e = 0; e < V; ++e) tile[To::at(row, k + e)] = held[i][e];
      }
    }
  }
};

using WeightsTile = Tile<M, weights_tile>;
using ActivationsTile = Tile<N, activations_tile>;
constexpr int kActivationsAt = (WeightsTile::kFloats + 3) / 4 * 4;
constexpr int kTiles = (kActivationsAt + ActivationsTile::kFloats + 3) / 4 * 4;
constexpr int kRoom = Z * kBuffers * kTiles, kSums = Z > 1 ? M *N : 0;

using Sums = float[thread_m][thread_n];

__device__ __forceinline__ void multiply(Sums& sums, const float* tiles) {
#pragma unroll kUnroll
  for (int k = 0; k < K; ++k) {
    float w[thread_m], x[thread_n];
    WeightsTile::read<thread_m, X>(w, tiles, threadIdx.x, k);
    ActivationsTile::read<thread_n, Y>(x, tiles + kActivationsAt, threadIdx.y, k);
#pragma unroll
    for (int i = 0; i < thread_m; ++i)
#pragma unroll
      for (int j = 0; j < thread_n; ++j) sums[i][j] += w[i] * x[j];
  }
}

/// All tiles along k of this thread's slice.
template <int V, bool aligned>
__device__ __forceinline__ void accumulate(Sums& sums, float* room, const haqa_tensor& weights,
                                           const haqa_tensor& activations, int first_m, int first_n) {
  const int k = static_cast<int>(weights.ne[0]), m = static_cast<int>(weights.ne[1]),
            n = static_cast<int>(activations.ne[1]);
  const int thread = threadIdx.y * X + threadIdx.x, steps = (k + K * Z - 1) / (K * Z);
  float* mine = room + threadIdx.z * kBuffers * kTiles;
  Carrier<M, weights_tile, HAQA_WEIGHTS, V, aligned> w;
  Carrier<N, activations_tile, 0, V, aligned> x;
  const auto load = [&](int step) {
    const int at = (step * Z + static_cast<int>(threadIdx.z)) * K;
    w.load(weights, first_m, m, at, k, thread);
    x.load(activations, first_n, n, at, k, thread);
  };
  const auto store = [&](int step) {
    float* tiles = mine + step % kBuffers * kTiles;
    w.store(tiles, thread);
    x.store(tiles + kActivationsAt, thread);
  };
  if (kPrefetch) load(0);
  if (kBuffers == 2) {
    store(0);
    __syncthreads();
  }
  for (int step = 0; step < steps; ++step) {
    if constexpr (kBuffers == 2) {
      if (step + 1 < steps) load(step + 1);
      multiply(sums, mine + step % 2 * kTiles);
      if (step + 1 < steps) store(step + 1);  // the other buffer, which nobody has read since the last barrier
      __syncthreads();
    } else {
      if (!kPrefetch) load(step);
      store(step);
      __syncthreads();
      if (kPrefetch && step + 1 < steps) load(step + 1);
      multiply(sums, mine);
      __syncthreads();
    }
  }
}

/// Adds the slices' sums to the first one's, in order.
__device__ __forceinline__ void add_slices(Sums& sums, float* room) {
  const auto place = [&](int i, int j) {
    return (i * thread_n + j) * kThreads + static_cast<int>(threadIdx.y * X + threadIdx.x);
  };
  for (int slice = 1; slice < Z; ++slice) {
    __syncthreads();
    if (threadIdx.z == slice) {
#pragma unroll
      for (int i = 0; i < thread_m; ++i)
#pragma unroll
        for (int j = 0; j < thread_n; ++j) room[place(i, j)] = sums[i][j];
    }
    __syncthreads();
    if (threadIdx.z == 0) {
#pragma unroll
      for (int i = 0; i < thread_m; ++i)
#pragma unroll
        for (int j = 0; j < thread_n; ++j) sums[i][j] += room[place(i, j)];
    }
  }
}

__device__ __forceinline__ void write(const Sums& sums, const haqa_tensor& out, int first_m, int first_n) {
  const int m = static_cast<int>(out.ne[0]), n = static_cast<int>(out.ne[1]);
  constexpr int G = together(thread_m);
  const bool vectors = haqa_aligned(out, 4 * G);
#pragma unroll
  for (int j = 0; j < thread_n; ++j) {
    const int column = first_n + row_of<thread_n, Y>(threadIdx.y, j);
    if (column >= n) continue;
    float* y = haqa_row(out, column);
#pragma unroll
    for (int i = 0; i < thread_m; i += G) {
      const int row = first_m + row_of<thread_m, X>(threadIdx.x, i);
      float v[G];
#pragma unroll
      for (int e = 0; e < G; ++e) v[e] = sums[i + e][j];
      if (vectors && row + G <= m) {
        haqa_store<G>(y + row, v);
      } else {
#pragma unroll
        for (int e = 0; e < G; ++e)
          if (row + e < m) y[row + e] = v[e];
      }
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(X* Y* Z)
    haqa_kernel(haqa_tensor in0, haqa_tensor in1, haqa_tensor, haqa_tensor out, haqa_scalars) {
  constexpr int V = vector_width;
  alignas(16) __shared__ float room[kRoom > kSums ? kRoom : kSums];
  const int block = blockIdx.y * gridDim.x + blockIdx.x;
  const int first_m = (block_order == m_first ? block % gridDim.x : block / gridDim.y) * M;
  const int first_n = (block_order == m_first ? block / gridDim.x : block % gridDim.y) * N;
  Sums sums = {};
  const bool whole_vectors = V > 1 && in0.ne[0] % V == 0 && haqa_aligned(in1, 4 * V) &&
                             (HAQA_WEIGHTS >= 2 || haqa_aligned(in0, (HAQA_WEIGHTS == 1 ? 2 : 4) * V));
  if (whole_vectors)
    accumulate<V, true>(sums, room, in0, in1, first_m, first_n);
  else
    accumulate<1, false>(sums, room, in0, in1, first_m, first_n);
  if constexpr (Z > 1) add_slices(sums, room);
  if (threadIdx.z == 0) write(sums, out, first_m, first_n);
}
