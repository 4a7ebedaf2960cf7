// What an OpenCL kernel is given. This stands before every source, after the macros of its tuning parameters; the
// source defines
//   __kernel void haqa_kernel(__global const T* in0, ..., __global float* out, const haqa_shape shape, float scalar0, ...)
// with as many inputs and scalars as the specification has. The pointers are to the beginning of buffers; a tensor
// begins `offset` bytes behind it, which the functions below add.

/// As in ggml: ne[0] is the contiguous dimension, nb are the strides in bytes.
typedef struct {
  int ne[3];
  int nb[3];
  uint offset;
} haqa_tensor;

typedef struct {
  haqa_tensor in[3], out;
} haqa_shape;

/// The first byte of row [i1, i2].
static inline __global const uchar* haqa_bytes(__global const void* buffer, haqa_tensor t, int i1, int i2) {
  return (__global const uchar*)buffer + t.offset + (size_t)i1 * t.nb[1] + (size_t)i2 * t.nb[2];
}
static inline __global const float* haqa_row(__global const void* buffer, haqa_tensor t, int i1, int i2) {
  return (__global const float*)haqa_bytes(buffer, t, i1, i2);
}
static inline __global float* haqa_out_row(__global void* buffer, haqa_tensor t, int i1, int i2) {
  return (__global float*)((__global uchar*)buffer + t.offset + (size_t)i1 * t.nb[1] + (size_t)i2 * t.nb[2]);
}
static inline int haqa_rows(haqa_tensor t) { return t.ne[1] * t.ne[2]; }

#define HAQA_JOIN_(a, b) a##b
#define HAQA_JOIN(a, b) HAQA_JOIN_(a, b)
/// The value of a parameter that is a name: with "#define order_near 0" and item_order=near, HAQA_CHOICE(order_, item_order) is 0.
#define HAQA_CHOICE(prefix, parameter) HAQA_JOIN(prefix, parameter)

// Vectors of vector_width floats, and what is done along one.
#ifdef vector_width
#if vector_width == 1
typedef float haqa_floats;
static inline haqa_floats haqa_load(__global const float* from) { return *from; }
static inline void haqa_store(haqa_floats value, __global float* to) { *to = value; }
static inline haqa_floats haqa_load_local(__local const float* from) { return *from; }
static inline void haqa_store_local(haqa_floats value, __local float* to) { *to = value; }
static inline float haqa_sum(haqa_floats v) { return v; }
static inline float haqa_largest(haqa_floats v) { return v; }
#else
typedef HAQA_JOIN(float, vector_width) haqa_floats;
static inline haqa_floats haqa_load(__global const float* from) { return HAQA_JOIN(vload, vector_width)(0, from); }
static inline void haqa_store(haqa_floats v, __global float* to) { HAQA_JOIN(vstore, vector_width)(v, 0, to); }
static inline haqa_floats haqa_load_local(__local const float* from) { return HAQA_JOIN(vload, vector_width)(0, from); }
static inline void haqa_store_local(haqa_floats v, __local float* to) { HAQA_JOIN(vstore, vector_width)(v, 0, to); }
static inline float haqa_sum2(float2 v) { return v.x + v.y; }
static inline float haqa_sum4(float4 v) { return haqa_sum2(v.lo + v.hi); }
static inline float haqa_sum8(float8 v) { return haqa_sum4(v.lo + v.hi); }
static inline float haqa_sum16(float16 v) { return haqa_sum8(v.lo + v.hi); }
static inline float haqa_largest2(float2 v) { return fmax(v.x, v.y); }
static inline float haqa_largest4(float4 v) { return haqa_largest2(fmax(v.lo, v.hi)); }
static inline float haqa_largest8(float8 v) { return haqa_largest4(fmax(v.lo, v.hi)); }
static inline float haqa_largest16(float16 v) { return haqa_largest8(fmax(v.lo, v.hi)); }
static inline float haqa_sum(haqa_floats v) { return HAQA_JOIN(haqa_sum, vector_width)(v); }
static inline float haqa_largest(haqa_floats v) { return HAQA_JOIN(haqa_largest, vector_width)(v); }
#endif

/// Elements from `column` on of a row of n, as far as there are any, and else `otherwise`.
static inline haqa_floats haqa_load_within(__global const float* row, int column, int n, float otherwise) {
  if (column + vector_width <= n) return haqa_load(row + column);
  union {
    haqa_floats vector;
    float one[vector_width];
  } v;
  v.vector = otherwise;
  for (int i = 0; column + i < n; ++i) v.one[i] = row[column + i];
  return v.vector;
}
static inline void haqa_store_within(haqa_floats value, __global float* row, int column, int n) {
  if (column + vector_width <= n) {
    haqa_store(value, row + column);
    return;
  }
  union {
    haqa_floats vector;
    float one[vector_width];
  } v;
  v.vector = value;
  for (int i = 0; column + i < n; ++i) row[column + i] = v.one[i];
}
#endif

// One number of all work-items that are side by side in the x of a work-group; each line of them works on its own. All
// items must call them. `room` is local memory of block_size_x * block_size_y floats.
#ifdef block_size_x
#if block_size_x == 1
#define HAQA_GROUP_ROOM 1
static inline float haqa_group_sum(float value, __local float* room) { return value; }
static inline float haqa_group_largest(float value, __local float* room) { return value; }
#else
#ifndef block_size_y
#define block_size_y 1
#endif
#define HAQA_GROUP_ROOM (block_size_x * block_size_y)
/// The items' numbers halve until one is left; block_size_x is a power of two.
static inline float haqa_group_sum(float value, __local float* room) {
  const int x = get_local_id(0);
  __local float* line = room + get_local_id(1) * block_size_x;
  line[x] = value;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int step = block_size_x / 2; step > 0; step /= 2) {
    if (x < step) line[x] += line[x + step];
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  const float sum = line[0];
  barrier(CLK_LOCAL_MEM_FENCE);
  return sum;
}
static inline float haqa_group_largest(float value, __local float* room) {
  const int x = get_local_id(0);
  __local float* line = room + get_local_id(1) * block_size_x;
  line[x] = value;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int step = block_size_x / 2; step > 0; step /= 2) {
    if (x < step) line[x] = fmax(line[x], line[x + step]);
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  const float largest = line[0];
  barrier(CLK_LOCAL_MEM_FENCE);
  return largest;
}
#endif
#endif
