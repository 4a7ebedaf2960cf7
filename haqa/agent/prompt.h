#pragma once
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "haqa/agent/chat.h"
#include "haqa/study/study.h"

namespace haqa {

/// The agent's texts: files data/prompts/NAME.md with slots written {{name}}.
class Prompts {
 public:
  explicit Prompts(std::filesystem::path folder);
  /// The text with its slots filled. Throws Error where the file is missing, a slot has no value or a value no slot.
  std::string render(const std::string& name, const std::map<std::string, std::string>& values) const;

 private:
  std::filesystem::path folder_;
};

struct HistoryLimits {
  int rounds = 10;           ///< latest rounds told in full; older ones in a line each
  int token_budget = 16000;  ///< of the whole prompt, as estimate_tokens() counts
};

/// Three bytes a token: above what English and JSON come to in most tokenizers, but for long rows of digits.
int estimate_tokens(std::string_view text);

/// Of a whole request, roles and separators included.
int total_tokens(std::span<const Message> messages);

/// The conversation of the paper, appendix E: the system message, the static prompt, then for every round a dynamic
/// prompt and the answer to it, ending with the dynamic prompt of the last trial. Rounds beyond the limits are
/// summarized, oldest first, then left out; the incumbent stands in the last message always. Neighbouring messages of
/// the same role are one, as several chat templates demand. What somebody else than `agent` proposed is told as such;
/// an empty name: all are its own answers. Of texts, such as a kernel's code, those of the last trial and of the
/// incumbent are told in full, in the last message, as far as the budget reaches; all others as short_text().
/// Throws Error where the static prompt alone exceeds the token budget.
std::vector<Message> build_conversation(const Prompts& prompts, const Track& track, std::span<const Trial> trials,
                                        int rounds_left, const HistoryLimits& limits, std::string_view agent = {});
/// The same over several tracks, the paper's joint study: round i tells trial i of each.
std::vector<Message> build_conversation(const Prompts& prompts, std::span<const TrackHistory> tracks,
                                        const HistoryLimits& limits, std::string_view agent = {});

/// A trial's result as the agent reads it: value, metrics, or why it failed.
std::string describe_result(const Track& track, const Trial& trial);

/// {"threads": ..., ...}: the form of an answer, with the defaults as values.
std::string example_action(const Track& track);
/// {"finetune": {"epochs": ...}, "runtime": {...}}: the same for several tracks.
std::string example_action(std::span<const TrackHistory> tracks);

}  // namespace haqa
