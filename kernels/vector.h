// Vectors of `vector_width` floats for kernels, or as many as a register has, in the vector extensions of GCC and clang:
// they compile for any processor. Instructions that the extensions lack are written as assembly,
// because <immintrin.h> takes longer to compile than a kernel.
#ifndef HAQA_KERNELS_VECTOR_H
#define HAQA_KERNELS_VECTOR_H
#include "kernel.h"

#ifndef vector_width
#error "a kernel defines vector_width, its floats in a vector, before it includes vector.h"
#endif

// Vectors are no wider than registers: GCC computes wider ones' comparisons and whole numbers lane by lane.
#if vector_width > 8 && !defined(__AVX512F__)
#undef vector_width
#define vector_width 8
#endif
#if vector_width > 4 && !defined(__AVX2__)
#undef vector_width
#define vector_width 4
#endif

/// The value that a parameter has as a text becomes the name of a constant.
#define HAQA_PASTE(a, b) a##b
#define HAQA_CHOICE(prefix, value) HAQA_PASTE(prefix, value)
enum haqa_split { haqa_split_none = 0, haqa_split_barrier = 1, haqa_split_twice = 2 };
enum haqa_division { haqa_division_exact = 0, haqa_division_estimate = 1 };
enum haqa_exponent { haqa_exponent_bits = 0, haqa_exponent_scale = 1 };

typedef float Floats __attribute__((vector_size(4 * vector_width)));
typedef int32_t Ints __attribute__((vector_size(4 * vector_width), may_alias));
typedef float FloatsInMemory __attribute__((vector_size(4 * vector_width), aligned(4), may_alias));

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define HAQA_AVX512 1
#else
#define HAQA_AVX512 0
#endif

enum : int64_t { kWidth = vector_width, kLine = 16 };  ///< in floats: a vector, a cache line

static inline Floats all_lanes(float value) {
  return value - Floats{};
}

/// How much load() and store() take: a whole vector, or the first n of its floats.
struct Whole {};
struct Part {
  int64_t n;
};

static inline Floats load(const float* p, Whole = {}) {
  return *reinterpret_cast<const FloatsInMemory*>(p);
}
static inline void store(float* p, Floats v, Whole = {}) {
  *reinterpret_cast<FloatsInMemory*>(p) = v;
}

/// The lanes beyond the part hold `fill`.
static inline Floats load(const float* p, Part part, float fill = 0) {
  Floats v = all_lanes(fill);
#if HAQA_AVX512
  const uint16_t lanes = static_cast<uint16_t>((1u << part.n) - 1);
  asm("vmovups %2, %0%{%1%}" : "+v"(v) : "Yk"(lanes), "m"(*reinterpret_cast<const FloatsInMemory*>(p)));
#else
  for (int64_t i = 0; i < kWidth; ++i)
    if (i < part.n) v[i] = p[i];
#endif
  return v;
}

static inline void store(float* p, Floats v, Part part) {
#if HAQA_AVX512
  const uint16_t lanes = static_cast<uint16_t>((1u << part.n) - 1);
  asm("vmovups %1, %0%{%2%}" : "+m"(*reinterpret_cast<FloatsInMemory*>(p)) : "v"(v), "Yk"(lanes));
#else
  for (int64_t i = 0; i < kWidth; ++i)
    if (i < part.n) p[i] = v[i];
#endif
}

/// As load(), for a part with `fill` beyond it.
static inline Floats load_or(const float* p, Whole, float) {
  return load(p);
}
static inline Floats load_or(const float* p, Part part, float fill) {
  return load(p, part, fill);
}

