// Rotates neighbouring pairs of a head: (a, b) to (a cos t - b sin t, a sin t + b cos t) for t = position *
// theta_base^(-2 pair / head size). Angles are reduced to a quarter turn in double precision, so that positions may be
// large; sine and cosine of the rest are polynomials.
#include "../kernel.h"

#ifndef vector_width
#define vector_width 16
#endif
#ifndef unroll
#define unroll 2
#endif
#ifndef order
#define order heads
#endif
#ifndef pairs
#define pairs swap
#endif
#ifndef frequencies
#define frequencies product
#endif
#ifndef sharing
#define sharing static
#endif
#ifndef share_rows
#define share_rows 1
#endif
#ifndef split
#define split none
#endif
#ifndef nontemporal
#define nontemporal 0
#endif
#include "../vector.h"

enum { order_heads, order_columns };
enum { pairs_swap, pairs_twice };
enum { frequencies_power, frequencies_product };
enum { split_none, split_columns };
constexpr int kOrder = HAQA_CHOICE(order_, order);
constexpr int kPairs = HAQA_CHOICE(pairs_, pairs);
constexpr int64_t kMostColumns = 8192;  ///< of a head, at a time: what scratch memory has room for

/// As many as a register holds: compilers are poor at wider ones.
#if HAQA_AVX512 && vector_width >= 8
enum : int64_t { kDoubles = 8 };
#elif defined(__AVX__) || HAQA_AVX512
enum : int64_t { kDoubles = 4 };
#else
enum : int64_t { kDoubles = 2 };
#endif
typedef double Doubles __attribute__((vector_size(8 * kDoubles)));
typedef int64_t Longs __attribute__((vector_size(8 * kDoubles)));
typedef float FewFloats __attribute__((vector_size(4 * kDoubles)));
typedef int32_t FewInts __attribute__((vector_size(4 * kDoubles)));

/// Of this thread, for some columns of a head. A vector x of it becomes lane by lane one_of(x) * by_one + other_of(x) *
/// by_other.
struct Tables {
  Doubles quarters[kMostColumns / 2 / kDoubles];  ///< quarter turns a position, by pair
  Floats by_one[kMostColumns / kWidth];           ///< for one position, by column
  Floats by_other[kMostColumns / kWidth];
  alignas(64) float rest[kMostColumns / 2];  ///< of those turns, from -1/2 to 1/2, by pair
  alignas(64) int32_t whole[kMostColumns / 2];
};
static_assert(sizeof(Tables) <= haqa_scratch_bytes, "there is no more scratch memory");

/// Shuffles: lane i of the result is lane where(i) of a and b side by side.
template <typename Where, int n, int... i>
struct Shuffle : Shuffle<Where, n - 1, n - 1, i...> {};
template <typename Where, int... i>
struct Shuffle<Where, 0, i...> {
  static inline Floats of(Floats a, Floats b) { return __builtin_shufflevector(a, b, Where::at(i)...); }
};
struct Swapped {
  static constexpr int at(int i) { return i ^ 1; }
};
struct First {
  static constexpr int at(int i) { return i & ~1; }
};
struct Second {
  static constexpr int at(int i) { return i | 1; }
};
template <int from>
struct Interleaved {
  static constexpr int at(int i) { return from + i / 2 + i % 2 * vector_width; }
};
template <typename Where>
static inline Floats shuffle(Floats a, Floats b) {
  return Shuffle<Where, vector_width>::of(a, b);
}

