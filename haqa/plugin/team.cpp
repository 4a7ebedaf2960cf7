#include "haqa/plugin/team.h"

#include <omp.h>
#include <sched.h>

#include <optional>

namespace haqa {
namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

}  // namespace

void Barrier::wait() {
  if (threads_ == 1) return;
  const uint32_t before = passed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    passed_.store(before + 1, std::memory_order_release);
    return;
  }
  constexpr int kSpins = 20000;  // some hundred microseconds
  for (int i = 0; passed_.load(std::memory_order_acquire) == before; ++i) {
    if (i < kSpins)
      pause();
    else
      sched_yield();
  }
}

void run_on_threads(int threads, const std::function<void(Share, Barrier&)>& work) {
  if (threads <= 1) {
    Barrier alone(1);
    work({}, alone);
    return;
  }
  std::optional<Barrier> barrier;
#pragma omp parallel num_threads(threads)
  {
    // The runtime may give fewer threads than were asked for.
#pragma omp single
    barrier.emplace(omp_get_num_threads());
    work({omp_get_thread_num(), omp_get_num_threads()}, *barrier);
  }
}

}  // namespace haqa
