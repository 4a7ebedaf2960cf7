#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/agent/chat.h"
#include "haqa/agent/prompt.h"
#include "haqa/agent/reply.h"

namespace haqa {

struct AgentOptions {
  HistoryLimits history;
  int corrections = 2;  ///< unusable answers corrected in a round before the fallback proposes
  uint64_t seed = 1;    ///< of the fallback
  std::string earlier;  ///< what the prompt adds to each track's brief; in the track priors would take it for the task
};

/// What went wrong in a round, for the log: an unusable answer, or a provider that did not answer.
struct AgentEvent {
  std::string kind;  ///< "wrong format", "out of range", "irrelevant text", "duplicate", "provider"
  std::string detail;
  bool fallback = false;  ///< this was the last straw: the surrogate proposes
};

/// The paper's agent: prompt, ReAct answer, check, correction.
class Agent {
 public:
  Agent(ChatProvider& provider, Prompts prompts, AgentOptions options,
        std::function<void(const AgentEvent&)> on_event = {});
  std::string name() const { return provider_.name(); }

  /// Asks once for a configuration of each of the tracks, which have different names, and again for those whose entry
  /// of the answer is faulty. Nothing for a track whose answers stay unusable; passing failures of the provider leave
  /// it at what was decided before. Throws ProviderError where the provider is set up wrongly, and Error where the
  /// prompt exceeds its budget.
  std::vector<std::optional<AgentAction>> decide(std::span<const TrackHistory> tracks) const;

 private:
  struct Fault {
    const TrackHistory* on;
    ReplyFault fault;
  };
  static std::vector<Fault> take(std::string_view answer, std::span<const TrackHistory> tracks,
                                 std::vector<std::optional<AgentAction>>& decided);
  Message correction(std::span<const Fault> faults, bool joint) const;
  std::string correction_text(const ReplyFault& fault, const std::string& example) const;
  std::vector<Message> conversation(std::span<const TrackHistory> tracks, const HistoryLimits& limits) const;
  /// The conversation, with less of its history, and the exchange behind it: within the token budget as ever.
  std::vector<Message> with_exchange(std::span<const TrackHistory> tracks, std::span<const Message> exchange) const;
  void report(AgentEvent event) const;

  ChatProvider& provider_;
  Prompts prompts_;
  AgentOptions options_;
  std::function<void(const AgentEvent&)> on_event_;
};

}  // namespace haqa
