#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

/// What the threads of a launch share: kernels know it by its name alone.
struct haqa_team {
  /// Of one thread: what its partners tell it, and on a line of its own how far it is itself.
  struct alignas(64) Line {
    static constexpr int kRounds = 14;  ///< enough for 16384 threads
    std::atomic<uint32_t> reached[kRounds];
    alignas(64) uint32_t barriers = 0;
    uint32_t launches = 0;
  };
  explicit haqa_team(int n) : threads(n), lines(std::make_unique<Line[]>(static_cast<size_t>(n))) {}
  int threads;
  std::unique_ptr<Line[]> lines;
  /// Of the launches in turn: one counts while the other is set back.
  struct alignas(64) Counter {
    std::atomic<int64_t> taken{0};
  } counters[2];
};

namespace haqa {

/// Processors that this process may use, one of each core first.
std::vector<int> processors();

/// Threads that stay and work together, each on a processor of its own as far as there are enough: they sleep between
/// two pieces of work, and spin within one, so that two on one processor would wait for each other's time slices.
class Team {
 public:
  /// The calling thread becomes one of them. Throws Error where so many cannot be started.
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const { return shared_.threads; }
  haqa_team& shared() { return shared_; }
  /// Calls work(thread) on all of them; the calling thread is number 0.
  void run(const std::function<void(int)>& work);

  /// Of the threads within run() only: wait for all; the second one begins another launch, whose counter is 0.
  static void barrier(haqa_team* team);
  static void finish_launch(haqa_team* team);
  static int64_t take(haqa_team* team, int64_t amount);

 private:
  void serve(int thread);

  haqa_team shared_;
  const std::function<void(int)>* work_ = nullptr;
  std::atomic<uint32_t> turn_{0}, finished_{0};
  std::atomic<bool> ends_{false};
  std::vector<std::thread> threads_;
};

}  // namespace haqa
