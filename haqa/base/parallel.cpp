#include "haqa/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace haqa {
namespace {

class Loop {
 public:
  Loop(size_t count, const std::function<void(size_t)>& work) : count_(count), work_(work) {}

  void run(const std::function<void(double)>& progress, size_t at_once) {
    std::vector<std::jthread> threads;
    const size_t others = std::min(at_once, count_) - 1;
    try {
      for (size_t i = 0; i < others; ++i) threads.emplace_back([this] { take({}); });
    } catch (const std::system_error&) {  // no more are to be had: the others do the work
    }
    take(progress);  // on this thread, so that the callback needs no lock
    threads.clear();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void take(const std::function<void(double)>& progress) noexcept {
    try {
      for (size_t i = next_++; i < count_; i = next_++) {
        work_(i);
        if (progress) progress(static_cast<double>(i) / static_cast<double>(count_));
      }
    } catch (...) {
      next_ = count_;  // the others stop too
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  const size_t count_;
  const std::function<void(size_t)>& work_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace

void parallel_for(size_t count, const std::function<void(size_t)>& work, const std::function<void(double)>& progress,
                  int threads) {
  const size_t at_once =
      threads > 0 ? static_cast<size_t>(threads) : std::max<size_t>(1, std::thread::hardware_concurrency());
  if (count > 0) Loop(count, work).run(progress, at_once);
  if (progress) progress(1.0);
}

}  // namespace haqa
