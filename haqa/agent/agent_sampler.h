#pragma once
#include <functional>

#include "haqa/agent/agent.h"
#include "haqa/sampler/bayesian.h"

namespace haqa {

/// The paper's agent as a sampler of one track; a surrogate where its answers stay unusable. joint_agent.h has the one
/// of several tracks.
class AgentSampler : public Sampler {
 public:
  AgentSampler(ChatProvider& provider, Prompts prompts, AgentOptions options,
               std::function<void(const AgentEvent&)> on_event = {});
  /// Throws ProviderError where the provider is set up wrongly; passing failures lead to the fallback.
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  Agent agent_;
  BayesianSampler fallback_;
};

/// What the fallback of an agent proposes, marked as such.
Proposal fall_back(Sampler& fallback, const Track& track, std::span<const Trial> trials, int rounds_left);

}  // namespace haqa
