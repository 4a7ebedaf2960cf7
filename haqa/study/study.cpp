#include "haqa/study/study.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

namespace haqa {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A value that is no number is a failure: it compares with nothing, so it would stay the incumbent for good, and a log
/// keeps it as null.
Outcome checked(Outcome outcome) {
  if (!outcome.value || std::isfinite(*outcome.value)) return outcome;
  outcome.message = fmt::format("measured {}, which is not a finite number", *outcome.value);
  outcome.reason = FailReason::wrong_result;
  outcome.value.reset();
  return outcome;
}

Trial finished(int number, Proposal proposal, Outcome outcome) {
  Trial trial;
  trial.number = number;
  trial.configuration = std::move(proposal.configuration);
  trial.proposed_by = std::move(proposal.proposed_by);
  trial.thought = std::move(proposal.thought);
  trial.state = outcome.value ? TrialState::complete : TrialState::failed;
  trial.value = outcome.value;
  trial.reason = outcome.reason;
  trial.message = std::move(outcome.message);
  trial.metrics = std::move(outcome.metrics);
  return trial;
}

}  // namespace

void run_study(const Track& track, Sampler& sampler, Objective& objective, std::vector<Trial>& trials,
               const StudyOptions& options) {
  for (const Trial& earlier : trials) sampler.tell(track, earlier);
  auto last_end = std::chrono::steady_clock::now();
  while (static_cast<int>(trials.size()) < options.rounds) {
    const int number = static_cast<int>(trials.size());
    Proposal proposal = number == 0 ? Proposal{track.space.defaults(), "default", "The first round runs the defaults."}
                                    : sampler.ask(track, trials, options.rounds - number);
    if (options.on_proposal) options.on_proposal(number, proposal);
    const double propose_s = seconds_since(last_end);

    const auto started = std::chrono::steady_clock::now();
    Outcome outcome = checked(objective.evaluate(proposal.configuration));
    Trial trial = finished(number, std::move(proposal), std::move(outcome));
    trial.propose_s = propose_s;
    trial.evaluate_s = seconds_since(started);
    last_end = std::chrono::steady_clock::now();

    if (options.on_trial) options.on_trial(trial);
    sampler.tell(track, trial);
    trials.push_back(std::move(trial));
  }
}

const Trial* best_trial(std::span<const Trial> trials, Direction direction) {
  const Trial* best = nullptr;
  for (const Trial& t : trials) {
    if (!t.value || std::isnan(*t.value)) continue;
    if (!best || (direction == Direction::maximize ? *t.value > *best->value : *t.value < *best->value)) best = &t;
  }
  return best;
}

}  // namespace haqa
