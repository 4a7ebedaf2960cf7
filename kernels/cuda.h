// What a CUDA kernel is given, and what the sources here share. A source includes this file as "../cuda.h", which it
// finds wherever it is compiled, and no header of CUDA's: NVRTC has built in what is needed, and a machine without the
// toolkit has no more. It uses the macros of its tuning parameters (-Dname=value) and defines
//
//   extern "C" __global__ void haqa_kernel(haqa_tensor in0, haqa_tensor in1, haqa_tensor in2, haqa_tensor out,
//                                          haqa_scalars scalars);
//
// with the inputs in the specification's order; those that there are not have null data. One launch is one call: blocks
// of block_size_x * block_size_y * block_size_z threads, and at least as many threads as the engine's ProblemSize says,
// each of its three numbers rounded up to whole blocks. Pointers and strides are multiples of 4 bytes and of nothing
// more, except those of weights, which begin at a multiple of 256. The output holds NaN before. No tensor here has 2^31
// elements.
//
// Where the specification has a constant input, the weights, as in[0], a source may also define
//
//   extern "C" __global__ void haqa_pack(haqa_tensor weights, void* packed);
//
// It is launched once when weights are loaded, not timed, with 256 threads a block and any number of blocks, and
// rearranges them within as many bytes as they have; in0.data is what it wrote from then on.
#ifndef HAQA_KERNELS_CUDA_H
#define HAQA_KERNELS_CUDA_H

/// As in ggml: ne[0] is the contiguous dimension, nb are the strides in bytes.
struct haqa_tensor {
  void* data;
  long long ne[3];
  long long nb[3];
};

/// In the specification's order.
struct haqa_scalars {
  float value[4];
};

#ifdef __CUDACC__

// ---- memory ----

/// What can be chosen as load_cache: ordinary loads; those of the read-only path; those that are evicted first, with
/// stores that are too.
enum haqa_load_cache { haqa_normal, haqa_readonly, haqa_streaming };

/// Row `row` of ne[1] * ne[2].
template <typename T = float>
__device__ __forceinline__ T* haqa_row(const haqa_tensor& t, unsigned row) {
  char* data = static_cast<char*>(t.data);
  if (t.ne[2] == 1) return reinterpret_cast<T*>(data + row * t.nb[1]);
  const unsigned i2 = row / static_cast<unsigned>(t.ne[1]), i1 = row - i2 * static_cast<unsigned>(t.ne[1]);
  return reinterpret_cast<T*>(data + i1 * t.nb[1] + i2 * t.nb[2]);
}

/// Whether every row begins at a multiple of `bytes`.
__device__ __forceinline__ bool haqa_aligned(const haqa_tensor& t, unsigned bytes) {
  const unsigned long long bits =
      reinterpret_cast<unsigned long long>(t.data) | (t.ne[1] > 1 ? t.nb[1] : 0) | (t.ne[2] > 1 ? t.nb[2] : 0);
  return (bits & (bytes - 1)) == 0;
}

/// Whether there is nothing between rows.
__device__ __forceinline__ bool haqa_contiguous(const haqa_tensor& t) {
  return (t.ne[1] == 1 || t.nb[1] == 4 * t.ne[0]) && (t.ne[2] == 1 || t.nb[2] == 4 * t.ne[0] * t.ne[1]);
}

template <int Cache, typename T>
__device__ __forceinline__ T haqa_load_one(const T* p) {
  if constexpr (Cache == haqa_readonly)
    return __ldg(p);
  else if constexpr (Cache == haqa_streaming)
    return __ldcs(p);
  else
    return *p;
}

template <int Cache, typename T>
__device__ __forceinline__ void haqa_store_one(T* p, T value) {
  if constexpr (Cache == haqa_streaming)
    __stcs(p, value);
  else
    *p = value;
}

/// N floats, 1, 2 or 4, from a multiple of as many bytes.
template <int N, int Cache = haqa_normal>
__device__ __forceinline__ void haqa_load(float (&to)[N], const float* p) {
  if constexpr (N == 4) {
    const float4 v = haqa_load_one<Cache>(reinterpret_cast<const float4*>(p));
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  } else if constexpr (N == 2) {
    const float2 v = haqa_load_one<Cache>(reinterpret_cast<const float2*>(p));
    to[0] = v.x, to[1] = v.y;
  } else {
    to[0] = haqa_load_one<Cache>(p);
  }
}

template <int N, int Cache = haqa_normal>
__device__ __forceinline__ void haqa_store(float* p, const float (&from)[N]) {
  if constexpr (N == 4)
    haqa_store_one<Cache>(reinterpret_cast<float4*>(p), make_float4(from[0], from[1], from[2], from[3]));
  else if constexpr (N == 2)
    haqa_store_one<Cache>(reinterpret_cast<float2*>(p), make_float2(from[0], from[1]));
  else
    haqa_store_one<Cache>(p, from[0]);
}

// ---- rows that many threads share ----

__device__ __forceinline__ float haqa_infinity() {
  return __int_as_float(0x7f800000);
}

