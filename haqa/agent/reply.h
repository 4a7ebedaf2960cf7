#pragma once
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "haqa/agent/chat.h"

namespace haqa {

/// What an agent decided.
struct AgentAction {
  std::string thought;
  Configuration configuration;  ///< valid and normalized
};

/// The faults the paper saw in answers (section 3.3), and a configuration that was tried before.
enum class FaultKind { wrong_format, out_of_range, irrelevant, duplicate };

struct ReplyFault {
  FaultKind kind = FaultKind::wrong_format;
  std::string detail;  ///< what exactly is wrong, for the correction; may be empty
};

std::string_view to_string(FaultKind kind);  ///< "wrong format", ...

/// Reads an answer in the ReAct form "Thought: ... Action: {...}", or {"thought": ..., "action": {...}}, or prose
/// around a JSON object. Of several objects the last one after the last "Action", else the last, counts; those that
/// hold no parameter, such as an observation that the model made up, come after those that do. Keys are the track's
/// answer_names or parameters; a text that is changed may follow in a fenced block.
std::variant<AgentAction, ReplyFault> parse_reply(std::string_view text, const Track& track,
                                                  std::span<const Trial> trials);

/// The same for an answer with an entry for each of several tracks, {"finetune": {...}, "runtime": {...}}: one result a
/// track, so that one track's fault spoils no other's entry. Where a single track is left, its bare configuration will
/// do.
std::vector<std::variant<AgentAction, ReplyFault>> parse_joint_reply(std::string_view text,
                                                                     std::span<const TrackHistory> tracks);

}  // namespace haqa
