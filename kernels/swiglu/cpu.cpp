// y = silu(a) * b with silu(a) = a / (1 + exp(-a)), element by element.
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

static inline Floats silu(Floats a) {
  return silu_of<exp_degree, HAQA_CHOICE(haqa_exponent_, exponent), HAQA_CHOICE(haqa_division_, division)>(a);
}

void haqa_kernel(const haqa_launch* launch) {
  const haqa_tensor &gate = launch->in[0], &up = launch->in[1], &out = launch->out;
  share_elements(launch, is_contiguous(gate) && is_contiguous(up) && is_contiguous(out), share_floats,
                 HAQA_CHOICE(haqa_, sharing), [&](int64_t i1, int64_t i2, int64_t first, int64_t n) {
                   const float *a = row(gate, i1, i2) + first, *b = row(up, i1, i2) + first;
                   float* y = row_to_write(out, i1, i2) + first;
                   write_row<unroll, nontemporal>(y, n, [&](int64_t i, auto size, int) {
                     prefetch_after<prefetch>(a + i);
                     prefetch_after<prefetch>(b + i);
                     return silu(load(a + i, size)) * load(b + i, size);
                   });
                 });
  fence_after<nontemporal>();
}
