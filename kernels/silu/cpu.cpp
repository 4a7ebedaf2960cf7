// y = x / (1 + exp(-x)), element by element.
#ifndef vector_width
#define vector_width 16
#endif
#ifndef unroll
#define unroll 4
#endif
#ifndef sharing
#define sharing static
#endif
#ifndef share_floats
#define share_floats 256
#endif
#ifndef prefetch
#define prefetch 16
#endif
#ifndef nontemporal
#define nontemporal 0
#endif
#ifndef exp_degree
#define exp_degree 5
#endif
#ifndef exponent
#define exponent scale
#endif
#ifndef division
#define division estimate
#endif
#include "../vector.h"

static inline Floats silu(Floats x) {
  return silu_of<exp_degree, HAQA_CHOICE(haqa_exponent_, exponent), HAQA_CHOICE(haqa_division_, division)>(x);
}

void haqa_kernel(const haqa_launch* launch) {
  const haqa_tensor &in = launch->in[0], &out = launch->out;
  share_elements(launch, is_contiguous(in) && is_contiguous(out), share_floats, HAQA_CHOICE(haqa_, sharing),
                 [&](int64_t i1, int64_t i2, int64_t first, int64_t n) {
                   const float* x = row(in, i1, i2) + first;
                   float* y = row_to_write(out, i1, i2) + first;
                   write_row<unroll, nontemporal>(y, n, [&](int64_t i, auto size, int) {
                     prefetch_after<prefetch>(x + i);
                     return silu(load(x + i, size));
                   });
                 });
  fence_after<nontemporal>();
}
