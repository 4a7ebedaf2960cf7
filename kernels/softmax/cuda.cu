// y = exp(x - max x) / sum, along the first dimension. block_size_x threads share a row, which is read once where it
// fits into registers or shared memory; block_size_y rows are a block's.
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
#define registers_per_thread 8
#endif
#ifndef shared_row
#define shared_row 4096
#endif
#ifndef online
#define online 1
#endif
#ifndef loop_unroll
#define loop_unroll 2
#endif
#ifndef fast_exp
#define fast_exp 1
#endif
#ifndef load_cache
#define load_cache normal
#endif

namespace {

enum { global = haqa_global, registers = haqa_registers, shared = haqa_shared };
enum { normal = haqa_normal, readonly = haqa_readonly, streaming = haqa_streaming };

constexpr int X = block_size_x, Y = block_size_y;
constexpr int kRoom = placement == registers ? registers_per_thread : shared_row;

__device__ __forceinline__ float power(float x) {
  return fast_exp ? __expf(x) : expf(x);
}

/// The sum of exponentials below the largest value, which grows as it is found.
struct Online {
  float largest = -haqa_infinity(), sum = 0;
  __device__ __forceinline__ void add(float x) {
    if (x > largest) {
      sum *= power(largest - x);  // 0 the first time
      largest = x;
    }
    sum += x == -haqa_infinity() ? 0.0f : power(x - largest);
  }
};

/// In two passes over the row, the largest value and the sum of exponentials in one.
template <typename Share, int V>
__device__ __forceinline__ void softmax_online(Share& share, float* y, bool active) {
  Online part;
  share.template each<true, false>([&](float(&v)[V], int) {
#pragma unroll
    for (int e = 0; e < V; ++e) part.add(v[e]);
  });
  const float largest = haqa_reduce<X, Y>(part.largest, haqa_max());
  const float mine = part.largest == -haqa_infinity() ? 0.0f : part.sum * power(part.largest - largest);
  const float factor = 1 / haqa_reduce<X, Y>(mine, haqa_sum());
  share.template each<false, true>([&](float(&v)[V], int c) {
#pragma unroll
    for (int e = 0; e < V; ++e) v[e] = power(v[e] - largest) * factor;
    if (active) haqa_store<V, load_cache>(y + c, v);
  });
}

/// In three passes: exponentials are kept where the row is.
template <typename Share, int V, int where>
__device__ __forceinline__ void softmax_kept(Share& share, float* y, bool active) {
  float largest = -haqa_infinity(), sum = 0;
  share.template each<true, false>([&](float(&v)[V], int) {
#pragma unroll
    for (int e = 0; e < V; ++e) largest = fmaxf(largest, v[e]);
  });
  largest = haqa_reduce<X, Y>(largest, haqa_max());
  share.template each<false, false>([&](float(&v)[V], int) {
#pragma unroll
    for (int e = 0; e < V; ++e) sum += v[e] = power(v[e] - largest);
  });
  const float factor = 1 / haqa_reduce<X, Y>(sum, haqa_sum());
  share.template each<false, true>([&](float(&v)[V], int c) {
    float out[V];
#pragma unroll
    for (int e = 0; e < V; ++e) out[e] = (where == global ? power(v[e] - largest) : v[e]) * factor;
    if (active) haqa_store<V, load_cache>(y + c, out);
  });
}

template <int V, int where>
__device__ __forceinline__ void softmax_rows(const haqa_tensor& in, const haqa_tensor& out, float* room) {
  using Share = haqa_share<X, V, where, kRoom, load_cache, loop_unroll>;
  const unsigned rows = static_cast<unsigned>(out.ne[1] * out.ne[2]);
  for (unsigned base = blockIdx.x * Y; base < rows; base += gridDim.x * Y) {
    const bool active = base + threadIdx.y < rows;
    const unsigned row = active ? base + threadIdx.y : rows - 1;  // all come to the reductions
    Share share{haqa_row<const float>(in, row), room + threadIdx.y * kRoom, static_cast<int>(out.ne[0])};
    if constexpr (online)
      softmax_online<Share, V>(share, haqa_row(out, row), active);
    else
      softmax_kept<Share, V, where>(share, haqa_row(out, row), active);
  }
}

template <int V>
__device__ __forceinline__ void softmax(const haqa_tensor& in, const haqa_tensor& out, float* room) {
  const int n = static_cast<int>(out.ne[0]);
  if (haqa_share<X, V, placement, kRoom, load_cache, loop_unroll>::fits(n))
    softmax_rows<V, placement>(in, out, room);
  else
    softmax_rows<V, global>(in, out, room);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(X* Y)
    haqa_kernel(haqa_tensor in0, haqa_tensor, haqa_tensor, haqa_tensor out, haqa_scalars) {
  constexpr int V = vector_width;
  alignas(16) __shared__ float room[placement == shared ? Y * kRoom : 4];
  if (V > 1 && out.ne[0] % V == 0 && haqa_aligned(in0, 4 * V) && haqa_aligned(out, 4 * V))
    softmax<V>(in0, out, room);
  else
    softmax<1>(in0, out, room);
}
