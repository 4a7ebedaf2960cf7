// Neighbouring pairs of each head turned by their token's position * theta_base^(-2 * pair / head size). A thread keeps
// to its pairs and goes on from head to head, so that an angle is worked out once for several heads.
//
// Positions go to 131072 and beyond, where a float no longer holds an angle. So a pair's frequency is a fraction of a
// turn in 64 bits; times the position, modulo 2^64, it is the fraction of a turn that is left, exactly.
#include "../cuda.h"

#ifndef block_size_x
#define block_size_x 64
#endif
#ifndef block_size_y
#define block_size_y 4
#endif
#ifndef block_size_z
#define block_size_z 1
#endif
#ifndef pairs_per_thread
#define pairs_per_thread 1
#endif
#ifndef heads_per_thread
#define heads_per_thread 4
#endif
#ifndef tokens_per_thread
#define tokens_per_thread 1
#endif
#ifndef fast_sine
#define fast_sine 0
#endif
#ifndef load_cache
#define load_cache normal
#endif

namespace {

enum { normal = haqa_normal, readonly = haqa_readonly, streaming = haqa_streaming };

/// Turns a position, as a fraction of 2^64.
__device__ __forceinline__ unsigned long long frequency(int pair, int width, float theta_base) {
  const double exponent = -2.0 * pair / width * log2(static_cast<double>(theta_base));
  const double turns = exp2(exponent) * 0.15915494309189533577;  // 1 / (2 pi)
  return static_cast<unsigned long long>(turns * 18446744073709551616.0);
}

__device__ __forceinline__ void sine_and_cosine(unsigned long long turn, float* sine, float* cosine) {
  const float half_turns = static_cast<int>(turn >> 32) * 0x1p-31f;  // from -1 to 1
  if constexpr (fast_sine)
    __sincosf(half_turns * 3.14159265358979f, sine, cosine);
  else
    sincospif(half_turns, sine, cosine);
}

/// `heads_per_thread` heads of one token, from `head` on every `step`th.
template <int P, bool vectors>
__device__ __forceinline__ void turn_heads(const haqa_tensor& in, const haqa_tensor& out, int column, int head,
                                           int step, int token, const float (&sine)[P], const float (&cosine)[P]) {
  constexpr int V = 2 * P;
  const int heads = static_cast<int>(out.ne[1]);
  const char* from = static_cast<const char*>(in.data) + token * in.nb[2] + 4 * column;
  char* to = static_cast<char*>(out.data) + token * out.nb[2] + 4 * column;
  float v[heads_per_thread][V];
#pragma unroll
  for (int i = 0; i < heads_per_thread; ++i)
    if (const int h = head + i * step; h < heads) {
      const float* x = reinterpret_cast<const float*>(from + h * in.nb[1]);
      if constexpr (vectors) {
        haqa_load<V, load_cache>(v[i], x);
      } else {
#pragma unroll
        for (int e = 0; e < V; ++e) v[i][e] = x[e];
      }
    }
#pragma unroll
  for (int i = 0; i < heads_per_thread; ++i)
    if (const int h = head + i * step; h < heads) {
      float turned[V];
#pragma unroll
      for (int p = 0; p < P; ++p) {
        turned[2 * p] = v[i][2 * p] * cosine[p] - v[i][2 * p + 1] * sine[p];
        turned[2 * p + 1] = v[i][2 * p] * sine[p] + v[i][2 * p + 1] * cosine[p];
      }
      float* y = reinterpret_cast<float*>(to + h * out.nb[1]);
      if constexpr (vectors) {
        haqa_store<V, load_cache>(y, turned);
      } else {
#pragma unroll
        for (int e = 0; e < V; ++e) y[e] = turned[e];
      }
    }
}

/// `P` pairs from `column` on, of this thread's heads and tokens.
template <int P, bool vectors>
__device__ __forceinline__ void rope(const haqa_tensor& in, const int* positions, const haqa_tensor& out,
                                     float theta_base, int column) {
  const int y = blockIdx.y * block_size_y + threadIdx.y, height = gridDim.y * block_size_y;
  const int z = blockIdx.z * block_size_z + threadIdx.z, depth = gridDim.z * block_size_z;
  const int width = static_cast<int>(out.ne[0]), heads = static_cast<int>(out.ne[1]),
            tokens = static_cast<int>(out.ne[2]);
  unsigned long long per_position[P];
#pragma unroll
  for (int p = 0; p < P; ++p) per_position[p] = frequency(column / 2 + p, width, theta_base);
  for (int token = z; token < tokens; token += depth) {
    const unsigned long long position = static_cast<unsigned long long>(static_cast<long long>(positions[token]));
    float sine[P], cosine[P];
#pragma unroll
    for (int p = 0; p < P; ++p) sine_and_cosine(per_position[p] * position, &sine[p], &cosine[p]);
    for (int head = y; head < heads; head += height * heads_per_thread)
      turn_heads<P, vectors>(in, out, column, head, height, token, sine, cosine);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(block_size_x* block_size_y* block_size_z)
    haqa_kernel(haqa_tensor in0, haqa_tensor in1, haqa_tensor, haqa_tensor out, haqa_scalars scalars) {
  constexpr int P = pairs_per_thread, V = 2 * P;
  const int* positions = static_cast<const int*>(in1.data);
  const int width = static_cast<int>(out.ne[0]), step = gridDim.x * block_size_x * V;
  const bool vectors = haqa_aligned(in0, 4 * V) && haqa_aligned(out, 4 * V);
  for (int column = (blockIdx.x * block_size_x + threadIdx.x) * V; column < width; column += step) {
    if (vectors && column + V <= width) {
      rope<P, true>(in0, positions, out, scalars.value[0], column);
    } else {
      for (int c = column; c < column + V && c < width; c += 2)
        rope<1, false>(in0, positions, out, scalars.value[0], c);
    }
  }
}