/// Past the caches, to an address that is a multiple of the vector. fence_after() makes such stores seen by other
/// threads.
static inline void store_past_caches(float* p, Floats v) {
#ifdef __clang__
  __builtin_nontemporal_store(v, reinterpret_cast<Floats*>(p));
#elif defined(__AVX512F__) || (defined(__AVX__) && vector_width <= 8) || (defined(__SSE2__) && vector_width == 4)
#ifdef __AVX__
  asm("vmovntps %1, %0" : "=m"(*reinterpret_cast<Floats*>(p)) : "v"(v));
#else
  asm("movntps %1, %0" : "=m"(*reinterpret_cast<Floats*>(p)) : "x"(v));
#endif
#else
  store(p, v);
#endif
}
template <int eighths_past_caches>
static inline void fence_after() {
  if (eighths_past_caches > 0) __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/// Whichever is larger; the second where one is no number.
static inline Floats larger(Floats a, Floats b) {
  return a > b ? a : b;
}

/// A number that is known when the kernel is compiled.
template <int value>
struct Count {
  static constexpr int n = value;
};

/// Calls what(0) to what(n - 1), one after the other and without a loop.
template <int n, typename What>
static inline __attribute__((always_inline)) void repeat(What what) {
  if constexpr (n > 0) {
    repeat<n - 1>(what);
    what(n - 1);
  }
}

/// fold(fold(lane, lane), ...), by halves.
template <typename Fold>
static inline float across_lanes(Floats v, Fold fold) {
#if vector_width == 16
  const auto eight = fold(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                          __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#else
  const auto eight = v;
#endif
#if vector_width >= 8
  auto four =
      fold(__builtin_shufflevector(eight, eight, 0, 1, 2, 3), __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
#else
  auto four = eight;
#endif
  four = fold(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  four = fold(four, __builtin_shufflevector(four, four, 1, 0, 3, 2));
  return four[0];
}
static inline float sum_of(Floats v) {
  return across_lanes(v, [](auto a, auto b) { return a + b; });
}
static inline float largest_of(Floats v) {
  return across_lanes(v, [](auto a, auto b) { return a > b ? a : b; });
}

/// 2^f by a polynomial of this degree with the least relative error, 2.9e-6, 1e-7 or 2e-9 for 4, 5 or 6, that is 1 for
/// 0; of f from 0 to 1, or from -1/2 to 1/2.
template <int degree, bool from_zero>
static inline Floats exp2_polynomial(Floats f) {
  static_assert(degree >= 4 && degree <= 6, "there are polynomials of degree 4, 5 and 6");
  constexpr float kFromZero[3][7] = {
      {1.f, 0.693044841f, 0.241280198f, 0.0522424728f, 0.0134266838f},
      {1.f, 0.693151295f, 0.240164444f, 0.0557999127f, 0.00901703071f, 0.00186713005f},
      {1.f, 0.693147063f, 0.240229309f, 0.0554852821f, 0.00967545155f, 0.0012467847f, 0.000216129149f}};
  constexpr float kAround[3][7] = {
      {1.f, 0.693124175f, 0.240240991f, 0.0559064262f, 0.00958285294f},
      {1.f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647273f},
      {1.f, 0.693147182f, 0.240226477f, 0.0555033237f, 0.00961843692f, 0.00133988739f, 0.00015353362f}};
  const auto& c = from_zero ? kFromZero[degree - 4] : kAround[degree - 4];
  Floats p = all_lanes(c[degree]);
  repeat<degree>([&](int i) { p = p * f + c[degree - 1 - i]; });
  return p;
}

/// 2^t. With `scaling`, by AVX-512's instructions where there are any: all that has no place in a float becomes 0 or
/// infinite. Without, t is from -126 to 127.
template <int degree, bool scaling>
static inline Floats exp2_of(Floats t) {
#if HAQA_AVX512
  if (scaling) {
    Floats f, y;
    asm("vreduceps $9, %1, %0" : "=v"(f) : "v"(t));  // t - floor(t)
    f = exp2_polynomial<degree, true>(f);
    asm("vscalefps %2, %1, %0" : "=v"(y) : "v"(f), "v"(t));  // f * 2^floor(t)
    return y;
  }
#endif
  const Floats shifter = all_lanes(12582912.f);  // 1.5 * 2^23: what is added to it is rounded to a whole number
  const Floats n = t + shifter;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(exp2_polynomial<degree, false>(t - (n - shifter))) +
                                  (reinterpret_cast<Ints>(n) << 23));
}

/// 1 / d for d from 2^-126 to 2^126. With `by_estimate`, by the processor's estimate and a Newton step where there is
/// one.
template <bool by_estimate>
static inline Floats reciprocal(Floats d) {
#if HAQA_AVX512 || (defined(__AVX__) && vector_width <= 8)
  if (by_estimate) {
    Floats r;
#if HAQA_AVX512
    asm("vrcp14ps %1, %0" : "=v"(r) : "v"(d));
#else
    asm("vrcpps %1, %0" : "=x"(r) : "x"(d));
#endif
    return r + r * (1 - d * r);
  }
#endif
  return 1 / d;
}

constexpr float kLog2E = 1.44269504f;

/// x / (1 + exp(-x)).
template <int degree, bool scaling, bool by_estimate>
static inline Floats silu_of(Floats x) {
  // Below -87, where silu is 0 to within 2e-36, the exponential might become infinite.
  x = larger(all_lanes(-87), x);
  Floats t = x * -kLog2E;
  if (!(HAQA_AVX512 && scaling)) t = larger(all_lanes(-126), t);
  return x * reciprocal<by_estimate>(1 + exp2_of<degree, scaling>(t));
}

static inline const float* row(const haqa_tensor& t, int64_t i1, int64_t i2) {
  return reinterpret_cast<const float*>(static_cast<const char*>(t.data) + i1 * t.nb[1] + i2 * t.nb[2]);
}
static inline float* row_to_write(const haqa_tensor& t, int64_t i1, int64_t i2) {
  return const_cast<float*>(row(t, i1, i2));
}

/// Asks for the memory `lines` cache lines behind p; 0 leaves it to the processor, but where `even_here`.
template <int lines, bool even_here = false>
static inline void prefetch_after(const float* p) {
  if (lines > 0 || even_here) __builtin_prefetch(reinterpret_cast<const char*>(p) + 64 * lines);
}

/// y[i] = compute(i, size, chain) for a whole row: i is where the vector begins, size what load() wants, and chain from
/// 0 to below `chains`. So many eighths of y, page by page, are written past the caches.
template <int chains, int eighths_past_caches, typename Compute>
static inline void write_row(float* y, int64_t n, Compute compute) {
  int64_t i = 0;
  if (eighths_past_caches > 0) {
    const int64_t first = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(y) / 4 % kWidth);
    i = first < n ? first : n;
    if (i > 0) store(y, compute(int64_t{0}, Part{i}, 0), Part{i});
  }
  const auto is_past_caches = [&](int64_t at) {
    constexpr int kPage = 4096;
    return eighths_past_caches == 8 ||
           (eighths_past_caches > 0 && reinterpret_cast<uintptr_t>(y + at) / kPage % 8 < eighths_past_caches);
  };
  for (; i + chains * kWidth <= n; i += chains * kWidth) {
    Floats v[chains];
    repeat<chains>([&](int k) { v[k] = compute(i + k * kWidth, Whole{}, k); });
    if (is_past_caches(i))
      repeat<chains>([&](int k) { store_past_caches(y + i + k * kWidth, v[k]); });
    else
      repeat<chains>([&](int k) { store(y + i + k * kWidth, v[k]); });
  }
  for (; i + kWidth <= n; i += kWidth) store(y + i, compute(i, Whole{}, 0));
  if (i < n) store(y + i, compute(i, Part{n - i}, 0), Part{n - i});
}

/// Folds value(i, size) for a whole row into one vector: by so many chains of into = fold(into, value), and join(into,
/// into) of two.
template <int chains, typename Value, typename Fold, typename Join>
static inline Floats fold_row(int64_t n, Floats start, Value value, Fold fold, Join join) {
  Floats into[chains];
  repeat<chains>([&](int k) { into[k] = start; });
  int64_t i = 0;
  for (; i + chains * kWidth <= n; i += chains * kWidth)
    repeat<chains>([&](int k) { into[k] = fold(into[k], value(i + k * kWidth, Whole{})); });
  for (; i + kWidth <= n; i += kWidth) into[0] = fold(into[0], value(i, Whole{}));
  if (i < n) into[chains - 1] = fold(into[chains - 1], value(i, Part{n - i}));
  repeat<chains - 1>([&](int k) { into[0] = join(into[0], into[k + 1]); });
  return into[0];
}

/// Whether there is nothing between the rows.
static inline bool is_contiguous(const haqa_tensor& t) {
  return (t.ne[1] == 1 || t.nb[1] == 4 * t.ne[0]) && (t.ne[2] == 1 || t.nb[2] == 4 * t.ne[0] * t.ne[1]);
}

/// For what is computed element by element: calls stretch(i1, i2, first, n) for parts of rows, shared out `part`
/// elements at a time. Where all tensors are contiguous, everything is one row.
template <typename Stretch>
static inline void share_elements(const haqa_launch* launch, bool contiguous, int64_t part, int schedule,
                                  Stretch stretch) {
  const int64_t* ne = launch->out.ne;
  const int64_t rows = contiguous ? 1 : ne[1] * ne[2];
  const int64_t n = contiguous ? ne[0] * ne[1] * ne[2] : ne[0];
  const int64_t in_row = (n + part - 1) / part;
  haqa_share(launch, rows * in_row, 1, schedule, [&](int64_t first, int64_t end) {
    while (first < end) {
      const int64_t r = first / in_row, begin = first % in_row;
      const int64_t last = end - r * in_row < in_row ? end - r * in_row : in_row;
      const int64_t until = last * part < n ? last * part : n;
      stretch(r % ne[1], r / ne[1], begin * part, until - begin * part);
      first = r * in_row + last;
    }
  });
}

/// For what is computed row by row: calls work(x, y, next) for the threads' rows, shared out `part` rows at a time.
/// Next is the row of in[0] that this thread comes to then, or x again where there is none.
template <typename Work>
static inline void share_rows_of(const haqa_launch* launch, int64_t part, int schedule, Work work) {
  const haqa_tensor &in = launch->in[0], &out = launch->out;
  const int64_t ne1 = out.ne[1];
  haqa_share(launch, ne1 * out.ne[2], part, schedule, [&](int64_t first, int64_t end) {
    int64_t i1 = first % ne1, i2 = first / ne1;
    const float* x = row(in, i1, i2);
    for (int64_t r = first; r < end; ++r) {
      float* y = row_to_write(out, i1, i2);
      if (++i1 == ne1) i1 = 0, ++i2;
      const float* next = r + 1 < end ? row(in, i1, i2) : x;
      work(x, y, next);
      x = next;
    }
  });
}

/// The part of a row of n floats that is this thread's where the team shares each row: whole lines.
struct Columns {
  int64_t first, n;
};
static inline Columns columns_of_thread(const haqa_launch* launch, int64_t n) {
  const int64_t lines = (n + kLine - 1) / kLine;
  const int64_t first = lines * launch->thread / launch->threads * kLine;
  const int64_t end = lines * (launch->thread + 1) / launch->threads * kLine;
  return {first, (end < n ? end : n) - first};
}
#endif
