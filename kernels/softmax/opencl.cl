// y = exp(x - the row's largest) / sum. A group's line of work-items shares a row; each keeps its first vectors of it.
#define placement_global_memory 0
#define placement_local_memory 1
#define placement_registers 2
#define PLACEMENT HAQA_CHOICE(placement_, placement)
#define passes_two 2
#define passes_three 3
#define exponential_exp 0
#define exponential_native 1

#if HAQA_CHOICE(exponential_, exponential) == exponential_native
#define EXP native_exp
#else
#define EXP exp
#endif

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
#define FOR_REST(column) for (int column = COLUMN(KEPT_VECTORS); column < n; column += block_size_x * vector_width)

__kernel void haqa_kernel(__global const float* in0, __global float* out, const haqa_shape s) {
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
    __global float* to = haqa_out_row(out, s.out, i1, i2);
    // Finite, so that a difference of two is a number.
    haqa_floats largest = -FLT_MAX, sum = 0;
#if HAQA_CHOICE(passes_, passes) == passes_two
#define ADD(value)                                              \
  const haqa_floats v = (value), grown = fmax(largest, v);      \
  sum = sum * EXP(largest - grown) + EXP(v - grown);            \
  largest = grown
    FOR_KEPT(k) {
      KEPT(k) = haqa_load_within(from, COLUMN(k), n, -INFINITY);
      ADD(KEPT(k));
    }
    FOR_REST(column) { ADD(haqa_load_within(from, column, n, -INFINITY)); }
    const float top = haqa_group_largest(haqa_largest(largest), room);
    sum *= EXP(largest - top);
    FOR_KEPT(k) KEPT(k) = EXP(KEPT(k) - top);
#else
    FOR_KEPT(k) {
      KEPT(k) = haqa_load_within(from, COLUMN(k), n, -INFINITY);
      largest = fmax(largest, KEPT(k));
    }
    FOR_REST(column) largest = fmax(largest, haqa_load_within(from, column, n, -INFINITY));
    const float top = haqa_group_largest(haqa_largest(largest), room);
    FOR_KEPT(k) {
      KEPT(k) = EXP(KEPT(k) - top);
      sum += KEPT(k);
    }
    FOR_REST(column) sum += EXP(haqa_load_within(from, column, n, -INFINITY) - top);
#endif
    const float factor = 1.0f / haqa_group_sum(haqa_sum(sum), room);
    if (line < rows) {
      FOR_KEPT(k) haqa_store_within(KEPT(k) * factor, to, COLUMN(k), n);
      FOR_REST(column) {
        haqa_store_within(EXP(haqa_load_within(from, column, n, -INFINITY) - top) * factor, to, column, n);
      }
    }
  }
}
