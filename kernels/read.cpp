// Reads the weights as fast as memory gives them, and does nothing else: what a product is measured against that must
// read them all. Not a kernel of its own: haqa-kernel times it in turn with one (kernel/measure.cpp).
#include "kernel.h"

#ifndef prefetch_near
#define prefetch_near 2048
#endif
#ifndef prefetch_far
#define prefetch_far 12288
#endif

typedef uint64_t Words __attribute__((vector_size(64), aligned(2), may_alias));

void haqa_kernel(const haqa_launch* launch) {
  const haqa_tensor& weights = launch->in[0];
  const int64_t bytes = weights.ne[1] * weights.nb[1], units = bytes / 512;
  haqa_share(launch, units, 8, haqa_static, [&](int64_t first, int64_t end) {
    const char* at = static_cast<const char*>(weights.data) + first * 512;
    Words sums[4] = {};
    for (int64_t i = first; i < end; ++i, at += 512) {
      for (int line = 0; line < 512; line += 64) {
        __builtin_prefetch(at + line + prefetch_far, 0, 2);
        __builtin_prefetch(at + line + prefetch_near, 0, 3);
        sums[line / 64 % 4] += *reinterpret_cast<const Words*>(at + line);
      }
    }
    const Words sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    uint64_t all = 0;
    for (int i = 0; i < 8; ++i) all += sum[i];
    static_cast<float*>(launch->out.data)[launch->thread % launch->out.ne[0]] = static_cast<float>(all);
  });
}
