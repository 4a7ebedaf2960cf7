// c[SIZE][SIZE] = a * b in floats, in tiles. make_grids.py includes this once for each variant with NAME and the
// tuning parameters defined. SIZE is a multiple of every tile.
typedef float NAME(vector) __attribute__((vector_size(4 * VECTOR_WIDTH), aligned(4)));

#if PACKING
_Static_assert(TILE_K * TILE_N <= PACKED_FLOATS, "a packed tile of b exceeds its buffer");
#endif

static void NAME(tile)(const float* a, const float* b, float* c, int m, int n, int k) {
#if PACKING
  static float packed[PACKED_FLOATS] __attribute__((aligned(64)));
  for (int z = 0; z < TILE_K; ++z)
    __builtin_memcpy(packed + z * TILE_N, b + (k + z) * SIZE + n, TILE_N * sizeof(float));
  const float* from = packed;
  const int stride = TILE_N;
#else
  const float* from = b + k * SIZE + n;
  const int stride = SIZE;
#endif
  for (int i = m; i < m + TILE_M; i += ROWS)
    for (int j = 0; j < TILE_N; j += VECTOR_WIDTH) {
      NAME(vector) sum[ROWS];
      for (int r = 0; r < ROWS; ++r) sum[r] = *(const NAME(vector)*)(c + (i + r) * SIZE + n + j);
      UNROLLED(UNROLL)
      for (int z = 0; z < TILE_K; ++z) {
        const NAME(vector) row = *(const NAME(vector)*)(from + z * stride + j);
        for (int r = 0; r < ROWS; ++r) sum[r] += a[(i + r) * SIZE + k + z] * row;
      }
      for (int r = 0; r < ROWS; ++r) *(NAME(vector)*)(c + (i + r) * SIZE + n + j) = sum[r];
    }
}

#define LOOP_M for (int m = 0; m < SIZE; m += TILE_M)
#define LOOP_N for (int n = 0; n < SIZE; n += TILE_N)
#define LOOP_K for (int k = 0; k < SIZE; k += TILE_K)

void NAME(run)(const float* a, const float* b, float* c) {
  __builtin_memset(c, 0, SIZE * SIZE * sizeof(float));
  LOOP_1 LOOP_2 LOOP_3 NAME(tile)(a, b, c, m, n, k);
}
#undef LOOP_M
#undef LOOP_N
#undef LOOP_K
