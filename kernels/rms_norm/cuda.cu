// y = x / sqrt(mean x^2 + eps), along the first dimension. block_size_x threads share a row, which is read once where
// it fits into registers or shared memory; block_size_y rows are a block's.
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
#ifndef placement
#define placement registers
#endif
#ifndef registers_per_thread
#define registers_per_thread 16
#endif
#ifndef shared_row
#define shared_row 4096
#endif
#ifndef loop_unroll
#define loop_unroll 2
#endif
#ifndef load_cache
#define load_cache normal
#endif

namespace {

enum { global = haqa_global, registers = haqa_registers, shared = haqa_shared };
enum { normal = haqa_normal, readonly = haqa_readonly, streaming = haqa_streaming };

constexpr int X = block_size_x, Y = block_size_y;
constexpr int kRoom = placement == registers ? registers_per_thread : shared_row;

template <int V, int where>
__device__ __forceinline__ void norm_rows(const haqa_tensor& in, const haqa_tensor& out, float eps, float* room) {
  const int n = static_cast<int>(out.ne[0]);
  const unsigned rows = static_cast<unsigned>(out.ne[1] * out.ne[2]);
  for (unsigned base = blockIdx.x * Y; base < rows; base += gridDim.x * Y) {
    const bool active = base + threadIdx.y < rows;
    const unsigned row = active ? base + threadIdx.y : rows - 1;  // all come to the reduction
    haqa_share<X, V, where, kRoom, load_cache, loop_unroll> share{haqa_row<const float>(in, row),
                                                                  room + threadIdx.y * kRoom, n};
    float squares = 0;
    share.template each<true, false>([&](float(&v)[V], int) {
      float part = 0;  // of a few, so that a long row rounds less
#pragma unroll
      for (int e = 0; e < V; ++e) part += v[e] * v[e];
      squares += part;
    });
    const float factor = 1 / sqrtf(haqa_reduce<X, Y>(squares, haqa_sum()) / n + eps);
    float* y = haqa_row(out, row);
    share.template each<false, true>([&](float(&v)[V], int c) {
#pragma unroll
      for (int e = 0; e < V; ++e) v[e] = v[e] * factor;
      if (active) haqa_store<V, load_cache>(y + c, v);
    });
  }
}

template <int V>
__device__ __forceinline__ void norm(const haqa_tensor& in, const haqa_tensor& out, float eps, float* room) {
  const int n = static_cast<int>(out.ne[0]);
  if (haqa_share<X, V, placement, kRoom, load_cache, loop_unroll>::fits(n))
    norm_rows<V, placement>(in, out, eps, room);
  else
    norm_rows<V, global>(in, out, eps, room);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(X* Y)
    haqa_kernel(haqa_tensor in0, haqa_tensor, haqa_tensor, haqa_tensor out, haqa_scalars scalars) {
  constexpr int V = vector_width;
  alignas(16) __shared__ float room[placement == shared ? Y * kRoom : 4];
  if (V > 1 && out.ne[0] % V == 0 && haqa_aligned(in0, 4 * V) && haqa_aligned(out, 4 * V))
    norm<V>(in0, out, scalars.value[0], room);
  else
    norm<1>(in0, out, scalars.value[0], room);
}