struct haqa_sum {
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};
struct haqa_max {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// The lanes of a warp that there are in a block of so many threads.
__device__ __forceinline__ constexpr unsigned haqa_lanes(int Threads) {
  return Threads < 32 ? (1u << Threads) - 1 : 0xffffffffu;
}

/// Over the `width` lanes, a power of two, that lie together.
template <int Width, int Threads, typename Op>
__device__ __forceinline__ float haqa_reduce_lanes(float value, Op op) {
#pragma unroll
  for (int offset = Width / 2; offset > 0; offset /= 2)
    value = op(value, __shfl_xor_sync(haqa_lanes(Threads), value, offset));
  return value;
}

/// Over the X threads of a block of X times Y, powers of two, that have the same threadIdx.y. All threads of the block
/// must come here, and all get the result.
template <int X, int Y, typename Op>
__device__ __forceinline__ float haqa_reduce(float value, Op op) {
  value = haqa_reduce_lanes < X < 32 ? X : 32, X * Y > (value, op);
  if constexpr (X > 32) {
    __shared__ float parts[Y][X / 32];
    __syncthreads();  // until those of the time before are read
    if (threadIdx.x % 32 == 0) parts[threadIdx.y][threadIdx.x / 32] = value;
    __syncthreads();
    value = haqa_reduce_lanes<X / 32, X * Y>(parts[threadIdx.y][threadIdx.x % (X / 32)], op);
  }
  return value;
}

/// Where the elements of a row are kept between passes over it.
enum haqa_placement { haqa_global, haqa_registers, haqa_shared };

/// A thread's share of a row of n floats, as vectors of V in turn with the X threads of the row, which goes through
/// them several times. V must divide n where it is more than 1.
template <int X, int V, int Where, int Room, int Cache, int Unrolled>
struct haqa_share {
  static constexpr int kItems = Where == haqa_registers ? (Room + V - 1) / V : 1;
  const float* x;
  float* shared;  ///< the row's own part of it
  int n;
  float kept[kItems * V];

  /// Whether a row of n fits: `room` are floats of a thread in registers, of a row in shared memory.
  static __device__ __forceinline__ bool fits(int n) {
    return Where == haqa_global || n <= (Where == haqa_registers ? X * kItems * V : Room);
  }

  /// Calls f(values, column) for every vector: those that were read the first time and what f made of them afterwards,
  /// or, from global memory, those that were read every time. What f makes of them in the last pass is not kept.
  template <bool First, bool Last, typename F>
  __device__ __forceinline__ void each(F f) {
    if constexpr (Where == haqa_registers) {
#pragma unroll
      for (int i = 0; i < kItems; ++i)
        if (const int c = (i * X + static_cast<int>(threadIdx.x)) * V; c < n) {
          float v[V];
#pragma unroll
          for (int e = 0; e < V; ++e) v[e] = kept[i * V + e];
          if constexpr (First) haqa_load<V, Cache>(v, x + c);
          f(v, c);
#pragma unroll
          for (int e = 0; e < V; ++e) kept[i * V + e] = v[e];
        }
    } else {
#pragma unroll Unrolled
      for (int c = threadIdx.x * V; c < n; c += X * V) {
        float v[V];
        if constexpr (First || Where == haqa_global)
          haqa_load<V, Cache>(v, x + c);
        else
          haqa_load<V>(v, shared + c);
        f(v, c);
        if constexpr (Where == haqa_shared && !Last) haqa_store<V>(shared + c, v);
      }
    }
  }
};

// ---- weights as ggml stores them: 0 F32, 1 F16, 2 Q8_0, 3 Q4_0 ----

__device__ __forceinline__ float haqa_half(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

/// Elements of a block, and its bytes: a scale of two bytes, then the integers.
__device__ __forceinline__ constexpr int haqa_block_length(int Type) {
  return Type >= 2 ? 32 : 1;
}
__device__ __forceinline__ constexpr int haqa_block_bytes(int Type) {
  return Type == 0 ? 4 : Type == 1 ? 2 : Type == 2 ? 34 : 18;
}

/// N elements of a row from element k on, a multiple of N, which divides 4. aligned: whether k * the size of an element
/// is as good an address.
template <int Type, int N, bool Aligned>
__device__ __forceinline__ void haqa_weights(float (&to)[N], const char* row, int k) {
  if constexpr (Type == 0) {
    const float* from = reinterpret_cast<const float*>(row) + k;
    if constexpr (Aligned) {
      haqa_load<N>(to, from);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) to[i] = from[i];
    }
  } else if constexpr (Type == 1) {
    const unsigned short* halves = reinterpret_cast<const unsigned short*>(row) + k;
    if constexpr (Aligned && N == 4) {
      const uint2 v = *reinterpret_cast<const uint2*>(halves);
      to[0] = haqa_half(v.x & 0xffff), to[1] = haqa_half(v.x >> 16);
      to[2] = haqa_half(v.y & 0xffff), to[3] = haqa_half(v.y >> 16);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) to[i] = haqa_half(halves[i]);
    }
  } else {
    const char* block = row + static_cast<long long>(k / 32) * haqa_block_bytes(Type);
    const float scale = haqa_half(*reinterpret_cast<const unsigned short*>(block));
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int e = k % 32 + i;
      if constexpr (Type == 2) {
        to[i] = scale * static_cast<signed char>(block[2 + e]);
      } else {
        const int pair = static_cast<unsigned char>(block[2 + e % 16]);
        to[i] = scale * ((e < 16 ? pair & 15 : pair >> 4) - 8);
      }
    }
  }
}

/// sum + the dot product of four signed bytes.
__device__ __forceinline__ int haqa_dot4(int a, int b, int sum) {
#if __CUDA_ARCH__ >= 610
  return __dp4a(a, b, sum);
#else
#pragma unroll
  for (int shift = 0; shift < 32; shift += 8)
    sum += static_cast<signed char>(a >> shift) * static_cast<signed char>(b >> shift);
  return sum;
#endif
}

#endif
#endif