static inline Floats one_of(const float* x, Part size) {
  const Floats v = load(x, size);
  return kPairs == pairs_swap ? v : shuffle<First>(v, v);
}
static inline Floats other_of(const float* x, Part size) {
  const Floats v = load(x, size);
  return kPairs == pairs_swap ? shuffle<Swapped>(v, v) : shuffle<Second>(v, v);
}
#if HAQA_AVX512 || (defined(__AVX__) && vector_width <= 8)
#define HAQA_TWICE_FROM_MEMORY 1
#else
#define HAQA_TWICE_FROM_MEMORY 0
#endif
/// Whole vectors have their pairs' first or second twice by the load itself where the processor can do that.
static inline Floats one_of(const float* x, Whole size) {
#if HAQA_TWICE_FROM_MEMORY
  if (kPairs == pairs_twice) {
    Floats v;
    asm("vmovsldup %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const FloatsInMemory*>(x)));
    return v;
  }
#endif
  const Floats v = load(x, size);
  return kPairs == pairs_swap ? v : shuffle<First>(v, v);
}
static inline Floats other_of(const float* x, Whole size) {
#if HAQA_TWICE_FROM_MEMORY
  if (kPairs == pairs_twice) {
    Floats v;
    asm("vmovshdup %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const FloatsInMemory*>(x)));
    return v;
  }
#endif
  const Floats v = load(x, size);
  return kPairs == pairs_swap ? shuffle<Swapped>(v, v) : shuffle<Second>(v, v);
}

static inline Doubles all_doubles(double value) {
  return value - Doubles{};
}
static inline Doubles rounded(Doubles v) {
  const Doubles shifter = all_doubles(6755399441055744.);  // 1.5 * 2^52
  return v + shifter - shifter;
}

/// 2^t, to within 1.4e-14.
static inline Doubles exp2_of(Doubles t) {
  constexpr double kTerms[] = {1.0000000000000127,     0.6931471805598699,     0.24022650695650086,
                               0.055504108668692757,   0.0096181291919384439,  0.0013333557616138465,
                               0.00015403435049827694, 1.5252986088728236e-05, 1.3259382101184279e-06,
                               1.0150020881098988e-07};
  const Doubles n = rounded(t), f = t - n;
  Doubles p = all_doubles(kTerms[9]);
  repeat<9>([&](int i) { p = p * f + kTerms[8 - i]; });
  return reinterpret_cast<Doubles>(reinterpret_cast<Longs>(p) + (__builtin_convertvector(n, Longs) << 52));
}

static inline int64_t vectors_of_pairs(int64_t columns) {
  return (columns + 2 * kWidth - 1) / (2 * kWidth);
}

/// For n columns from `first` on.
static void fill_quarters(Tables* tables, const haqa_launch* launch, int64_t first, int64_t n) {
  // Each pair turns by this power of two, in quarter turns, of which a radian is 2 / pi.
  const double step =
      -2 * __builtin_log2(static_cast<double>(launch->scalars[0])) / static_cast<double>(launch->out.ne[0]);
  constexpr double kRadian = -0.65149612947231879805;
  Doubles pair = all_doubles(static_cast<double>(first / 2));
  for (int i = 0; i < kDoubles; ++i) pair[i] += i;
  Doubles turns = exp2_of(pair * step + kRadian);
  const Doubles factor = exp2_of(all_doubles(static_cast<double>(kDoubles) * step));
  for (int64_t i = 0; i < vectors_of_pairs(n) * kWidth / kDoubles; ++i) {
    tables->quarters[i] = turns;
    if (HAQA_CHOICE(frequencies_, frequencies) == frequencies_power) {
      pair += static_cast<double>(kDoubles);
      turns = exp2_of(pair * step + kRadian);
    } else {
      turns *= factor;
    }
  }
}

static inline Floats with_sign(Floats v, Ints sign) {
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) ^ (sign << 31));
}

static void fill_rotations(Tables* tables, int64_t n, int32_t position) {
  for (int64_t i = 0; i < vectors_of_pairs(n) * kWidth / kDoubles; ++i) {
    const Doubles quarters = static_cast<double>(position) * tables->quarters[i], whole = rounded(quarters);
    reinterpret_cast<FewFloats*>(tables->rest)[i] = __builtin_convertvector(quarters - whole, FewFloats);
    reinterpret_cast<FewInts*>(tables->whole)[i] = __builtin_convertvector(whole, FewInts);
  }
  for (int64_t i = 0; i < vectors_of_pairs(n); ++i) {
    const Floats r = load(tables->rest + i * kWidth), r2 = r * r;
    const Ints quarter = reinterpret_cast<const Ints*>(tables->whole)[i], odd = (quarter & 1) != 0;
    const Floats sine = (((r2 * -0.00459228922f + 0.0796759054f) * r2 - 0.645962954f) * r2 + 1.57079625f) * r;
    const Floats cosine = ((r2 * -0.020426251f + 0.253606349f) * r2 - 1.23369801f) * r2 + 1;
    const Floats s = with_sign(odd ? cosine : sine, quarter >> 1);
    const Floats c = with_sign(odd ? sine : cosine, (quarter + 1) >> 1);
    const Floats other = kPairs == pairs_swap ? c : s, second = kPairs == pairs_swap ? s : c;
    tables->by_one[2 * i] = shuffle<Interleaved<0>>(c, other);
    tables->by_one[2 * i + 1] = shuffle<Interleaved<kWidth / 2>>(c, other);
    tables->by_other[2 * i] = shuffle<Interleaved<0>>(-s, second);
    tables->by_other[2 * i + 1] = shuffle<Interleaved<kWidth / 2>>(-s, second);
  }
}

/// Rows of the same strides, one behind the other.
struct Heads {
  float* y;
  const float* x;
  int64_t y_stride, x_stride;  ///< in floats
  int64_t count;
};

