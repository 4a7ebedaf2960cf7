#include "haqa/agent/agent_sampler.h"

#include "haqa/agent/reply.h"

namespace haqa {

AgentSampler::AgentSampler(ChatProvider& provider, Prompts prompts, AgentOptions options,
                           std::function<void(const AgentEvent&)> on_event)
    : provider_(provider),
      prompts_(std::move(prompts)),
      options_(options),
      on_event_(std::move(on_event)),
      fallback_(options.seed) {}

Proposal AgentSampler::ask(const Track& track, std::span<const Trial> trials, int rounds_left) {
  ChatRequest request{build_conversation(prompts_, track, trials, rounds_left, options_.history), track.space.schema(),
                      &track, trials, rounds_left};
  try {
    for (int attempt = 0; attempt <= options_.corrections; ++attempt) {
      const ChatReply reply = provider_.complete(request);
      auto parsed = parse_reply(reply.content, track.space, trials);
      if (auto* action = std::get_if<AgentAction>(&parsed))
        return {std::move(action->configuration), provider_.name(), std::move(action->thought)};
      const ReplyFault& fault = std::get<ReplyFault>(parsed);
      report({std::string(to_string(fault.kind)), fault.detail, attempt == options_.corrections});
      request.messages.push_back({"assistant", reply.content});
      request.messages.push_back(correction(track, fault));
    }
  } catch (const ProviderError& e) {
    if (!e.passing) throw;
    report({"provider", e.what(), true});
  }
  Proposal proposal = fallback_.ask(track, trials, rounds_left);
  proposal.proposed_by = "fallback: " + proposal.proposed_by;
  return proposal;
}

Message AgentSampler::correction(const Track& track, const ReplyFault& fault) const {
  const std::string example = example_action(track.space);
  switch (fault.kind) {
    case FaultKind::wrong_format:
      return {"user", prompts_.render("correction_format", {{"detail", fault.detail}, {"example", example}})};
    case FaultKind::irrelevant:
      return {"user", prompts_.render("correction_irrelevant", {{"detail", fault.detail}, {"example", example}})};
    case FaultKind::duplicate:
      return {"user", prompts_.render("correction_duplicate", {{"detail", fault.detail}})};
    case FaultKind::out_of_range:
      break;
  }
  return {"user", prompts_.render("correction_range", {{"detail", fault.detail}})};
}

void AgentSampler::report(AgentEvent event) const {
  if (on_event_) on_event_(event);
}

}  // namespace haqa
