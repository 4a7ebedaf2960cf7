// y = x / sqrt(mean(x^2) + eps), along the first dimension, and what is the same with weights.
#ifndef HAQA_KERNELS_RMS_NORM_H
#define HAQA_KERNELS_RMS_NORM_H
#include "../kernel.h"

#ifndef vector_width
#define vector_width 16
#endif
#ifndef unroll
#define unroll 4
#endif
#ifndef fusion
#define fusion none
#endif
#ifndef sharing
#define sharing static
#endif
#ifndef share_rows
#define share_rows 1
#endif
#ifndef split
#define split twice
#endif
#ifndef split_from
#define split_from 8192
#endif
#ifndef prefetch
#define prefetch 0
#endif
#ifndef nontemporal
#define nontemporal 0
#endif
#include "../vector.h"

enum { fusion_none, fusion_next_row };
constexpr int64_t kBlock =
    8192;  ///< floats whose squares are summed up in one vector: no more, for the sake of accuracy

static inline double sum_of_squares(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i += kBlock) {
    const float* from = x + i;
    sum += sum_of(fold_row<unroll>(
        n - i < kBlock ? n - i : kBlock, Floats{},
        [&](int64_t k, auto size) {
          prefetch_after<prefetch>(from + k);
          return load(from + k, size);
        },
        [](Floats a, Floats v) { return a + v * v; }, [](Floats a, Floats b) { return a + b; }));
  }
  return sum;
}

/// What a row is multiplied with.
static inline float scale_for(const haqa_launch* launch, double sum) {
  const double mean = sum / static_cast<double>(launch->out.ne[0]);
  return 1 / __builtin_sqrtf(static_cast<float>(mean) + launch->scalars[0]);
}

/// weight(v, i, size) is v times the weights from i on, or v.
template <typename Weight>
static inline void write_scaled(float* y, const float* x, int64_t n, float scale, Weight weight) {
  write_row<unroll, nontemporal>(y, n,
                                 [&](int64_t i, auto size, int) { return weight(load(x + i, size) * scale, i, size); });
}

/// As write_scaled(); returns the sum of squares of the next row, for which no separate pass is needed then.
template <typename Weight>
static inline double write_and_sum(float* y, const float* x, const float* next, int64_t n, float scale, Weight weight) {
  double sum = 0;
  for (int64_t i = 0; i < n; i += kBlock) {
    Floats squares[unroll] = {};
    const int64_t count = n - i < kBlock ? n - i : kBlock;
    write_row<unroll, nontemporal>(y + i, count, [&](int64_t at, auto size, int chain) {
      prefetch_after<prefetch>(next + i + at);
      const Floats v = load(next + i + at, size);
      squares[chain] += v * v;
      return weight(load(x + i + at, size) * scale, i + at, size);
    });
    repeat<unroll>([&](int k) { sum += sum_of(squares[k]); });
  }
  return sum;
}

template <typename Weight>
static void whole_rows(const haqa_launch* launch, Weight weight) {
  const int64_t n = launch->out.ne[0];
  const float* summed = nullptr;  // a row whose sum is known
  double sum = 0;
  share_rows_of(launch, share_rows, HAQA_CHOICE(haqa_, sharing), [&](const float* x, float* y, const float* next) {
    if (HAQA_CHOICE(fusion_, fusion) == fusion_next_row) {
      if (summed != x) sum = sum_of_squares(x, n);
      const float scale = scale_for(launch, sum);
      if (next == x) {
        write_scaled(y, x, n, scale, weight);
        summed = nullptr;
      } else {
        sum = write_and_sum(y, x, next, n, scale, weight);
        summed = next;
      }
    } else {
      write_scaled(y, x, n, scale_for(launch, sum_of_squares(x, n)), weight);
    }
  });
}

/// All threads on each row, for there are more of them than rows. Either each sums up the whole row, or each its own
/// part with a barrier behind that; the latter always in place, where others overwrite their parts at once.
template <typename Weight>
static void split_rows(const haqa_launch* launch, Weight weight) {
  const haqa_tensor &in = launch->in[0], &out = launch->out;
  const int64_t n = out.ne[0], rows = out.ne[1] * out.ne[2];
  const Columns mine = columns_of_thread(launch, n);
  struct alignas(64) Line {
    double sum;
  };
  Line* lines = static_cast<Line*>(launch->shared_scratch);
  const bool twice = HAQA_CHOICE(haqa_split_, split) == haqa_split_twice && in.data != out.data;
  if (!twice) {
    for (int64_t r = 0; r < rows; ++r)
      lines[r * launch->threads + launch->thread].sum =
          sum_of_squares(row(in, r % out.ne[1], r / out.ne[1]) + mine.first, mine.n);
    launch->barrier(launch->team);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = row(in, r % out.ne[1], r / out.ne[1]);
    double sum = 0;
    if (twice) sum = sum_of_squares(x, n);
    for (int i = 0; !twice && i < launch->threads; ++i) sum += lines[r * launch->threads + i].sum;
    const int64_t first = mine.first;
    write_scaled(row_to_write(out, r % out.ne[1], r / out.ne[1]) + first, x + first, mine.n, scale_for(launch, sum),
                 [&](Floats v, int64_t i, auto size) { return weight(v, first + i, size); });
  }
}

template <typename Weight>
static void rms_norm(const haqa_launch* launch, Weight weight) {
  if (HAQA_CHOICE(haqa_split_, split) != haqa_split_none && launch->out.ne[0] >= split_from &&
      launch->out.ne[1] * launch->out.ne[2] < launch->threads)
    split_rows(launch, weight);
  else
    whole_rows(launch, weight);
  fence_after<nontemporal>();
}
#endif
