// y = x / (1 + exp(-x)), element by element. Without gaps between rows all is one row, which the whole grid shares.
#include "../cuda.h"

#ifndef block_size_x
#define block_size_x 256
#endif
#ifndef block_size_y
#define block_size_y 1
#endif
#ifndef vector_width
#define vector_width 4
#endif
#ifndef per_thread
#define per_thread 1
#endif
#ifndef fast_exp
#define fast_exp 1
#endif
#ifndef load_cache
#define load_cache normal
#endif

namespace {

enum { normal = haqa_normal, readonly = haqa_readonly, streaming = haqa_streaming };

__device__ __forceinline__ float silu(float x) {
  return fast_exp ? __fdividef(x, 1 + __expf(-x)) : x / (1 + expf(-x));  // 0 where the exponential is beyond 2^126
}

/// From vector `first` of a row on every `step`th, `per_thread` of them at once.
template <int V>
__device__ __forceinline__ void silu_row(const float* x, float* y, int n, int first, int step) {
  for (int begin = first * V; begin < n; begin += step * V * per_thread) {
    float v[per_thread][V];
#pragma unroll
    for (int i = 0; i < per_thread; ++i)
      if (const int c = begin + i * step * V; c + V <= n) haqa_load<V, load_cache>(v[i], x + c);
#pragma unroll
    for (int i = 0; i < per_thread; ++i) {
      const int c = begin + i * step * V;
#pragma unroll
      for (int e = 0; e < V; ++e) v[i][e] = silu(v[i][e]);
      if (c + V <= n) {
        haqa_store<V, load_cache>(y + c, v[i]);
      } else {
        for (int e = c; e < n; ++e) y[e] = silu(x[e]);
      }
    }
  }
}

template <int V>
__device__ __forceinline__ void silu(const haqa_tensor& in, const haqa_tensor& out, bool whole) {
  const int x = blockIdx.x * block_size_x + threadIdx.x, width = gridDim.x * block_size_x;
  const int y = blockIdx.y * block_size_y + threadIdx.y, height = gridDim.y * block_size_y;
  const int rows = static_cast<int>(out.ne[1] * out.ne[2]), n = static_cast<int>(out.ne[0]);
  if (whole)
    return silu_row<V>(haqa_row<const float>(in, 0), haqa_row(out, 0), n * rows, y * width + x, width * height);
  for (int row = y; row < rows; row += height)
    silu_row<V>(haqa_row<const float>(in, row), haqa_row(out, row), n, x, width);
}

__device__ __forceinline__ bool aligned(const haqa_tensor& t, bool whole, int bytes) {
  return whole ? reinterpret_cast<unsigned long long>(t.data) % bytes == 0 : haqa_aligned(t, bytes);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(block_size_x* block_size_y)
    haqa_kernel(haqa_tensor in0, haqa_tensor, haqa_tensor, haqa_tensor out, haqa_scalars) {
  constexpr int V = vector_width, bytes = 4 * V;
  const bool whole = haqa_contiguous(in0) && haqa_contiguous(out);
  if (V > 1 && aligned(in0, whole, bytes) && aligned(out, whole, bytes))
    silu<V>(in0, out, whole);
  else
    silu<1>(in0, out, whole);
}
