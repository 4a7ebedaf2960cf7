#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <list>
#include <mutex>
#include <utility>

#include "haqa/study/study.h"

namespace haqa {

/// The trials of a study that are being measured, each in a thread of its own; a lone worker's in the calling thread,
/// at finish_one(). Storages know one thread only: all access to them goes through here.
class Evaluations {
 public:
  explicit Evaluations(const StudyOptions& options) : options_(options) {}
  bool empty() const { return running_.empty(); }
  bool has_room() const { return static_cast<int>(running_.size()) < std::max(1, options_.workers); }

  /// But those that were interrupted: their rounds are made up for, and nothing is to be learned of them.
  std::vector<Trial> trials(const StudyTrack& on);
  std::optional<Trial> claim_waiting(const StudyTrack& on);
  /// Keeps the trial in its storage, which numbers it.
  Trial keep(const StudyTrack& on, const Proposal& proposal);
  void start(const StudyTrack& on, Trial trial);
  /// Waits for one of them, stores and tells it. Throws what its objective threw.
  void finish_one();
  /// When the last measurement ended; at first, when this was made.
  std::chrono::steady_clock::time_point last_end() const { return last_end_; }

 private:
  using Id = std::pair<const StudyTrack*, int>;  ///< and the trial's number
  struct Running {
    Id id;
    std::future<Trial> result;
  };
  struct Finished;

  Id next_finished();
  Trial measure(const StudyTrack& on, Trial trial);
  bool report(const StudyTrack& on, Trial& trial, const Intermediate& value);

  const StudyOptions& options_;
  std::chrono::steady_clock::time_point last_end_ = std::chrono::steady_clock::now();
  std::mutex mutex_;  ///< of the storages and of finished_
  std::condition_variable one_finished_;
  std::deque<Id> finished_;
  std::list<Running> running_;  ///< last, so that it waits for its threads before the rest goes
};

}  // namespace haqa
