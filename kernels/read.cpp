// Reads the weights as fast as memory gives them, and does nothing else: what a product is measured against that must
// read them all. Not a kernel of its own: haqa-kernel takes the fastest of several such loops, and times it in turn
// with one (kernel/measure.cpp).
#include "kernel.h"

// Bytes ahead that are fetched into L1, and into L2; 0: the processor's own prefetching alone.
#ifndef prefetch_near
#define prefetch_near 2048
#endif
#ifndef prefetch_far
#define prefetch_far 12288
#endif
// Parts of a thread's share that it reads side by side.
#ifndef streams
#define streams 1
#endif
// Threads take this many bytes in turn; 0: equal parts.
#ifndef chunk
#define chunk 0
#endif

typedef uint64_t Words __attribute__((vector_size(64), aligned(2), may_alias));

static constexpr int64_t kUnit = 512;

static inline void read_unit(const char* at, Words* sums) {
  for (int line = 0; line < kUnit; line += 64) {
    if (prefetch_far > 0) __builtin_prefetch(at + line + prefetch_far, 0, 2);
    if (prefetch_near > 0) __builtin_prefetch(at + line + prefetch_near, 0, 3);
    sums[line / 64 % 4] += *reinterpret_cast<const Words*>(at + line);
  }
}

void haqa_kernel(const haqa_launch* launch) {
  const haqa_tensor& weights = launch->in[0];
  const int64_t bytes = weights.ne[1] * weights.nb[1], units = bytes / kUnit;
  Words sums[4] = {};
  haqa_share(launch, units, chunk > 0 ? chunk / kUnit : 8, chunk > 0 ? haqa_chunks : haqa_static,
             [&](int64_t first, int64_t end) {
               const char* from = static_cast<const char*>(weights.data) + first * kUnit;
               const int64_t each = (end - first) / streams;
               for (int64_t i = 0; i < each; ++i)
                 for (int s = 0; s < streams; ++s) read_unit(from + (s * each + i) * kUnit, sums);
               for (int64_t i = each * streams; i < end - first; ++i) read_unit(from + i * kUnit, sums);
             });
  const Words sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  uint64_t all = 0;
  for (int i = 0; i < 8; ++i) all += sum[i];
  static_cast<float*>(launch->out.data)[launch->thread % launch->out.ne[0]] = static_cast<float>(all);
}
