// y = x / sqrt(mean of x^2 + eps) * w. A group's line of work-items shares a row; each keeps its first vectors of it.
#define placement_global_memory 0
#define placement_local_memory 1
#define placement_registers 2
#define PLACEMENT HAQA_CHOICE(placement_, placement)
#define root_exact 0
#define root_native 1

#if PLACEMENT == placement_global_memory
#define KEPT_VECTORS 0
#else
#define KEPT_VECTORS kept_vectors
#endif
#if PLACEMENT == placement_local_memory
#define KEPT(v) kept[(v) * block_size_x * block_size_y]
#else
#define KEPT(v) kept[v]
#endif
/// What an item has of its row: first those that it keeps, then the rest, where it loads.
#define COLUMN(v) ((x + (v) * block_size_x) * vector_width)
#define FOR_KEPT(v) for (int v = 0; v < KEPT_VECTORS; ++v) if (COLUMN(v) < n)

static inline float root(float mean) {
#if HAQA_CHOICE(root_, root_kind) == root_native
  return native_rsqrt(mean);
#else
  return 1.0f / sqrt(mean);
#endif
}

__kernel void haqa_kernel(__global const float* in0, __global const float* in1, __global float* out, const haqa_shape s, const float eps) {
  const int n = s.out.ne[0], rows = haqa_rows(s.out), x = get_local_id(0);
  __local float room[HAQA_GROUP_ROOM];
#if PLACEMENT == placement_local_memory
  __local haqa_floats all_kept[KEPT_VECTORS * block_size_x * block_size_y];
  __local haqa_floats* kept = all_kept + get_local_id(1) * block_size_x + x;
#else
  haqa_floats kept[KEPT_VECTORS + 1];
#endif
  for (int turn = 0; turn < rows_per_item; ++turn) {
    // Lines behind the last row do it again without storing, as all must come to the same barriers.
    const int line = (int)get_global_id(1) * rows_per_item + turn, row = min(line, rows - 1);
    const int i1 = row % s.out.ne[1], i2 = row / s.out.ne[1];
    __global const float* from = haqa_row(in0, s.in[0], i1, i2);
    __global const float* weights = haqa_row(in1, s.in[1], 0, 0);
    __global float* to = haqa_out_row(out, s.out, i1, i2);
    haqa_floats squares[square_sums];
    for (int j = 0; j < square_sums; ++j) squares[j] = 0;
    FOR_KEPT(k) {
      KEPT(k) = haqa_load_within(from, COLUMN(k), n, 0);
      squares[k % square_sums] += KEPT(k) * KEPT(k);
    }
    for (int v = KEPT_VECTORS; COLUMN(v) < n; v += square_sums) {
      for (int j = 0; j < square_sums; ++j) {
        if (COLUMN(v + j) >= n) break;
        const haqa_floats value = haqa_load_within(from, COLUMN(v + j), n, 0);
        squares[j] += value * value;
      }
    }
    for (int j = 1; j < square_sums; ++j) squares[0] += squares[j];
    const float factor = root(haqa_group_sum(haqa_sum(squares[0]), room) / n + eps);
    if (line < rows) {
      FOR_KEPT(k) haqa_store_within(KEPT(k) * factor * haqa_load_within(weights, COLUMN(k), n, 0), to, COLUMN(k), n);
      for (int v = KEPT_VECTORS; COLUMN(v) < n; ++v) {
        const haqa_floats scaled = haqa_load_within(from, COLUMN(v), n, 0) * factor;
        haqa_store_within(scaled * haqa_load_within(weights, COLUMN(v), n, 0), to, COLUMN(v), n);
      }
    }
  }
}
