#include "haqa/agent/agent.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/agent/answer_form.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

Json schema_of(std::span<const TrackHistory> tracks, bool joint) {
  if (!joint) return answer_schema(*tracks.front().track);
  Json properties = Json::object(), required = Json::array();
  for (const TrackHistory& h : tracks) {
    properties[h.track->name] = answer_schema(*h.track);
    required.push_back(h.track->name);
  }
  return {{"type", "object"}, {"properties", properties}, {"required", required}, {"additionalProperties", false}};
}

}  // namespace

Agent::Agent(ChatProvider& provider, Prompts prompts, AgentOptions options,
             std::function<void(const AgentEvent&)> on_event)
    : provider_(provider), prompts_(std::move(prompts)), options_(std::move(options)), on_event_(std::move(on_event)) {}

std::vector<Message> Agent::conversation(std::span<const TrackHistory> tracks, const HistoryLimits& limits) const {
  std::vector<Track> told;
  told.reserve(tracks.size());  // the histories point to them
  std::vector<TrackHistory> histories(tracks.begin(), tracks.end());
  for (TrackHistory& h : histories) {
    told.push_back(*h.track);
    told.back().brief += options_.earlier;
    h.track = &told.back();
  }
  return build_conversation(prompts_, histories, limits, name());
}

std::vector<std::optional<AgentAction>> Agent::decide(std::span<const TrackHistory> tracks) const {
  const bool joint = tracks.size() > 1;
  std::vector<std::optional<AgentAction>> decided(tracks.size());
  std::vector<TrackHistory> open;  // asked for still, once some are decided
  ChatRequest request{conversation(tracks, options_.history), schema_of(tracks, joint), tracks};
  std::vector<Message> exchange;  // unusable answers and their corrections
  constexpr size_t kLongestQuote = 1200;
  try {
    for (int attempt = 0; attempt <= options_.corrections; ++attempt) {
      const ChatReply reply = provider_.complete(request);
      const std::vector<Fault> faults = take(reply.content, tracks, decided);
      if (faults.empty()) break;
      const bool last = attempt == options_.corrections;
      for (const Fault& f : faults) {
        const std::string detail = f.fault.detail.empty() ? "no JSON object that can be read" : f.fault.detail;
        report({std::string(to_string(f.fault.kind)), joint ? f.on->track->name + ": " + detail : detail, last});
      }
      if (last) break;
      // Cut: babble of any length would overflow its context.
      exchange.push_back({"assistant", shortened(reply.content, kLongestQuote)});
      exchange.push_back(correction(faults, joint));
      open.clear();
      for (const Fault& f : faults) open.push_back(*f.on);
      request = {with_exchange(tracks, exchange), schema_of(open, joint), open};
    }
  } catch (const ProviderError& e) {
    if (!e.passing) throw;
    report({"provider", e.what(), true});
  }
  return decided;
}

/// Keeps what an answer decides for the tracks that are open still; returns what is wrong with the rest.
std::vector<Agent::Fault> Agent::take(std::string_view answer, std::span<const TrackHistory> tracks,
                                      std::vector<std::optional<AgentAction>>& decided) {
  std::vector<size_t> open;
  std::vector<TrackHistory> histories;
  for (size_t i = 0; i < tracks.size(); ++i) {
    if (decided[i]) continue;
    open.push_back(i);
    histories.push_back(tracks[i]);
  }
  std::vector<std::variant<AgentAction, ReplyFault>> parsed;
  if (tracks.size() == 1) {
    parsed.push_back(parse_reply(answer, *tracks[0].track, tracks[0].trials));
  } else {
    parsed = parse_joint_reply(answer, histories);
  }
  std::vector<Fault> faults;
  for (size_t i = 0; i < open.size(); ++i) {
    if (auto* action = std::get_if<AgentAction>(&parsed[i])) {
      decided[open[i]] = std::move(*action);
    } else {
      faults.push_back({&tracks[open[i]], std::get<ReplyFault>(std::move(parsed[i]))});
    }
  }
  return faults;
}

std::vector<Message> Agent::with_exchange(std::span<const TrackHistory> tracks,
                                          std::span<const Message> exchange) const {
  HistoryLimits limits = options_.history;
  limits.token_budget -= total_tokens(exchange);
  std::vector<Message> messages;
  try {
    messages = conversation(tracks, limits);
  } catch (const Error& e) {
    // The first request fitted, so this is no fault of the task: the answers leave no room.
    throw ProviderError(true, fmt::format("no room for a correction: {}", e.what()));
  }
  messages.insert(messages.end(), exchange.begin(), exchange.end());
  return messages;
}

Message Agent::correction(std::span<const Fault> faults, bool joint) const {
  const Fault& first = faults.front();
  if (!joint) return {"user", correction_text(first.fault, example_action(*first.on->track))};
  std::vector<TrackHistory> open;
  std::string lines;
  for (const Fault& f : faults) {
    open.push_back(*f.on);
    lines += fmt::format("{}Track \"{}\": {}", lines.empty() ? "" : "\n", f.on->track->name,
                         correction_text(f.fault, example_action(*f.on->track)));
  }
  return {"user", prompts_.render("correction_joint", {{"faults", lines}, {"example", example_action(open)}})};
}

std::string Agent::correction_text(const ReplyFault& fault, const std::string& example) const {
  const std::string because = fault.detail.empty() ? "" : ": " + fault.detail;
  switch (fault.kind) {
    case FaultKind::wrong_format:
      return prompts_.render("correction_format", {{"detail", because}, {"example", example}});
    case FaultKind::irrelevant:
      return prompts_.render("correction_irrelevant", {{"detail", because}, {"example", example}});
    case FaultKind::duplicate:
      return prompts_.render("correction_duplicate", {{"detail", fault.detail}});
    case FaultKind::out_of_range:
      break;
  }
  return prompts_.render("correction_range", {{"detail", fault.detail}});
}

void Agent::report(AgentEvent event) const {
  if (on_event_) on_event_(event);
}

}  // namespace haqa
