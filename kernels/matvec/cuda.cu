// out[j][i] = dot(row i of the weights, row j of the activations) for few j, as one token or a small batch asks for it:
// bound by how fast the weights stream in. A team of block_size_x threads takes rows_per_team rows at once, so that
// what is read of the activations serves all of them; block_size_y teams are a block.
//
// Quantized weights can be packed: all integers first, then all scales, so that loads are wide and aligned; and the
// activations can be quantized to 8 bits too, in blocks of 32, which makes four products one instruction. Both keep to
// ggml's numbers.
#include "../cuda.h"

// 0 F32, 1 F16, 2 Q8_0, 3 Q4_0
#ifndef HAQA_WEIGHTS
#define HAQA_WEIGHTS 3
#endif
#ifndef block_size_x
#define block_size_x 32
#endif
#ifndef block_size_y
#define block_size_y 4
#endif
#ifndef rows_per_team
#define rows_per_team 2
#endif
#ifndef columns
#define columns 1
#endif
#ifndef load_bytes
#define load_bytes 8
#endif
#ifndef weights_layout
#define weights_layout packed
#endif
#ifndef activations
#define activations floats
#endif
#ifndef shared_k
#define shared_k 4096
#endif
#ifndef most_blocks
#define most_blocks 65536
#endif
#ifndef double_buffer
#define double_buffer 0
#endif
#ifndef loop_unroll
#define loop_unroll 2
#endif

/// How quantized weights lie in memory: as ggml stores them, or rearranged by haqa_pack().
#define as_stored 0
#define packed 1

namespace {

/// Where activations are read from: global memory; shared memory; shared memory as bytes, where weights are quantized.
enum { floats, floats_shared, bytes_shared };

constexpr int T = HAQA_WEIGHTS, X = block_size_x, Y = block_size_y, R = rows_per_team, C = columns;
constexpr bool kQuantized = T >= 2, kPacked = kQuantized && weights_layout == packed;
constexpr bool kBytes = kQuantized && activations == bytes_shared;
constexpr bool kShared = activations != floats;
constexpr int B = load_bytes;
constexpr int kUnroll = loop_unroll;  // a pragma does not see macros
/// Elements of one load.
constexpr int U = T == 0 ? B / 4 : T == 1 ? B / 2 : T == 2 ? B : 2 * B;

// ---- weights ----

/// A load of one row.
template <int bytes>
struct Piece {
  unsigned words[(bytes + 3) / 4];
  unsigned short scale;
};

/// Where pieces of rows are.
struct Weights {
  const char* data;
  const unsigned short* scales;  ///< of packed ones
  long long row_bytes;
  int k;

  __device__ __forceinline__ explicit Weights(const haqa_tensor& t)
      : data(static_cast<const char*>(t.data)),
        scales(reinterpret_cast<const unsigned short*>(data + t.ne[0] * t.ne[1] / (T == 3 ? 2 : 1))),
        row_bytes(kPacked ? t.ne[0] / (T == 3 ? 2 : 1) : t.nb[1]),
        k(static_cast<int>(t.ne[0])) {}

  /// The piece that begins at byte `at` of a row's integers, or elements.
  template <int bytes>
  __device__ __forceinline__ Piece<bytes> load(int row, int at) const {
    Piece<bytes> piece;
    const char* from = data + row * row_bytes;
    if constexpr (!kQuantized || kPacked) {
      load_words(piece, from + at);
      if constexpr (kPacked)
        piece.scale = __ldg(scales + row * static_cast<long long>(k / 32) + at / (T == 3 ? 16 : 32));
    } else {  // blocks begin at even addresses
      constexpr int integers = T == 3 ? 16 : 32;
      const unsigned short* block = reinterpret_cast<const unsigned short*>(from + at / integers * (integers + 2));
      piece.scale = __ldg(block);
      const unsigned short* halves = block + 1 + at % integers / 2;
#pragma unroll
      for (int i = 0; i < bytes / 4; ++i)
        piece.words[i] = __ldg(halves + 2 * i) | static_cast<unsigned>(__ldg(halves + 2 * i + 1)) << 16;
    }
    return piece;
  }

