#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <future>
#include <list>
#include <mutex>
#include <utility>

#include "haqa/study/study.h"

namespace haqa {

/// A study's trials but those that were interrupted: their rounds are made up for, and nothing is to be learned of
/// them. Where a configuration's process died a second time, it may have been the cause: that trial stays, as crashed.
std::vector<Trial> counted_trials(std::vector<Trial> trials, const SearchSpace& space);

/// The trials of a study that are being measured, each in a thread of its own; a lone worker's in the calling thread,
/// at finish_one(). Storages know one thread only: all access to them goes through here.
class Evaluations {
 public:
  explicit Evaluations(const StudyOptions& options) : options_(options) {}
  bool empty() const { return running_.empty(); }
  bool has_room() const { return static_cast<int>(running_.size()) < std::max(1, options_.workers); }

  /// Those that count.
  std::vector<Trial> trials(const StudyTrack& on);
  std::optional<Trial> claim_waiting(const StudyTrack& on);
  /// Keeps the trial in its storage, which numbers it.
  Trial keep(const StudyTrack& on, const Proposal& proposal);
  void start(const StudyTrack& on, Trial trial);
  /// Waits for one of them, stores and tells it. Throws what its objective threw, once the storage has heard of that.
  void finish_one();
  /// After a failure: waits for all of them and stores and tells those that get a result. Further failures say nothing
  /// new.
  void finish_rest();
  /// When the last measurement ended or began, and asking for another could begin; at first, when this was made.
  std::chrono::steady_clock::time_point free_since() const { return free_since_; }

 private:
  using Id = std::pair<const StudyTrack*, int>;  ///< and the trial's number
  /// A trial and what its objective threw, if anything.
  struct Measured {
    Trial trial;
    std::exception_ptr error;
  };
  struct Running {
    Id id;
    std::future<Measured> result;
  };
  struct Finished;

  Id next_finished();
  [[noreturn]] void abandon(const StudyTrack& on, const Measured& measured);
  Measured measure(const StudyTrack& on, Trial trial);
  void evaluate(const StudyTrack& on, Trial& trial);
  bool report(const StudyTrack& on, Trial& trial, const Intermediate& value,
              std::chrono::steady_clock::time_point& stored);

  const StudyOptions& options_;
  std::chrono::steady_clock::time_point free_since_ = std::chrono::steady_clock::now();
  std::mutex mutex_;  ///< of the storages and of finished_
  std::condition_variable one_finished_;
  std::deque<Id> finished_;
  std::list<Running> running_;  ///< last, so that it waits for its threads before the rest goes
};

}  // namespace haqa
