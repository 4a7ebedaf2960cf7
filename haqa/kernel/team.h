#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

/// What the threads of a launch share: kernels know it by its name alone.
struct haqa_team {
  int threads = 1;
  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<int> phase{0};
  alignas(64) std::atomic<int64_t> counter{0};
};

namespace haqa {

/// Threads that stay and work together: they sleep between two pieces of work, and spin within one.
class Team {
 public:
  /// Throws Error where so many cannot be started.
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const { return shared_.threads; }
  haqa_team& shared() { return shared_; }
  /// Calls work(thread) on all of them; the calling thread is number 0.
  void run(const std::function<void(int)>& work);

  /// Waits for all threads, and sets the counter of a launch to 0.
  static void finish_launch(haqa_team* team);
  static void barrier(haqa_team* team);
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
