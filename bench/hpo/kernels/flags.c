// A program with something for every kind of optimization: c[0], c[1] and c[2] are the results of bodies that attract
// each other, of a sort, and of a table of text-like hashes. a holds SIZE * SIZE numbers from -1 to 1.
typedef struct { float x, y, z, vx, vy, vz; } NAME(body);

static float NAME(inverse_cube)(float dx, float dy, float dz) {
  const float square = dx * dx + dy * dy + dz * dz + 0.01f;
  return 1.0f / (square * __builtin_sqrtf(square));
}

static float NAME(bodies)(const float* a) {
  enum { count = 96 };
  NAME(body) all[count];
  for (int i = 0; i < count; ++i) all[i] = (NAME(body)){a[3 * i], a[3 * i + 1], a[3 * i + 2], 0, 0, 0};
  for (int step = 0; step < 6; ++step) {
    for (int i = 0; i < count; ++i)
      for (int j = 0; j < count; ++j) {
        const float dx = all[j].x - all[i].x, dy = all[j].y - all[i].y, dz = all[j].z - all[i].z;
        const float pull = 1e-4f * NAME(inverse_cube)(dx, dy, dz);
        all[i].vx += pull * dx, all[i].vy += pull * dy, all[i].vz += pull * dz;
      }
    for (int i = 0; i < count; ++i) all[i].x += 0.01f * all[i].vx, all[i].y += 0.01f * all[i].vy, all[i].z += 0.01f * all[i].vz;
  }
  float energy = 0;
  for (int i = 0; i < count; ++i) energy += all[i].vx * all[i].vx + all[i].vy * all[i].vy + all[i].vz * all[i].vz;
  return energy;
}

static int NAME(less)(float x, float y) { return x < y; }

static float NAME(sorted_median)(const float* a, float* scratch) {
  enum { count = 4096 };
  for (int i = 0; i < count; ++i) scratch[i] = a[i];
  for (int gap = count / 2; gap; gap /= 2)
    for (int i = gap; i < count; ++i) {
      const float moved = scratch[i];
      int j = i;
      for (; j >= gap && NAME(less)(moved, scratch[j - gap]); j -= gap) scratch[j] = scratch[j - gap];
      scratch[j] = moved;
    }
  return scratch[count / 2];
}

static unsigned NAME(hash)(unsigned h, unsigned char byte) { return (h ^ byte) * 16777619u; }

static float NAME(hashes)(const float* a) {
  unsigned char table[256] = {0};
  for (int i = 0; i < 4096; ++i) {
    unsigned h = 2166136261u;
    const int number = (int)(a[i] * 1e6f);
    for (int b = 0; b < 4; ++b) h = NAME(hash)(h, (unsigned char)(number >> 8 * b));
    table[h & 255] = (unsigned char)(table[h & 255] + h % 7);
  }
  int sum = 0;
  for (int i = 0; i < 256; ++i) sum += table[i] * (i & 15);
  return (float)sum;
}

static float NAME(reduce)(const float* a) {
  float sum = 0;
  for (int round = 0; round < 4; ++round)
    for (int i = 0; i < 16384; ++i) sum += a[i] * a[i] * 0.25f;
  return sum;
}

void NAME(run)(const float* a, const float* b, float* c) {
  (void)b;
  c[0] = NAME(bodies)(a);
  c[1] = NAME(sorted_median)(a, c + 16);
  c[2] = NAME(hashes)(a);
  c[3] = NAME(reduce)(a);
}
