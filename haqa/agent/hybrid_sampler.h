#pragma once
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "haqa/sampler/surrogate.h"

namespace haqa {

/// The agent and the surrogate each propose, and the surrogate picks. With n trials so far the agent is asked with
/// probability min(1, 4/n), as each of its answers costs time and money; its candidate is taken where the surrogate's
/// score for it, a log expected improvement, is at most 8/n below that of the surrogate's own best, and as long as
/// there is no model, unless it probably fails. Both fade as piBO's prior does (Hvarfner et al. 2022): a good agent
/// leads at first, a bad one costs a few trials. Chang et al. 2025, LLINBO, have both rules apart: "Transient" and
/// "Justify". Reproducible by seed, as far as the agent is.
class HybridSampler : public Sampler {
 public:
  /// agent: an AgentSampler, an ExpertSampler, a joint agent's. seed and priors: the surrogate's.
  HybridSampler(std::unique_ptr<Sampler> agent, uint64_t seed, std::vector<PriorEntry> priors = {});
  /// Throws what the agent throws.
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;
  void tell(const Track& track, const Trial& trial) override { agent_->tell(track, trial); }

 private:
  bool ask_agent(size_t trials);
  Proposal choose(const Surrogate& surrogate, Proposal agents, size_t trials);

  std::unique_ptr<Sampler> agent_;
  std::mt19937_64 random_;
  std::vector<PriorEntry> priors_;
};

}  // namespace haqa