 private:
  template <int bytes>
  static __device__ __forceinline__ void load_words(Piece<bytes>& piece, const char* from) {
    if constexpr (bytes == 16) {
      const uint4 v = __ldg(reinterpret_cast<const uint4*>(from));
      piece.words[0] = v.x, piece.words[1] = v.y, piece.words[2] = v.z, piece.words[3] = v.w;
    } else if constexpr (bytes == 8) {
      const uint2 v = __ldg(reinterpret_cast<const uint2*>(from));
      piece.words[0] = v.x, piece.words[1] = v.y;
    } else if constexpr (bytes == 4) {
      piece.words[0] = __ldg(reinterpret_cast<const unsigned*>(from));
    } else {
      piece.words[0] = __ldg(reinterpret_cast<const unsigned short*>(from));
    }
  }
};

/// Byte i of a word as a float, without the slow conversion: 2^23 + the byte is a float whose last byte it is.
__device__ __forceinline__ float byte_to_float(unsigned word, int i) {
  return __uint_as_float(__byte_perm(word, 0x4b000000, 0x7650 | i)) - 8388608.0f;
}

/// The elements of a piece, without their scale.
template <int bytes, int n>
__device__ __forceinline__ void decode(float (&to)[n], const Piece<bytes>& piece) {
  if constexpr (T == 0) {
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = __uint_as_float(piece.words[i]);
  } else if constexpr (T == 1) {
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = haqa_half(static_cast<unsigned short>(piece.words[i / 2] >> (i % 2 * 16)));
  } else if constexpr (T == 2) {
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = byte_to_float(piece.words[i / 4] ^ 0x80808080u, i % 4) - 128.0f;
  } else {  // the first half of them in the low halves of bytes
#pragma unroll
    for (int i = 0; i < n / 2; ++i) {
      to[i] = byte_to_float(piece.words[i / 4] & 0x0f0f0f0fu, i % 4) - 8.0f;
      to[n / 2 + i] = byte_to_float(piece.words[i / 4] >> 4 & 0x0f0f0f0fu, i % 4) - 8.0f;
    }
  }
}

// ---- activations ----

/// Those that a block has in shared memory: of `columns` rows, `shared_k` elements.
struct Room {
  alignas(16) float values[kShared && !kBytes ? C * shared_k : 4];
  alignas(16) signed char bytes[kBytes ? C * shared_k : 4];
  float scales[kBytes ? C * shared_k / 32 : 1];
};

/// Brings elements first_k to first_k + length of C rows into shared memory; those of rows that there are not are the
/// last one's.
__device__ __forceinline__ void bring_floats(Room& room, const haqa_tensor& x, int first_column, int first_k,
                                             int length) {
  const int thread = threadIdx.y * X + threadIdx.x, last = static_cast<int>(x.ne[1]) - 1;
#pragma unroll
  for (int c = 0; c < C; ++c) {
    const float* from = haqa_row<const float>(x, min(first_column + c, last)) + first_k;
    for (int i = thread; i < length; i += X * Y) room.values[c * shared_k + i] = from[i];
  }
}

/// A block by each thread in turn with the others, as ggml does it: scale = the largest / 127, rounded to 16 bits there
/// and not here.
__device__ __forceinline__ void bring_bytes(Room& room, const haqa_tensor& x, int first_column, int first_k,
                                            int length) {
  const int thread = threadIdx.y * X + threadIdx.x, last = static_cast<int>(x.ne[1]) - 1;
  constexpr int G = 8;  // lanes of a block, four elements each
  const int blocks = length / 32, group = thread / G, lane = thread % G;
#pragma unroll
  for (int c = 0; c < C; ++c) {
    const float* from = haqa_row<const float>(x, min(first_column + c, last)) + first_k;
    for (int begin = 0; begin < blocks; begin += X * Y / G) {  // all lanes of a warp stay together
      const int block = begin + group, at = min(block, blocks - 1) * 32 + lane * 4;
      float v[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) v[e] = from[at + e];
      const float part = fmaxf(fmaxf(fabsf(v[0]), fabsf(v[1])), fmaxf(fabsf(v[2]), fabsf(v[3])));
      const float largest = haqa_reduce_lanes<G, X * Y>(part, haqa_max());
      const float scale = largest / 127, inverse = largest > 1e-36f ? 127 / largest : 0.0f;
      if (block < blocks) {
        char4 q;
        q.x = static_cast<signed char>(__float2int_rn(v[0] * inverse)),
        q.y = static_cast<signed char>(__float2int_rn(v[1] * inverse));
        q.z = static_cast<signed char>(__float2int_rn(v[2] * inverse)),
        q.w = static_cast<signed char>(__float2int_rn(v[3] * inverse));
        *reinterpret_cast<char4*>(room.bytes + c * shared_k + at) = q;
        if (lane == 0) room.scales[(c * shared_k + at) / 32] = scale;
      }
    }
  }
}

/// Where one piece's elements begin along k; those of Q4_0 are two runs, 16 elements apart.
__device__ __forceinline__ int first_element(int at) {
  return T == 0 ? at / 4 : T == 1 ? at / 2 : T == 2 ? at : at / 16 * 32 + at % 16;
}

/// Elements from `from` on, in the order of decode().
template <int n, bool vectors>
__device__ __forceinline__ void read_activations(float (&to)[n], const float* from) {
  constexpr int kRun = T == 3 ? n / 2 : n, G = !vectors ? 1 : kRun % 4 == 0 ? 4 : kRun % 2 == 0 ? 2 : 1;
#pragma unroll
  for (int i = 0; i < n; i += G) {
    float v[G];
    haqa_load<G>(v, from + (T == 3 && i >= kRun ? i - kRun + 16 : i));
#pragma unroll
    for (int e = 0; e < G; ++e) to[i + e] = v[e];
  }
}

// ---- products ----

using Sums = float[R][C];

/// Floats of C columns, from the first element of the weights' part on; those of columns that there are not are the
/// last one's.
struct Floats {
  const float* first;
  long long step;
  int last;
  __device__ __forceinline__ const float* column(int c) const { return first + min(c, last) * step; }
};

template <int bytes, int n, bool vectors>
__device__ __forceinline__ void multiply(Sums& sums, const Piece<bytes> (&pieces)[R], const Floats& x, int element) {
  float values[C][n];
#pragma unroll
  for (int c = 0; c < C; ++c) read_activations<n, vectors>(values[c], x.column(c) + element);
#pragma unroll
  for (int r = 0; r < R; ++r) {
    float w[n];
    decode<bytes, n>(w, pieces[r]);
    const float scale = kQuantized ? haqa_half(pieces[r].scale) : 1.0f;
#pragma unroll
    for (int c = 0; c < C; ++c) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < n; ++i) sum += w[i] * values[c][i];
      if constexpr (kQuantized)
        sums[r][c] += scale * sum;
      else
        sums[r][c] += sum;
    }
  }
}