static void rotate_by_heads(const Tables* tables, Heads heads, int64_t n) {
  for (int64_t h = 0; h < heads.count; ++h) {
    const float* x = heads.x + h * heads.x_stride;
    float* y = heads.y + h * heads.y_stride;
    const auto rotated = [&](int64_t i, auto size, int) {
      return one_of(x + i, size) * load(reinterpret_cast<const float*>(tables->by_one) + i, size) +
             other_of(x + i, size) * load(reinterpret_cast<const float*>(tables->by_other) + i, size);
    };
    // Past the caches, vectors begin at multiples of their size, which must not part a pair.
    if (nontemporal > 0 && reinterpret_cast<uintptr_t>(y) % 8 == 0)
      write_row<unroll, nontemporal>(y, n, rotated);
    else
      write_row<unroll, 0>(y, n, rotated);
  }
}

/// Some vectors of columns at a time of all heads: their rotation stays in registers.
template <int vectors, typename Size>
static void rotate_columns(const Tables* tables, Heads heads, int64_t first, Size size) {
  Floats by_one[vectors], by_other[vectors];
  repeat<vectors>([&](int k) {
    by_one[k] = tables->by_one[first / kWidth + k];
    by_other[k] = tables->by_other[first / kWidth + k];
  });
  for (int64_t h = 0; h < heads.count; ++h) {
    const float* x = heads.x + h * heads.x_stride + first;
    float* y = heads.y + h * heads.y_stride + first;
    repeat<vectors>([&](int k) {
      const int64_t i = k * kWidth;
      store(y + i, one_of(x + i, size) * by_one[k] + other_of(x + i, size) * by_other[k], size);
    });
  }
}

static void rotate_by_columns(const Tables* tables, Heads heads, int64_t n) {
  int64_t i = 0;
  for (; i + unroll * kWidth <= n; i += unroll * kWidth) rotate_columns<unroll>(tables, heads, i, Whole{});
  for (; i + kWidth <= n; i += kWidth) rotate_columns<1>(tables, heads, i, Whole{});
  if (i < n) rotate_columns<1>(tables, heads, i, Part{n - i});
}

/// What the tables hold.
struct Held {
  int64_t first = -1;  ///< column; -1: nothing
  int64_t token = -1;
};

/// Columns [first, first + n) of the heads [row, row + count) of one token.
static void rotate(const haqa_launch* launch, Held* held, int64_t first, int64_t n, int64_t row_number, int64_t count) {
  Tables* tables = static_cast<Tables*>(launch->scratch);
  const haqa_tensor &in = launch->in[0], &out = launch->out;
  const int64_t token = row_number / out.ne[1], head = row_number % out.ne[1];
  if (held->first != first) fill_quarters(tables, launch, first, n);
  if (held->first != first || held->token != token)
    fill_rotations(tables, n, static_cast<const int32_t*>(launch->in[1].data)[token]);
  *held = {first, token};
  const Heads heads = {row_to_write(out, head, token) + first, row(in, head, token) + first, out.nb[1] / 4,
                       in.nb[1] / 4, count};
  if (kOrder == order_heads)
    rotate_by_heads(tables, heads, n);
  else
    rotate_by_columns(tables, heads, n);
}

void haqa_kernel(const haqa_launch* launch) {
  const haqa_tensor &in = launch->in[0], &out = launch->out;
  const int64_t ne0 = out.ne[0], ne1 = out.ne[1], rows = ne1 * out.ne[2];
  Held held;
  const auto rotate_rows = [&](int64_t first_row, int64_t end_row, Columns columns) {
    const int64_t end = columns.first + columns.n, end_of_pairs = end - end % 2;
    for (int64_t first = columns.first; first < end_of_pairs; first += kMostColumns) {
      const int64_t n = end_of_pairs - first < kMostColumns ? end_of_pairs - first : kMostColumns;
      for (int64_t r = first_row; r < end_row;) {
        const int64_t end_of_token = (r / ne1 + 1) * ne1, next = end_of_token < end_row ? end_of_token : end_row;
        rotate(launch, &held, first, n, r, next - r);
        r = next;
      }
    }
    // A last column without a partner stays as it is.
    for (int64_t r = first_row; end > end_of_pairs && r < end_row; ++r)
      row_to_write(out, r % ne1, r / ne1)[end - 1] = row(in, r % ne1, r / ne1)[end - 1];
  };
  if (HAQA_CHOICE(split_, split) == split_columns && rows < launch->threads) {
    rotate_rows(0, rows, columns_of_thread(launch, ne0));
  } else {
    haqa_share(launch, rows, share_rows, HAQA_CHOICE(haqa_, sharing), [&](int64_t first, int64_t end) {
      rotate_rows(first, end, {0, ne0});
    });
  }
  fence_after<nontemporal>();
}
