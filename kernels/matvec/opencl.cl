// c[m, n] = a[k, m] * b[k, n] for few columns n, with weights a as llama.cpp stores them (HAQA_WEIGHTS: 1 F16, 2 Q8_0, 3
// Q4_0). A group's line of work-items shares a row: each multiplies every block_size_x-th block of 32 weights.
#define placement_global_memory 0
#define placement_local_memory 1
#define PLACEMENT HAQA_CHOICE(placement_, placement)
#define layout_blocks 0  // the scale of each block before its numbers
#define layout_apart 1   // all scales of a row before all its numbers, laid out once beforehand
#define PARTS (32 / vector_width)

#if HAQA_WEIGHTS == 1
#define NUMBERS 64  // bytes of a block without its scale
#elif HAQA_WEIGHTS == 2
#define NUMBERS 32
#else
#define NUMBERS 16
#endif
#define IS_APART (HAQA_WEIGHTS != 1 && HAQA_CHOICE(layout_, weight_layout) == layout_apart)

#if IS_APART
/// One work-item a row.
__kernel void haqa_pack(__global const uchar* raw, __global uchar* packed, const haqa_shape s) {
  const int blocks = s.in[0].ne[0] / 32;
  const size_t row = get_global_id(0) * (size_t)s.in[0].nb[1];
  for (int b = 0; b < blocks; ++b) {
    __global const uchar* from = raw + row + (size_t)b * (NUMBERS + 2);
    for (int i = 0; i < 2; ++i) packed[row + 2 * b + i] = from[i];
    for (int i = 0; i < NUMBERS; ++i) packed[row + 2 * blocks + (size_t)b * NUMBERS + i] = from[2 + i];
  }
}
#endif

/// The numbers of a block, where its scale is as well.
static inline __global const uchar* numbers_of(__global const uchar* row, int blocks, int b) {
#if HAQA_WEIGHTS == 1
  return row + (size_t)b * NUMBERS;
#elif IS_APART
  return row + 2 * blocks + (size_t)b * NUMBERS;
#else
  return row + (size_t)b * (NUMBERS + 2) + 2;
#endif
}
static inline float scale_of(__global const uchar* row, int b) {
#if HAQA_WEIGHTS == 1
  return 1;
#elif IS_APART
  return vload_half(b, (__global const half*)row);
#else
  return vload_half(0, (__global const half*)(row + (size_t)b * (NUMBERS + 2)));
#endif
}

/// Weights from part * vector_width on.
static inline haqa_floats weights_of(__global const uchar* numbers, int part) {
#if HAQA_WEIGHTS == 1
  return HAQA_JOIN(vload_half, vector_width)(part, (__global const half*)numbers);
#elif HAQA_WEIGHTS == 2
  return HAQA_JOIN(convert_float, vector_width)(HAQA_JOIN(vload, vector_width)(part, (__global const char*)numbers));
#else
  const HAQA_JOIN(uchar, vector_width) pairs = HAQA_JOIN(vload, vector_width)(part % (PARTS / 2), numbers);
  return HAQA_JOIN(convert_float, vector_width)(part < PARTS / 2 ? pairs & (uchar)15 : pairs >> (uchar)4) - 8.0f;
#endif
}

__kernel void haqa_kernel(__global const uchar* in0, __global const float* in1, __global float* out, const haqa_shape s) {
  const int m = s.out.ne[0], n = s.out.ne[1], k = s.in[0].ne[0], blocks = k / 32;
  const int x = get_local_id(0), first_row = (int)get_global_id(1) * rows_per_item;
  const int first_column = (int)get_global_id(2) * columns_per_item;
  __local float room[HAQA_GROUP_ROOM];
  // Beyond the end the last row and column are taken once more, and not stored.
  __global const uchar* rows[rows_per_item];
  __global const float* columns[columns_per_item];
  for (int r = 0; r < rows_per_item; ++r) rows[r] = haqa_bytes(in0, s.in[0], min(m - 1, first_row + r), 0);
  for (int c = 0; c < columns_per_item; ++c) columns[c] = haqa_row(in1, s.in[1], min(n - 1, first_column + c), 0);
  haqa_floats sums[rows_per_item][columns_per_item];
  for (int r = 0; r < rows_per_item; ++r)
    for (int c = 0; c < columns_per_item; ++c) sums[r][c] = 0;

#if PLACEMENT == placement_local_memory
  __local float staged[columns_per_item][block_size_x * 32];
  const int item = get_local_id(1) * block_size_x + x;
#else
#pragma unroll unroll_factor
#endif
  for (int begin = 0; begin < blocks; begin += block_size_x) {
    const int b = begin + x;
#if PLACEMENT == placement_local_memory
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int c = 0; c < columns_per_item; ++c)
      for (int i = item * vector_width; i < block_size_x * 32; i += block_size_x * block_size_y * vector_width)
        haqa_store_local(haqa_load_within(columns[c], begin * 32 + i, k, 0), staged[c] + i);
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    if (b < blocks) {
      haqa_floats products[rows_per_item][columns_per_item];
      __global const uchar* numbers[rows_per_item];
      for (int r = 0; r < rows_per_item; ++r) {
        numbers[r] = numbers_of(rows[r], blocks, b);
#if prefetch_distance > 0
        if (b + prefetch_distance * block_size_x < blocks)
          prefetch(numbers_of(rows[r], blocks, b + prefetch_distance * block_size_x), (size_t)NUMBERS);
#endif
        for (int c = 0; c < columns_per_item; ++c) products[r][c] = 0;
      }
#pragma unroll
      for (int part = 0; part < PARTS; ++part) {
        haqa_floats right[columns_per_item];
        for (int c = 0; c < columns_per_item; ++c) {
#if PLACEMENT == placement_local_memory
          right[c] = haqa_load_local(staged[c] + x * 32 + part * vector_width);
#else
          right[c] = haqa_load(columns[c] + b * 32 + part * vector_width);
#endif
        }
        for (int r = 0; r < rows_per_item; ++r) {
          const haqa_floats left = weights_of(numbers[r], part);
          for (int c = 0; c < columns_per_item; ++c) products[r][c] += left * right[c];
        }
      }
      for (int r = 0; r < rows_per_item; ++r) {
        const float scale = scale_of(rows[r], b);
        for (int c = 0; c < columns_per_item; ++c) sums[r][c] += products[r][c] * scale;
      }
    }
  }
  for (int r = 0; r < rows_per_item; ++r)
    for (int c = 0; c < columns_per_item; ++c) {
      float sum = haqa_sum(sums[r][c]);
#if HAQA_WEIGHTS == 1
      // Rows of halves need not be whole blocks.
      if (x == 0)
        for (int i = blocks * 32; i < k; ++i) sum += vload_half(i, (__global const half*)rows[r]) * columns[c][i];
#endif
      sum = haqa_group_sum(sum, room);
      if (x == 0 && first_row + r < m && first_column + c < n)
        haqa_out_row(out, s.out, first_column + c, 0)[first_row + r] = sum;
    }
}
