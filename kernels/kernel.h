// What a CPU kernel is given and what it must offer. A source includes this file, uses the macros of its tuning
// parameters (-Dname=value), and defines haqa_kernel(), which every thread of the team calls once a launch.
#ifndef HAQA_KERNELS_KERNEL_H
#define HAQA_KERNELS_KERNEL_H
#include <stdint.h>

struct haqa_team;

constexpr int64_t haqa_scratch_bytes = int64_t{1} << 20;          ///< of each thread
constexpr int64_t haqa_shared_scratch_bytes = int64_t{64} << 20;  ///< of the team

/// As in ggml: ne[0] is the contiguous dimension, nb are the strides in bytes.
struct haqa_tensor {
  void* data;  ///< of an input: read only. Aligned to its element alone.
  int64_t ne[3];
  int64_t nb[3];
};

/// One launch, as one of its threads sees it. llama.cpp computes some operations in place: then out.data is in[0].data,
/// in the same layout, and what a thread writes another one must not want to read any more. Any other overlap there is
/// never.
struct haqa_launch {
  haqa_tensor in[4];     ///< in the specification's order
  haqa_tensor out;       ///< holds NaN; where the specification says InPlace it may be in[0] itself, as above
  const float* scalars;  ///< in the specification's order
  const void* packed;    ///< what haqa_pack() made of in[0], whose data is then null; null without haqa_pack()
  void* scratch;         ///< haqa_scratch_bytes of this thread, aligned to 64 bytes
  void* shared_scratch;  ///< haqa_shared_scratch_bytes of the team, aligned to 64 bytes
  int thread, threads;   ///< from 0 to below threads
  haqa_team* team;
  void (*barrier)(haqa_team*);  ///< waits for all threads of the team
  int64_t (*take)(haqa_team*,
                  int64_t amount);  ///< adds to the launch's counter, from 0, and returns what it was before
};

extern "C" {
/// Computes this thread's part of the launch.
void haqa_kernel(const haqa_launch* launch);
/// Optional, where the specification has a constant input, the weights, as in[0]: called once when they are loaded, and
/// not timed. They are handed over in this layout from then on. Bytes are a multiple of 64.
int64_t haqa_packed_bytes(const haqa_tensor* weights);
void haqa_pack(const haqa_tensor* weights, void* packed);
/// Optional beside them: haqa_pack() of rows [first_row, end_row) alone, of which the first is a multiple of 64 and the
/// end one too or that of the weights, so that several threads can load a model.
void haqa_pack_rows(const haqa_tensor* weights, void* packed, int64_t first_row, int64_t end_row);
/// Optional beside them: writes the rows that were packed back to weights->data, byte by byte as they were.
void haqa_unpack(const haqa_tensor* weights, const void* packed);
}

/// What a compiled kernel says of itself, so that none is called by an interface that it does not know or for another
/// operation: this number, which changes with whatever stands above, and its name, which the compiler is told.
#define HAQA_INTERFACE "haqa 1 "
#ifdef HAQA_KERNEL_NAME
extern "C" {
extern const char haqa_interface[];
const char haqa_interface[] = HAQA_INTERFACE HAQA_KERNEL_NAME;
}
#endif

/// How rows are shared out among the threads.
enum haqa_schedule {
  haqa_static = 0,   ///< a part of equal size each
  haqa_dynamic = 1,  ///< `step` rows whenever a thread is free
  haqa_chunks = 2    ///< `step` rows each, round robin
};

/// Calls work(first, end) for parts of [0, rows) such that all threads together cover them once.
template <typename Work>
static inline void haqa_share(const haqa_launch* launch, int64_t rows, int64_t step, int schedule, Work work) {
  if (launch->threads == 1) {
    if (rows > 0) work(int64_t{0}, rows);
  } else if (schedule == haqa_static) {
    const int64_t steps = (rows + step - 1) / step;
    const int64_t first = steps * launch->thread / launch->threads * step;
    const int64_t end = steps * (launch->thread + 1) / launch->threads * step;
    if (first < rows) work(first, end < rows ? end : rows);
  } else if (schedule == haqa_dynamic) {
    for (int64_t i = launch->take(launch->team, step); i < rows; i = launch->take(launch->team, step))
      work(i, i + step < rows ? i + step : rows);
  } else {
    for (int64_t i = launch->thread * step; i < rows; i += launch->threads * step)
      work(i, i + step < rows ? i + step : rows);
  }
}
#endif
