// c[SIZE][SIZE] = a transposed, in blocks; b is not used. make_grids.py includes this once for each variant with NAME
// and the tuning parameters defined. SIZE is a multiple of every block.
#if BUFFERED
_Static_assert(BLOCK_X * BLOCK_Y <= BUFFER_FLOATS, "a block exceeds its buffer");
#endif

static void NAME(block)(const float* a, float* c, int y, int x) {
#if BUFFERED  // rows in, columns out, through memory that is near
  static float buffer[BUFFER_FLOATS] __attribute__((aligned(64)));
  for (int i = 0; i < BLOCK_Y; ++i) __builtin_memcpy(buffer + i * BLOCK_X, a + (y + i) * SIZE + x, BLOCK_X * sizeof(float));
  const float* from = buffer;
  const int stride = BLOCK_X;
#else
  const float* from = a + y * SIZE + x;
  const int stride = SIZE;
#endif
#if WRITE_ROWS
  for (int j = 0; j < BLOCK_X; ++j) {
    if (PREFETCH) __builtin_prefetch(c + (x + j + PREFETCH) * SIZE + y, 1);
    UNROLLED(UNROLL)
    for (int i = 0; i < BLOCK_Y; ++i) c[(x + j) * SIZE + y + i] = from[i * stride + j];
  }
#else
  for (int i = 0; i < BLOCK_Y; ++i) {
    if (PREFETCH) __builtin_prefetch(from + (i + PREFETCH) * stride);
    UNROLLED(UNROLL)
    for (int j = 0; j < BLOCK_X; ++j) c[(x + j) * SIZE + y + i] = from[i * stride + j];
  }
#endif
}

void NAME(run)(const float* a, const float* b, float* c) {
  (void)b;
  for (int y = 0; y < SIZE; y += BLOCK_Y)
    for (int x = 0; x < SIZE; x += BLOCK_X) NAME(block)(a, c, y, x);
}
