#include "haqa/study/study.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "haqa/base/stats.h"
#include "haqa/study/evaluations.h"

namespace haqa {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::optional<StopReason> overspent(const StudyOptions& options, Clock::time_point start) {
  const Budget& limit = options.budget;
  const Budget so_far = options.spent ? options.spent() : Budget{0, seconds_since(start)};
  if (limit.seconds > 0 && so_far.seconds >= limit.seconds) return StopReason::seconds;
  if (limit.tokens > 0 && so_far.tokens >= limit.tokens) return StopReason::tokens;
  if (limit.money > 0 && so_far.money >= limit.money) return StopReason::money;
  return std::nullopt;
}

/// Less than `share` of what the best trial is ahead of the median one; the worst may be worse by any amount.
bool negligible(std::optional<double> gain, const Track& track, std::span<const Trial> trials, double share) {
  const Trial* best = best_trial(trials, track.direction);
  if (!gain || !best) return false;
  std::vector<double> values;
  for (const Trial& t : trials)
    if (has_finite_value(t)) values.push_back(*t.value);
  return *gain < share * std::abs(*best->value - median(values));
}

using Exhausted = std::set<const StudyTrack*>;

/// The first of the tracks that have gone through the fewest rounds; nullptr where all are through.
const StudyTrack* next_track(std::span<const StudyTrack> tracks, const Exhausted& exhausted, Evaluations& evaluations,
                             int rounds) {
  const StudyTrack* next = nullptr;
  int fewest = std::max(0, rounds);
  for (const StudyTrack& on : tracks)
    if (const int n = on.track.rounds_with(evaluations.trials(on).size()); n < fewest && !exhausted.contains(&on)) {
      next = &on;
      fewest = n;
    }
  return next;
}

Proposal propose(const StudyTrack& on, std::span<const Trial> trials, int rounds) {
  if (std::none_of(trials.begin(), trials.end(), [](const Trial& t) { return t.fits; }))
    return {on.track.space.defaults(), "default", "The first round runs the defaults.", {}};
  return on.sampler.ask(on.track, trials, rounds - on.track.rounds_with(trials.size()));
}

}  // namespace

StopReason run_study(std::span<const StudyTrack> tracks, const StudyOptions& options) {
  const Clock::time_point start = Clock::now();
  Evaluations evaluations(options);
  for (const StudyTrack& on : tracks)
    for (const Trial& earlier : evaluations.trials(on)) on.sampler.tell(on.track, earlier);

  Exhausted exhausted;
  const auto run = [&](const StudyTrack& on, Trial trial) {
    if (options.on_proposal) options.on_proposal(on.track, trial);
    trial.propose_s = seconds_since(evaluations.free_since());
    evaluations.start(on, std::move(trial));
  };
  /// Begins the next trial, or says why there is none.
  const auto begin = [&]() -> std::optional<StopReason> {
    if (const auto reason = overspent(options, start)) return reason;
    for (const StudyTrack& on : tracks)
      if (std::optional<Trial> waiting = evaluations.claim_waiting(on)) {
        run(on, *std::move(waiting));
        return std::nullopt;
      }
    const StudyTrack* on = nullptr;
    std::vector<Trial> trials;
    Proposal proposal;
    do {
      on = next_track(tracks, exhausted, evaluations, options.budget.rounds);
      if (!on) return exhausted.size() == tracks.size() ? StopReason::exhausted : StopReason::rounds;
      trials = evaluations.trials(*on);
      proposal = propose(*on, trials, options.budget.rounds);
      if (proposal.exhausted) exhausted.insert(on);
    } while (proposal.exhausted);
    if (negligible(proposal.expected_gain, on->track, trials, options.negligible_gain)) return StopReason::no_gain;
    run(*on, evaluations.keep(*on, proposal));
    return std::nullopt;
  };

  std::optional<StopReason> stop;
  try {
    while (!stop || !evaluations.empty()) {
      while (!stop && evaluations.has_room()) stop = begin();
      if (evaluations.empty()) break;
      evaluations.finish_one();
    }
  } catch (...) {
    evaluations.finish_rest();
    throw;
  }
  return *stop;
}

std::string_view to_string(Direction direction) {
  return direction == Direction::maximize ? "maximize" : "minimize";
}

std::string_view to_string(StopReason reason) {
  switch (reason) {
    case StopReason::rounds:
      return "all rounds are done";
    case StopReason::seconds:
      return "the time is used up";
    case StopReason::tokens:
      return "the tokens are used up";
    case StopReason::money:
      return "the money is used up";
    case StopReason::exhausted:
      return "all configurations are tried";
    case StopReason::no_gain:
      break;
  }
  return "hardly any gain is expected of further rounds";
}

Trial running_trial(int number, const Proposal& proposal) {
  Trial trial;
  trial.number = number;
  trial.state = TrialState::running;
  trial.configuration = proposal.configuration;
  trial.proposed_by = proposal.proposed_by;
  trial.thought = proposal.thought;
  trial.metrics = proposal.metrics;
  return trial;
}

int MemoryStorage::start(const Proposal& proposal) {
  trials_.push_back(running_trial(static_cast<int>(trials_.size()), proposal));
  return trials_.back().number;
}

void MemoryStorage::report(int number, const Intermediate& value) {
  trials_.at(static_cast<size_t>(number)).intermediate.push_back(value);
}

void MemoryStorage::finish(const Trial& trial) {
  trials_.at(static_cast<size_t>(trial.number)) = trial;
}

bool has_finite_value(const Trial& t) {
  return t.state == TrialState::complete && t.value && std::isfinite(*t.value);
}

const Trial* best_trial(std::span<const Trial> trials, Direction direction) {
  const Trial* best = nullptr;
  for (const Trial& t : trials) {
    if (!has_finite_value(t) || !t.fits) continue;
    if (!best || (direction == Direction::maximize ? *t.value > *best->value : *t.value < *best->value)) best = &t;
  }
  return best;
}

}  // namespace haqa
