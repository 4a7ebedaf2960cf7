#include "haqa/kernel/team.h"

#include <sched.h>

#include <system_error>

#include "haqa/base/error.h"

namespace haqa {
namespace {

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins; where there are more threads than cores, the others need ours.
template <typename Condition>
void wait_until(const Condition& condition) {
  for (int spins = 0; !condition(); ++spins) {
    if (spins < 20000) {
      pause();
    } else {
      sched_yield();
    }
  }
}

void wait_for_all(haqa_team* team, bool ends_launch) {
  if (team->threads == 1) {
    if (ends_launch) team->counter.store(0, std::memory_order_relaxed);
    return;
  }
  const int phase = team->phase.load(std::memory_order_relaxed);
  if (team->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == team->threads) {
    team->arrived.store(0, std::memory_order_relaxed);
    if (ends_launch) team->counter.store(0, std::memory_order_relaxed);
    team->phase.store(phase + 1, std::memory_order_release);
  } else {
    wait_until([&] { return team->phase.load(std::memory_order_acquire) != phase; });
  }
}

}  // namespace

Team::Team(int threads) {
  shared_.threads = threads;
  try {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this, i] { serve(i); });
  } catch (const std::system_error&) {
    shared_.threads = static_cast<int>(threads_.size()) + 1;
    ends_ = true;
    ++turn_;
    turn_.notify_all();
    for (std::thread& t : threads_) t.join();
    throw Error("cannot start {} threads; raise the limit on processes (ulimit -u)", threads);
  }
  run([](int) {});  // a thread makes system calls until it is up
}

Team::~Team() {
  ends_ = true;
  ++turn_;
  turn_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void Team::run(const std::function<void(int)>& work) {
  work_ = &work;
  finished_ = 0;
  if (!threads_.empty()) {
    ++turn_;
    turn_.notify_all();
  }
  work(0);
  wait_until([&] { return finished_.load(std::memory_order_acquire) == threads_.size(); });
}

void Team::serve(int thread) {
  for (uint32_t turn = 0;; ++turn) {
    turn_.wait(turn);
    if (ends_) return;
    (*work_)(thread);
    finished_.fetch_add(1, std::memory_order_acq_rel);
  }
}

void Team::finish_launch(haqa_team* team) {
  wait_for_all(team, true);
}

void Team::barrier(haqa_team* team) {
  wait_for_all(team, false);
}

int64_t Team::take(haqa_team* team, int64_t amount) {
  return team->counter.fetch_add(amount, std::memory_order_relaxed);
}

}  // namespace haqa
