#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "haqa/agent/chat.h"
#include "haqa/agent/prompt.h"
#include "haqa/sampler/bayesian.h"

namespace haqa {

struct AgentOptions {
  HistoryLimits history;
  int corrections = 2;  ///< unusable answers corrected in a round before the fallback proposes
  uint64_t seed = 1;    ///< of the fallback
};

/// What went wrong in a round, for the log: an unusable answer, or a provider that did not answer.
struct AgentEvent {
  std::string kind;  ///< "wrong format", "out of range", "irrelevant text", "duplicate", "provider"
  std::string detail;
  bool fallback = false;  ///< this was the last straw: the surrogate proposes
};

/// The paper's agent as a sampler: prompt, ReAct answer, check, correction; a surrogate where the answers stay
/// unusable.
class AgentSampler : public Sampler {
 public:
  AgentSampler(ChatProvider& provider, Prompts prompts, AgentOptions options,
               std::function<void(const AgentEvent&)> on_event = {});
  /// Throws ProviderError where the provider is set up wrongly; passing failures lead to the fallback.
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  Message correction(const Track& track, const struct ReplyFault& fault) const;
  /// The conversation, with less of its history, and the exchange behind it: within the token budget as ever.
  std::vector<Message> with_exchange(const Track& track, std::span<const Trial> trials, int rounds_left,
                                     std::span<const Message> exchange) const;
  void report(AgentEvent event) const;

  ChatProvider& provider_;
  Prompts prompts_;
  AgentOptions options_;
  std::function<void(const AgentEvent&)> on_event_;
  BayesianSampler fallback_;
};

}  // namespace haqa
