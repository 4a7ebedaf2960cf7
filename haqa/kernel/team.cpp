#include "haqa/kernel/team.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <system_error>
#include <utility>

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

/// Its number in the team whose work it does: kernels are not asked for it.
thread_local int own_number = 0;

haqa_team::Line& own_line(haqa_team* team) {
  return team->lines[static_cast<size_t>(own_number)];
}

/// The first of a core's processors has 0, the next one 1.
int place_in_core(int processor) {
  std::ifstream siblings(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", processor));
  int first = processor;
  char sign = 0;
  siblings >> first;
  int place = 0;
  for (int at = first; at != processor && siblings >> sign; ++place)
    if (sign == '-')
      return processor - first;  // "0-1"
    else if (!(siblings >> at))
      break;  // "0,64"
  return place;
}

void stay_on(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  sched_setaffinity(0, sizeof set, &set);  // where it is forbidden, the scheduler decides
}

}  // namespace

std::vector<int> processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<std::pair<int, int>> all;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) all.emplace_back(place_in_core(i), i);
  std::sort(all.begin(), all.end());
  std::vector<int> ordered;
  for (const auto& [place, processor] : all) ordered.push_back(processor);
  return ordered;
}

Team::Team(int threads) : shared_(threads) {
  const std::vector<int> own = processors();
  const bool enough = threads > 1 && own.size() >= static_cast<size_t>(threads);
  try {
    for (int i = 1; i < threads; ++i)
      threads_.emplace_back([this, i, enough, &own] {
        if (enough) stay_on(own[static_cast<size_t>(i)]);
        serve(i);
      });
  } catch (const std::system_error&) {
    shared_.threads = static_cast<int>(threads_.size()) + 1;
    ends_ = true;
    ++turn_;
    turn_.notify_all();
    for (std::thread& t : threads_) t.join();
    throw Error("cannot start {} threads; raise the limit on processes (ulimit -u)", threads);
  }
  if (enough) stay_on(own.front());
  run([](int) {});  // a thread makes system calls until it is up
}

Team::~Team() {
  ends_ = true;
  ++turn_;
  turn_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void Team::run(const std::function<void(int)>& work) {
  own_number = 0;
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
    own_number = thread;
    (*work_)(thread);
    finished_.fetch_add(1, std::memory_order_acq_rel);
  }
}

/// Every thread tells another one in each round, twice as far off each time, and hears of one: each line is written by
/// one thread and read by one. Source: Hensgen, Finkel and Manber 1988, dissemination barrier.
void Team::barrier(haqa_team* team) {
  haqa_team::Line& own = own_line(team);
  const uint32_t reached = ++own.barriers;
  for (int round = 0, distance = 1; distance < team->threads; ++round, distance *= 2) {
    const auto partner = static_cast<size_t>((own_number + distance) % team->threads);
    team->lines[partner].reached[round].store(reached, std::memory_order_release);
    // A partner may be one barrier ahead already.
    wait_until([&] { return static_cast<int32_t>(own.reached[round].load(std::memory_order_acquire) - reached) >= 0; });
  }
}

void Team::finish_launch(haqa_team* team) {
  haqa_team::Line& own = own_line(team);
  // The counter that nobody takes from any more becomes that of the next launch.
  if (own_number == 0) team->counters[(own.launches + 1) % 2].taken.store(0, std::memory_order_relaxed);
  barrier(team);
  ++own.launches;
}

int64_t Team::take(haqa_team* team, int64_t amount) {
  return team->counters[own_line(team).launches % 2].taken.fetch_add(amount, std::memory_order_relaxed);
}

}  // namespace haqa
