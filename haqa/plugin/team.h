#pragma once
#include <atomic>
#include <cstdint>
#include <functional>

namespace haqa {

/// Of one thread within a team.
struct Share {
  int thread = 0, threads = 1;
  /// This thread's part of n things: [first, end).
  struct Range {
    int64_t first, end;
  };
  Range of(int64_t n) const { return {n * thread / threads, n * (thread + 1) / threads}; }
};

/// Where all threads of a graph wait for each other. Spins, as they come within microseconds of each other, but yields
/// the processor after a while: there may be more threads than processors.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  void wait();

 private:
  const int threads_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> passed_{0};
};

/// Runs work on up to `threads` threads at once, of which the calling one is the first. They
/// are those of the OpenMP runtime that ggml's own CPU code uses: two sets of spinning threads would take the
/// processors from each other.
void run_on_threads(int threads, const std::function<void(Share, Barrier&)>& work);

}  // namespace haqa

/// What the threads of a launch share (kernels/kernel.h).
struct haqa_team {
  haqa::Barrier* barrier = nullptr;
  std::atomic<int64_t> taken{0};
};
