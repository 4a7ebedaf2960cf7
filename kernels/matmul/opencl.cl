// c[m, n] = a[k, m] * b[k, n], of which the first dimension is contiguous: products of rows. A work-item computes tile_m x
// tile_n elements.
#define layout_row 0     // a as it comes; vectors lie along k
#define layout_column 1  // a transposed once beforehand; vectors lie along m
#define placement_global_memory 0
#define placement_local_memory 1
#define PLACEMENT HAQA_CHOICE(placement_, placement)
#define LAYOUT HAQA_CHOICE(layout_, weight_layout)

#if LAYOUT == layout_column
#define ROW_STEP vector_width  // rows of a that a vector holds
#define K_STEP 1
/// One work-item a row: packed is [m, k].
__kernel void haqa_pack(__global const float* raw, __global float* packed, const haqa_shape s) {
  const int k = s.in[0].ne[0], m = s.in[0].ne[1], row = (int)get_global_id(0);
  for (int i = 0; i < k; ++i) packed[(size_t)i * m + row] = raw[(size_t)row * k + i];
}
#else
#define ROW_STEP 1
#define K_STEP vector_width
#endif
#define ROW_VECTORS (tile_m / ROW_STEP)
/// An item's rows and columns lie apart, so that neighbouring items have neighbouring ones.
#define ROW(r) ((x + (r) * block_size_x) * ROW_STEP)
#define COLUMN(c) (y + (c) * block_size_y)

#if PLACEMENT == placement_local_memory
#define GROUP_ROWS (block_size_x * tile_m)
#define GROUP_COLUMNS (block_size_y * tile_n)
#define B_LINE (tile_k + tile_padding)
#if LAYOUT == layout_column
#define A_LINE (GROUP_ROWS + tile_padding)
#define A_ROOM (tile_k * A_LINE)
#else
#define A_LINE (tile_k + tile_padding)
#define A_ROOM (GROUP_ROWS * A_LINE)
#endif

/// What lies beyond either end of a matrix of `lines` lines of n floats is 0.
static inline haqa_floats inside(__global const float* matrix, int line, int lines, int column, int n) {
  if (line >= lines) return 0;
  return haqa_load_within(matrix + (size_t)line * n, column, n, 0);
}
#endif

__kernel void haqa_kernel(__global const float* in0, __global const float* in1, __global float* out, const haqa_shape s) {
  const int m = s.out.ne[0], n = s.out.ne[1], k = s.in[0].ne[0];
  const int x = get_local_id(0), y = get_local_id(1);
  const int first_row = (int)get_group_id(0) * block_size_x * tile_m, first_column = (int)get_group_id(1) * block_size_y * tile_n;
  __global const float* a = haqa_row(in0, s.in[0], 0, 0);
  haqa_floats sums[ROW_VECTORS][tile_n];
  for (int r = 0; r < ROW_VECTORS; ++r)
    for (int c = 0; c < tile_n; ++c) sums[r][c] = 0;

#if PLACEMENT == placement_local_memory
  __local float a_tile[A_ROOM], b_tile[GROUP_COLUMNS * B_LINE];
  const int item = y * block_size_x + x, items = block_size_x * block_size_y;
  for (int begin = 0; begin < k; begin += tile_k) {
    for (int i = item; i < GROUP_ROWS * tile_k / vector_width; i += items) {
#if LAYOUT == layout_column
      const int line = i / (GROUP_ROWS / vector_width), at = i % (GROUP_ROWS / vector_width) * vector_width;
      haqa_store_local(inside(a, begin + line, k, first_row + at, m), a_tile + line * A_LINE + at);
#else
      const int line = i / (tile_k / vector_width), at = i % (tile_k / vector_width) * vector_width;
      haqa_store_local(inside(a, first_row + line, m, begin + at, k), a_tile + line * A_LINE + at);
#endif
    }
    for (int i = item; i < GROUP_COLUMNS * tile_k / vector_width; i += items) {
      const int line = i / (tile_k / vector_width), at = i % (tile_k / vector_width) * vector_width;
      const int column = min(n - 1, first_column + line);
      haqa_store_local(haqa_load_within(haqa_row(in1, s.in[1], column, 0), begin + at, k, 0), b_tile + line * B_LINE + at);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll unroll_factor
    for (int i = 0; i < tile_k; i += K_STEP) {
      haqa_floats left[ROW_VECTORS];
      for (int r = 0; r < ROW_VECTORS; ++r) {
#if LAYOUT == layout_column
        left[r] = haqa_load_local(a_tile + i * A_LINE + ROW(r));
#else
        left[r] = haqa_load_local(a_tile + ROW(r) * A_LINE + i);
#endif
      }
      for (int c = 0; c < tile_n; ++c) {
#if LAYOUT == layout_column
        const float right = b_tile[COLUMN(c) * B_LINE + i];
#else
        const haqa_floats right = haqa_load_local(b_tile + COLUMN(c) * B_LINE + i);
#endif
        for (int r = 0; r < ROW_VECTORS; ++r) sums[r][c] += left[r] * right;
      }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
#else
  // Beyond the end the last row and column are taken once more, and not stored.
  __global const float* columns[tile_n];
  for (int c = 0; c < tile_n; ++c) columns[c] = haqa_row(in1, s.in[1], min(n - 1, first_column + COLUMN(c)), 0);
#if LAYOUT == layout_column
#pragma unroll unroll_factor
  for (int i = 0; i < k; ++i) {
    haqa_floats left[ROW_VECTORS];
    for (int r = 0; r < ROW_VECTORS; ++r) {
      const int row = min(m - 1, first_row + ROW(r));
      left[r] = haqa_load_within(a + (size_t)i * m, row, m, 0);
    }
    for (int c = 0; c < tile_n; ++c)
      for (int r = 0; r < ROW_VECTORS; ++r) sums[r][c] += left[r] * columns[c][i];
  }
#else
  __global const float* lines[ROW_VECTORS];
  for (int r = 0; r < ROW_VECTORS; ++r) lines[r] = a + (size_t)min(m - 1, first_row + ROW(r)) * k;
  const int whole = k / vector_width * vector_width;
#pragma unroll unroll_factor
  for (int i = 0; i < whole; i += vector_width) {
    haqa_floats right[tile_n];
    for (int c = 0; c < tile_n; ++c) right[c] = haqa_load(columns[c] + i);
    for (int r = 0; r < ROW_VECTORS; ++r) {
      const haqa_floats left = haqa_load(lines[r] + i);
      for (int c = 0; c < tile_n; ++c) sums[r][c] += left * right[c];
    }
  }
  if (whole < k)
    for (int r = 0; r < ROW_VECTORS; ++r)
      for (int c = 0; c < tile_n; ++c)
        sums[r][c] += haqa_load_within(lines[r], whole, k, 0) * haqa_load_within(columns[c], whole, k, 0);
#endif
#endif

  for (int c = 0; c < tile_n; ++c) {
    if (first_column + COLUMN(c) >= n) continue;
    __global float* to = haqa_out_row(out, s.out, first_column + COLUMN(c), 0);
    for (int r = 0; r < ROW_VECTORS; ++r) {
      const int row = first_row + ROW(r);
      if (row >= m) continue;
#if LAYOUT == layout_column
      haqa_store_within(sums[r][c], to, row, m);
#else
      to[row] = haqa_sum(sums[r][c]);
#endif
    }
  }
}
