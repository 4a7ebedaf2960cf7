#include "haqa/agent/agent_sampler.h"

#include <fmt/format.h>

#include "haqa/agent/reply.h"
#include "haqa/base/text.h"

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
  std::vector<Message> exchange;  // unusable answers and their corrections
  constexpr size_t kLongestQuote = 1200;
  try {
    for (int attempt = 0; attempt <= options_.corrections; ++attempt) {
      const ChatReply reply = provider_.complete(request);
      auto parsed = parse_reply(reply.content, track.space, trials);
      if (auto* action = std::get_if<AgentAction>(&parsed))
        return {std::move(action->configuration), provider_.name(), std::move(action->thought)};
      const ReplyFault& fault = std::get<ReplyFault>(parsed);
      const bool last = attempt == options_.corrections;
      const std::string detail = fault.detail.empty() ? "no JSON object that can be read" : fault.detail;
      report({std::string(to_string(fault.kind)), detail, last});
      if (last) break;
      // Cut: babble of any length would overflow its context.
      exchange.push_back({"assistant", shortened(reply.content, kLongestQuote)});
      exchange.push_back(correction(track, fault));
      request.messages = with_exchange(track, trials, rounds_left, exchange);
    }
  } catch (const ProviderError& e) {
    if (!e.passing) throw;
    report({"provider", e.what(), true});
  }
  Proposal proposal = fallback_.ask(track, trials, rounds_left);
  proposal.proposed_by = "fallback: " + proposal.proposed_by;
  return proposal;
}

std::vector<Message> AgentSampler::with_exchange(const Track& track, std::span<const Trial> trials, int rounds_left,
                                                 std::span<const Message> exchange) const {
  HistoryLimits limits = options_.history;
  limits.token_budget -= total_tokens(exchange);
  std::vector<Message> messages;
  try {
    messages = build_conversation(prompts_, track, trials, rounds_left, limits);
  } catch (const Error& e) {
    // The first request fitted, so this is no fault of the task: the answers leave no room.
    throw ProviderError(true, fmt::format("no room for a correction: {}", e.what()));
  }
  messages.insert(messages.end(), exchange.begin(), exchange.end());
  return messages;
}

Message AgentSampler::correction(const Track& track, const ReplyFault& fault) const {
  const std::string example = example_action(track.space);
  const std::string because = fault.detail.empty() ? "" : ": " + fault.detail;
  switch (fault.kind) {
    case FaultKind::wrong_format:
      return {"user", prompts_.render("correction_format", {{"detail", because}, {"example", example}})};
    case FaultKind::irrelevant:
      return {"user", prompts_.render("correction_irrelevant", {{"detail", because}, {"example", example}})};
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
