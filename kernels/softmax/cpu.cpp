// y = exp(x - max x) / sum, along the first dimension.
#include "../kernel.h"

#ifndef vector_width
#define vector_width 16
#endif
#ifndef unroll
#define unroll 4
#endif
#ifndef passes
#define passes stored
#endif
#ifndef sharing
#define sharing static
#endif
#ifndef share_rows
#define share_rows 1
#endif
#ifndef split
#define split barrier
#endif
#ifndef split_from
#define split_from 8192
#endif
#ifndef prefetch
#define prefetch 0
#endif
#ifndef prefetch_next
#define prefetch_next 0
#endif
#ifndef nontemporal
#define nontemporal 0
#endif
#ifndef exp_degree
#define exp_degree 5
#endif
#ifndef exponent
#define exponent scale
#endif
#include "../vector.h"

enum { passes_stored, passes_recomputed, passes_online };
constexpr int kPasses = HAQA_CHOICE(passes_, passes);
constexpr bool kScale = HAQA_CHOICE(haqa_exponent_, exponent);
constexpr int kPastCaches = kPasses == passes_stored ? 0 : nontemporal;

/// Whether exp(x - max) is 2^(x * log2(e) - m) with m = max * log2(e), rounded, which saves an operation. It is off by
/// a factor that is the same in numerator and sum, but only where the product is not rounded and there is one m.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
constexpr bool kFused = kPasses != passes_online;
#else
constexpr bool kFused = false;
#endif

static inline Floats power_of_two(Floats t) {
  // Without AVX-512 what is below 2^-100 becomes 2^-100: no result is denormal, which would be slow.
  if (!(HAQA_AVX512 && kScale)) t = larger(all_lanes(-100), t);
  return exp2_of<exp_degree, kScale>(t);
}

/// Of the powers in a row, or in a part of it.
struct Sum {
  float max;  ///< of x, or the m of kFused
  float sum;  ///< of exp(x - max)
};

/// exp(x - max) with the max of a Sum.
static inline Floats power(Floats x, float max) {
  return power_of_two(kFused ? x * kLog2E - max : (x - max) * kLog2E);
}
/// By what a sum with this max is multiplied, when it is added to one with another.
static inline float rescaled(float max, float to) {
  return power_of_two(all_lanes(kFused ? max - to : (max - to) * kLog2E))[0];
}

static inline float largest(const float* x, int64_t n) {
  constexpr float kNone = -__builtin_inff();
  const auto value = [&](int64_t i, auto size) {
    prefetch_after<prefetch>(x + i);
    return load_or(x + i, size, kNone);
  };
  return largest_of(fold_row<unroll>(n, all_lanes(kNone), value, larger, larger));
}

static inline Floats add(Floats a, Floats b) {
  return a + b;
}

/// One pass: each lane has its own maximum, and its sum is scaled anew when that rises.
static Sum sum_online(const float* x, int64_t n) {
  Floats max = all_lanes(-1e38f), sum = Floats{};  // in place of -infinity: the difference of two is a number
  const auto take = [&](const Floats* v, auto count) {
    Floats top = v[0];
    repeat<decltype(count)::n - 1>([&](int k) { top = larger(top, v[k + 1]); });
    const Floats higher = larger(max, top);
    sum = sum * power_of_two((max - higher) * kLog2E);
    repeat<decltype(count)::n>([&](int k) { sum += power_of_two((v[k] - higher) * kLog2E); });
    max = higher;
  };
  int64_t i = 0;
  for (; i + unroll * kWidth <= n; i += unroll * kWidth) {
    Floats v[unroll];
    repeat<unroll>([&](int k) {
      prefetch_after<prefetch>(x + i + k * kWidth);
      v[k] = load(x + i + k * kWidth);
    });
    take(v, Count<unroll>{});
  }
  for (; i < n; i += kWidth) {
    const Floats v = n - i < kWidth ? load_or(x + i, Part{n - i}, -__builtin_inff()) : load(x + i);
    take(&v, Count<1>{});
  }
  const float top = largest_of(max);
  return {top, sum_of(sum * power_of_two((max - top) * kLog2E))};
}

/// `stored` leaves the powers in y. `next` is asked for meanwhile.
static Sum sum_row(float* y, const float* x, int64_t n, const float* next) {
  if (kPasses == passes_online) return sum_online(x, n);
  const float max = largest(x, n) * (kFused ? kLog2E : 1);
  const auto value = [&](int64_t i, auto size) {
    if (prefetch_next) prefetch_after<0, true>(next + i);
    const Floats v = power(load_or(x + i, size, -__builtin_inff()), max);
    if (kPasses == passes_stored) store(y + i, v, size);
    return v;
  };
  return {max, sum_of(fold_row<unroll>(n, Floats{}, value, add, add))};
}

/// Writes the row of which `whole` is the sum, and `part` that of these columns.
static void write(float* y, const float* x, int64_t n, Sum part, Sum whole) {
  const float inverse = 1 / whole.sum;
  if (kPasses == passes_stored) {
    const float scale = part.max == whole.max ? inverse : inverse * rescaled(part.max, whole.max);
    write_row<unroll, 0>(y, n, [&](int64_t i, auto size, int) { return load(y + i, size) * scale; });
  } else {
    write_row<unroll, kPastCaches>(
        y, n, [&](int64_t i, auto size, int) { return power(load(x + i, size), whole.max) * inverse; });
  }
}

/// All threads on each row, for there are more of them than rows.
static void split_rows(const haqa_launch* launch) {
  const haqa_tensor &in = launch->in[0], &out = launch->out;
  const int64_t rows = out.ne[1] * out.ne[2];
  const Columns mine = columns_of_thread(launch, out.ne[0]);
  struct alignas(64) Line {
    Sum sum;
  };
  Line* lines = static_cast<Line*>(launch->shared_scratch);
  const auto each_row = [&](auto what) {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t i1 = r % out.ne[1], i2 = r / out.ne[1];
      what(row(in, i1, i2) + mine.first, row_to_write(out, i1, i2) + mine.first, lines + r * launch->threads);
    }
  };
  each_row([&](const float* x, float* y, Line* of_row) {
    of_row[launch->thread].sum = mine.n > 0 ? sum_row(y, x, mine.n, x) : Sum{-1e38f, 0};
  });
  launch->barrier(launch->team);
  each_row([&](const float* x, float* y, Line* of_row) {
    Sum whole = of_row[0].sum;
    for (int i = 1; i < launch->threads; ++i) whole.max = of_row[i].sum.max > whole.max ? of_row[i].sum.max : whole.max;
    whole.sum = 0;
    for (int i = 0; i < launch->threads; ++i) whole.sum += of_row[i].sum.sum * rescaled(of_row[i].sum.max, whole.max);
    if (mine.n > 0) write(y, x, mine.n, of_row[launch->thread].sum, whole);
  });
}

void haqa_kernel(const haqa_launch* launch) {
  const int64_t n = launch->out.ne[0], rows = launch->out.ne[1] * launch->out.ne[2];
  if (HAQA_CHOICE(haqa_split_, split) != haqa_split_none && rows < launch->threads && n >= split_from) {
    split_rows(launch);
  } else {
    share_rows_of(launch, share_rows, HAQA_CHOICE(haqa_, sharing), [&](const float* x, float* y, const float* next) {
      const Sum sum = sum_row(y, x, n, next);
      write(y, x, n, sum, sum);
    });
  }
  fence_after<kPastCaches>();
}
