#include "haqa/study/evaluations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace haqa {
namespace {

constexpr std::chrono::milliseconds kStoreEvery{250};

/// A value that is no number is a failure: it compares with nothing, so it would stay the incumbent for good, and a log
/// keeps it as null.
void check(const Track& track, Outcome& outcome) {
  if (!outcome.value) return;
  std::vector<double> all = outcome.more_values;
  all.insert(all.begin(), *outcome.value);
  const auto rubbish = std::find_if(all.begin(), all.end(), [](double v) { return !std::isfinite(v); });
  if (rubbish != all.end()) {
    outcome.message = fmt::format("measured {}, which is not a finite number", *rubbish);
  } else if (outcome.more_values.size() != track.more_goals.size()) {
    outcome.message = fmt::format("measured {} values of {}", all.size(), track.more_goals.size() + 1);
  } else {
    return;
  }
  outcome.reason = FailReason::wrong_result;
  outcome.value.reset();
  outcome.more_values.clear();
}

void take(Trial& trial, Outcome outcome, bool pruned) {
  trial.state = outcome.value ? TrialState::complete : pruned ? TrialState::pruned : TrialState::failed;
  trial.value = outcome.value;
  if (trial.state == TrialState::pruned) trial.value = trial.intermediate.back().value;
  if (trial.state == TrialState::failed) trial.reason = outcome.reason;
  trial.more_values = std::move(outcome.more_values);
  trial.message = std::move(outcome.message);
  trial.metrics.update(outcome.metrics);
}

/// Its process took the time to say so: it was asked to end, so that the configuration is not to blame.
bool ended_orderly(const Trial& t) {
  return t.evaluate_s > 0;
}

}  // namespace

std::vector<Trial> counted_trials(std::vector<Trial> trials, const SearchSpace& space) {
  std::set<std::string> died;  // configurations
  for (Trial& t : trials)
    if (t.reason == FailReason::interrupted && !ended_orderly(t) && !died.insert(space.hash(t.configuration)).second)
      t.reason = FailReason::crashed;
  std::erase_if(trials, [](const Trial& t) { return t.reason == FailReason::interrupted; });
  return trials;
}

/// Says at its end, also where an exception ends it, that the measurement has a result.
struct Evaluations::Finished {
  Evaluations& all;
  Id id;
  ~Finished() {
    const std::scoped_lock lock(all.mutex_);
    all.finished_.push_back(id);
    all.one_finished_.notify_one();
  }
};

std::vector<Trial> Evaluations::trials(const StudyTrack& on) {
  const std::scoped_lock lock(mutex_);
  return counted_trials(on.storage.trials(), on.track.space);
}

std::optional<Trial> Evaluations::claim_waiting(const StudyTrack& on) {
  const std::scoped_lock lock(mutex_);
  return on.storage.claim_waiting();
}

Trial Evaluations::keep(const StudyTrack& on, const Proposal& proposal) {
  const std::scoped_lock lock(mutex_);
  return running_trial(on.storage.start(proposal), proposal);
}

void Evaluations::start(const StudyTrack& on, Trial trial) {
  free_since_ = std::chrono::steady_clock::now();
  const auto policy = options_.workers > 1 ? std::launch::async : std::launch::deferred;
  const Id id = {&on, trial.number};
  running_.push_back({id, std::async(policy, [this, id, t = std::move(trial)]() mutable {
                        const Finished at_end{*this, id};
                        return measure(*id.first, std::move(t));
                      })});
}

void Evaluations::finish_one() {
  if (options_.workers <= 1) running_.front().result.wait();  // works here and now
  const Id id = next_finished();
  const auto at = std::find_if(running_.begin(), running_.end(), [&](const Running& r) { return r.id == id; });
  const Measured measured = at->result.get();
  running_.erase(at);
  free_since_ = std::chrono::steady_clock::now();
  const StudyTrack& on = *id.first;
  if (measured.error) abandon(on, measured);
  {
    const std::scoped_lock lock(mutex_);
    on.storage.finish(measured.trial);
  }
  if (options_.on_trial) options_.on_trial(on.track, measured.trial);
  on.sampler.tell(on.track, measured.trial);
}

void Evaluations::abandon(const StudyTrack& on, const Measured& measured) {
  try {
    const std::scoped_lock lock(mutex_);
    on.storage.abandon(measured.trial);
  } catch (const std::exception&) {  // what ended the trial comes first
  }
  std::rethrow_exception(measured.error);
}

void Evaluations::finish_rest() {
  while (!running_.empty()) {
    try {
      finish_one();
    } catch (const std::exception&) {  // the first one is on its way to the user
    }
  }
}

Evaluations::Id Evaluations::next_finished() {
  std::unique_lock lock(mutex_);
  one_finished_.wait(lock, [&] { return !finished_.empty(); });
  const Id id = finished_.front();
  finished_.pop_front();
  return id;
}

Evaluations::Measured Evaluations::measure(const StudyTrack& on, Trial trial) {
  const auto started = std::chrono::steady_clock::now();
  std::exception_ptr error;
  try {
    evaluate(on, trial);
  } catch (const std::exception& e) {
    error = std::current_exception();
    trial.state = TrialState::failed;
    trial.reason = FailReason::interrupted;
    trial.message = e.what();
  }
  trial.evaluate_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return {std::move(trial), error};
}

void Evaluations::evaluate(const StudyTrack& on, Trial& trial) {
  bool pruned = false;
  std::chrono::steady_clock::time_point stored;
  Outcome outcome = on.objective.evaluate(trial.configuration, [&](int step, double value) {
    pruned = pruned || !report(on, trial, {step, value}, stored);
    return !pruned;
  });
  check(on.track, outcome);
  take(trial, std::move(outcome), pruned);
}

/// Whether the trial is worth going on. What is no number is left out: the end will tell. A value is stored now and
/// then, for others to see how far the trial is, and all with its end: a program that reports faster than a disk writes
/// would wait for us else. With a pruner all are stored at once: it compares trials at a step, also with those that
/// other processes measure, and would take a later value for that of a step that is not there.
bool Evaluations::report(const StudyTrack& on, Trial& trial, const Intermediate& value,
                         std::chrono::steady_clock::time_point& stored) {
  if (!std::isfinite(value.value)) return true;
  trial.intermediate.push_back(value);
  const std::scoped_lock lock(mutex_);
  if (const auto now = std::chrono::steady_clock::now(); options_.pruner || now - stored >= kStoreEvery) {
    on.storage.report(trial.number, value);
    stored = now;
  }
  return !options_.pruner || !options_.pruner->hopeless(on.track.direction, on.storage.trials(), trial);
}

}  // namespace haqa
