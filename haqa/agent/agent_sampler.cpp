#include "haqa/agent/agent_sampler.h"

namespace haqa {

AgentSampler::AgentSampler(ChatProvider& provider, Prompts prompts, AgentOptions options,
                           std::function<void(const AgentEvent&)> on_event)
    : agent_(provider, std::move(prompts), options, std::move(on_event)), fallback_(options.seed) {}

Proposal AgentSampler::ask(const Track& track, std::span<const Trial> trials, int rounds_left) {
  const TrackHistory one[] = {{&track, trials, rounds_left}};
  if (auto action = agent_.decide(one).front())
    return {std::move(action->configuration), agent_.name(), std::move(action->thought), {}};
  return fall_back(fallback_, track, trials, rounds_left);
}

Proposal fall_back(Sampler& fallback, const Track& track, std::span<const Trial> trials, int rounds_left) {
  Proposal proposal = fallback.ask(track, trials, rounds_left);
  proposal.proposed_by = "fallback: " + proposal.proposed_by;
  return proposal;
}

}  // namespace haqa