/// 1, 2 or 4 words from a multiple of as many bytes.
template <int words>
__device__ __forceinline__ void read_words(int (&to)[words], const signed char* from) {
  float v[words];
  haqa_load<words>(v, reinterpret_cast<const float*>(from));
#pragma unroll
  for (int i = 0; i < words; ++i) to[i] = __float_as_int(v[i]);
}

/// Those of bytes, the activations being in shared memory.
template <int bytes>
__device__ __forceinline__ void multiply_bytes(Sums& sums, const Piece<bytes> (&pieces)[R], const Room& room,
                                               int element) {
  constexpr int kWords = bytes / 4;
#pragma unroll
  for (int c = 0; c < C; ++c) {
    const signed char* x = room.bytes + c * shared_k + element;
    const float x_scale = room.scales[(c * shared_k + element) / 32];
    int low[kWords], high[kWords], minus_eight_times = 0;
    read_words(low, x);
    if constexpr (T == 3) {
      read_words(high, x + 16);
#pragma unroll
      for (int i = 0; i < kWords; ++i)
        minus_eight_times = haqa_dot4(0xf8f8f8f8, low[i], haqa_dot4(0xf8f8f8f8, high[i], minus_eight_times));
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      int sum = minus_eight_times;
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        const int word = static_cast<int>(pieces[r].words[i]);
        if constexpr (T == 3)
          sum = haqa_dot4(word & 0x0f0f0f0f, low[i], haqa_dot4(word >> 4 & 0x0f0f0f0f, high[i], sum));
        else
          sum = haqa_dot4(word, low[i], sum);
      }
      sums[r][c] += haqa_half(pieces[r].scale) * x_scale * static_cast<float>(sum);
    }
  }
}

/// This thread's share of elements first_k to first_k + length of the team's rows.
template <int bytes, int n, bool vectors>
__device__ __forceinline__ void add_up(Sums& sums, const Weights& weights, const int (&rows)[R], const Room& room,
                                       const Floats& x, int first_k, int length) {
  const int units = length / n, first = first_k / n;
  const auto load = [&](Piece<bytes>(&pieces)[R], int unit) {
#pragma unroll
    for (int r = 0; r < R; ++r) pieces[r] = weights.template load<bytes>(rows[r], (first + unit) * bytes);
  };
  const auto work = [&](const Piece<bytes>(&pieces)[R], int unit) {
    if constexpr (kBytes)
      multiply_bytes<bytes>(sums, pieces, room, first_element(unit * bytes));
    else
      multiply<bytes, n, vectors>(sums, pieces, x, first_element(unit * bytes));
  };
  if constexpr (double_buffer) {
    Piece<bytes> now[R], next[R];
    int unit = threadIdx.x;
    if (unit < units) load(now, unit);
#pragma unroll kUnroll
    for (; unit < units; unit += X) {
      if (unit + X < units) load(next, unit + X);
      work(now, unit);
#pragma unroll
      for (int r = 0; r < R; ++r) now[r] = next[r];
    }
  } else {
#pragma unroll kUnroll
    for (int unit = threadIdx.x; unit < units; unit += X) {
      Piece<bytes> pieces[R];
      load(pieces, unit);
      work(pieces, unit);
    }
  }
}

