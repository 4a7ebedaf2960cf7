// y = a / (1 + exp(-a)) * b. A work-item computes vectors_per_item vectors of each of rows_per_item rows.
#define order_near 0  // one item's vectors lie side by side
#define order_far 1   // vectors of neighbouring items do
#define exponential_exp 0
#define exponential_native 1

static inline haqa_floats sigmoid(haqa_floats x) {
#if HAQA_CHOICE(exponential_, exponential) == exponential_native
  return 1.0f / (1.0f + native_exp(-x));
#else
  return 1.0f / (1.0f + exp(-x));
#endif
}

__kernel void haqa_kernel(__global const float* in0, __global const float* in1, __global float* out, const haqa_shape s) {
  const int n = s.out.ne[0], rows = haqa_rows(s.out), first = (int)get_global_id(1) * rows_per_item;
#if HAQA_CHOICE(order_, item_order) == order_near
  const int begin = (int)get_global_id(0) * vectors_per_item, step = 1;
#else
  const int begin = (int)(get_group_id(0) * block_size_x * vectors_per_item + get_local_id(0)), step = block_size_x;
#endif
  for (int r = first; r < min(rows, first + rows_per_item); ++r) {
    const int i1 = r % s.out.ne[1], i2 = r / s.out.ne[1];
    __global const float *a = haqa_row(in0, s.in[0], i1, i2), *b = haqa_row(in1, s.in[1], i1, i2);
    __global float* y = haqa_out_row(out, s.out, i1, i2);
#pragma unroll
    for (int v = 0; v < vectors_per_item; ++v) {
      const int column = (begin + v * step) * vector_width;
      if (column >= n) break;
      const haqa_floats value = haqa_load_within(a, column, n, 0);
      haqa_store_within(value * sigmoid(value) * haqa_load_within(b, column, n, 0), y, column, n);
    }
  }
}
