#include "haqa/study/study.h"

#include <chrono>

namespace haqa {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
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
  while (static_cast<int>(trials.size()) < options.rounds) {
    const int number = static_cast<int>(trials.size());
    const auto asked = std::chrono::steady_clock::now();
    Proposal proposal = number == 0 ? Proposal{track.space.defaults(), "default", "The first round runs the defaults."}
                                    : sampler.ask(track, trials, options.rounds - number);
    const double propose_s = seconds_since(asked);
    if (options.on_proposal) options.on_proposal(number, proposal);

    const auto started = std::chrono::steady_clock::now();
    Outcome outcome = objective.evaluate(proposal.configuration);
    Trial trial = finished(number, std::move(proposal), std::move(outcome));
    trial.propose_s = propose_s;
    trial.evaluate_s = seconds_since(started);

    if (options.on_trial) options.on_trial(trial);
    sampler.tell(track, trial);
    trials.push_back(std::move(trial));
  }
}

const Trial* best_trial(std::span<const Trial> trials, Direction direction) {
  const Trial* best = nullptr;
  for (const Trial& t : trials) {
    if (!t.value) continue;
    if (!best || (direction == Direction::maximize ? *t.value > *best->value : *t.value < *best->value)) best = &t;
  }
  return best;
}

}  // namespace haqa