__device__ __forceinline__ void write(const Sums& sums, const haqa_tensor& out, int first_row, int first_column) {
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const float sum = haqa_reduce<X, Y>(sums[r][c], haqa_sum());
      if (threadIdx.x == 0 && first_row + r < out.ne[0] && first_column + c < out.ne[1])
        haqa_row(out, first_column + c)[first_row + r] = sum;
    }
}

/// C columns of all rows that are this block's. bytes, n: of a load; vectors: whether activations are aligned as well.
template <int bytes, int n, bool vectors>
__device__ __forceinline__ void multiply_columns(const haqa_tensor& in0, const haqa_tensor& in1, const haqa_tensor& out,
                                                 Room& room, int first_column) {
  const Weights weights(in0);
  const int m = static_cast<int>(in0.ne[1]), k = weights.k, columns_left = static_cast<int>(in1.ne[1]) - first_column;
  const int part = kShared ? min(k, shared_k) : k;
  const bool once = part == k;  // shared memory holds all of them
  const auto bring = [&](int first_k) {
    if constexpr (kShared) {
      __syncthreads();
      if constexpr (kBytes)
        bring_bytes(room, in1, first_column, first_k, min(part, k - first_k));
      else
        bring_floats(room, in1, first_column, first_k, min(part, k - first_k));
      __syncthreads();
    }
  };
  if (once) bring(0);
  for (int base = blockIdx.x * Y * R; base < m; base += gridDim.x * Y * R) {
    const int first_row = base + threadIdx.y * R;
    int rows[R];
#pragma unroll
    for (int r = 0; r < R; ++r) rows[r] = min(first_row + r, m - 1);
    Sums sums = {};
    for (int first_k = 0; first_k < k; first_k += part) {
      if (!once) bring(first_k);
      const Floats x = kShared ? Floats{room.values, shared_k, C - 1}
                               : Floats{haqa_row<const float>(in1, first_column), in1.nb[1] / 4, columns_left - 1};
      add_up<bytes, n, vectors>(sums, weights, rows, room, x, first_k, min(part, k - first_k));
    }
    write(sums, out, first_row, first_column);
  }
}

}  // namespace

#if HAQA_WEIGHTS >= 2 && weights_layout == packed
extern "C" __global__ void haqa_pack(haqa_tensor weights, void* to_memory) {
  constexpr int integers = HAQA_WEIGHTS == 3 ? 8 : 16;  // of a block, two bytes at a time
  const long long blocks = weights.ne[0] / 32 * weights.ne[1];
  const unsigned short* from = static_cast<const unsigned short*>(weights.data);
  unsigned short* to = static_cast<unsigned short*>(to_memory);
  const long long first = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x;
  for (long long i = first; i < blocks * (integers + 1); i += static_cast<long long>(gridDim.x) * blockDim.x) {
    const long long block = i / (integers + 1), at = i % (integers + 1);  // the scale, then the integers
    to[at == 0 ? blocks * integers + block : block * integers + at - 1] = from[i];
  }
}
#endif

extern "C" __global__ void __launch_bounds__(X* Y)
    haqa_kernel(haqa_tensor in0, haqa_tensor in1, haqa_tensor, haqa_tensor out, haqa_scalars) {
  __shared__ Room room;
  // Quantized rows are whole blocks; others may be of any length, and are then taken one element at a time.
  const bool wide = kQuantized || (in0.ne[0] % U == 0 && haqa_aligned(in0, B));
  const bool vectors = kShared || haqa_aligned(in1, 16);
  for (int column = 0; column < in1.ne[1]; column += C) {
    if (wide && vectors)
      multiply_columns<B, U, true>(in0, in1, out, room, column);
    else if (wide)
      multiply_columns<B, U, false>(in0, in1, out, room, column);
    else if constexpr (!kQuantized)
      multiply_columns<T == 1 ? 2 : 4, 1, false>(in0, in1, out, room, column);
  }
}
