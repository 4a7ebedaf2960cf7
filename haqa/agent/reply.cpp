#include "haqa/agent/reply.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "haqa/agent/answer_form.h"
#include "haqa/base/json.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

/// A second opinion on SearchSpace::problem, from the schema that the provider was given.
bool matches_schema(const Json& value, const Json& schema) {
  const nlohmann::json plain_schema = schema, plain_value = value;  // valijson knows the unordered kind only
  valijson::Schema compiled;
  valijson::SchemaParser().populateSchema(valijson::adapters::NlohmannJsonAdapter(plain_schema), compiled);
  return valijson::Validator().validate(compiled, valijson::adapters::NlohmannJsonAdapter(plain_value), nullptr);
}

std::string trimmed(std::string_view text) {
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) || c == '*'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

/// The prose before the action: what follows its last "Thought:".
std::string thought_of(std::string_view prose) {
  const size_t mark = prose.rfind("Thought:");
  if (mark != std::string_view::npos) prose.remove_prefix(mark + 8);
  return trimmed(prose);
}

struct Found {
  std::string thought;
  Json action;  ///< null where there is none
};

/// A track that an answer must serve.
struct Asked {
  std::string_view name;  ///< of its entry; empty: the action itself is its configuration
  const Track& track;
  std::span<const Trial> trials;
};
using AllAsked = std::span<const Asked>;

bool holds_a_parameter(const Track& track, const Json& object) {
  return object.is_object() && mentions_any(track, [&](const std::string& name) { return object.contains(name); });
}

/// What an action holds for a track; nullptr where that is nothing.
const Json* entry_for(const Asked& asked, AllAsked all, const Json& action) {
  const auto entry = action.find(asked.name);
  if (!asked.name.empty() && entry != action.end()) return &*entry;
  return all.size() == 1 && holds_a_parameter(asked.track, action) ? &action : nullptr;
}

bool is_decision(AllAsked all, const Json& action) {
  return std::any_of(all.begin(), all.end(), [&](const Asked& a) { return entry_for(a, all, action); });
}

/// {"thought": ..., "action": {...}}, or with capitals, as the prompt spells the words, or "configuration"; nothing for
/// another object.
std::optional<Found> unwrapped(const Json& object) {
  for (const auto& [thought, action] :
       {std::pair("thought", "action"), std::pair("Thought", "Action"), std::pair("thought", "configuration")}) {
    const auto inner = object.find(action);
    if (inner == object.end() || !inner->is_object()) continue;
    const Json said = object.value(thought, Json());
    return Found{said.is_string() ? said.get<std::string>() : "", *inner};
  }
  return std::nullopt;
}

/// The last object that decides something: models go on with an observation that they make up. Else the last.
const Json& decision(const std::vector<Json>& objects, AllAsked asked) {
  const auto at = std::find_if(objects.rbegin(), objects.rend(),
                               [&](const Json& o) { return unwrapped(o) || is_decision(asked, o); });
  return at == objects.rend() ? objects.back() : *at;
}

Found find_action(std::string_view text, AllAsked asked) {
  const std::vector<Json> all = find_json_objects(text);
  if (all.empty()) return {};
  // First, as the word "Action" may stand anywhere within such an object.
  if (auto found = unwrapped(decision(all, asked))) return *std::move(found);
  bool cut_off = false;
  for (size_t mark = text.rfind("Action"); mark != std::string_view::npos;
       mark = mark == 0 ? std::string_view::npos : text.rfind("Action", mark - 1)) {
    const std::vector<Json> objects = find_json_objects(text.substr(mark));
    if (!objects.empty()) return {thought_of(text.substr(0, mark)), decision(objects, asked)};
    cut_off = cut_off || text.find('{', mark) != std::string_view::npos;
  }
  if (cut_off) return {};  // what the thought quotes is not the decision
  return {thought_of(text.substr(0, text.find('{'))), decision(all, asked)};
}

const Trial* same_trial(const SearchSpace& space, std::span<const Trial> trials, const Configuration& configuration) {
  const std::string hash = space.hash(configuration);
  for (const Trial& t : trials)
    if (space.hash(t.configuration) == hash) return &t;
  return nullptr;
}

using Parsed = std::variant<AgentAction, ReplyFault>;

/// What is wrong with an answer that holds no action.
ReplyFault without_action(std::string_view text, AllAsked all) {
  if (trimmed(text).empty()) return {FaultKind::wrong_format, "it is empty"};
  const auto mentioned = [&](const std::string& name) { return text.find(name) != std::string_view::npos; };
  const bool on_topic =
      text.find('{') != std::string_view::npos ||
      std::any_of(all.begin(), all.end(), [&](const Asked& a) { return mentions_any(a.track, mentioned); });
  return {on_topic ? FaultKind::wrong_format : FaultKind::irrelevant, ""};
}

// Told to the model: an answer of 5,000 unknown keys would flood its context.
ReplyFault out_of_range(const std::string& problem) {
  return {FaultKind::out_of_range, shortened(problem, 1500)};
}

Parsed checked(const Asked& asked, const std::string& thought, const Json& answer, std::vector<std::string>& code) {
  const SearchSpace& space = asked.track.space;
  if (!holds_a_parameter(asked.track, answer))
    return ReplyFault{FaultKind::irrelevant, "its JSON object holds none of the parameters"};
  const auto read = from_answer(asked.track, answer, code);
  if (const auto* faults = std::get_if<AnswerFaults>(&read))
    return out_of_range(fmt::format("{}", fmt::join(faults->faults, "; ")));
  const auto& configuration = std::get<Configuration>(read);
  if (const auto problem = space.problem(configuration)) return out_of_range(*problem);
  const Configuration clean = space.normalized(configuration);
  if (!matches_schema(clean, space.schema()))
    return ReplyFault{FaultKind::out_of_range, "it does not match the JSON schema of the search space"};
  if (const Trial* before = same_trial(space, asked.trials, clean))
    return ReplyFault{FaultKind::duplicate, fmt::format("round {}", before->number + 1)};
  return AgentAction{thought, clean};
}

/// Blocks of code from the first one behind the last "Action" on, which answers it; else the last one.
std::vector<std::string> answered_code(const Unfenced& answer) {
  const size_t mark = answer.text.rfind("Action");
  const size_t from = mark == std::string::npos ? 0 : mark;
  std::vector<std::string> behind, before;
  for (const Unfenced::Block& block : answer.blocks)
    if (block.closed) (block.at >= from ? behind : before).push_back(block.code);
  if (behind.empty() && !before.empty()) behind.push_back(before.back());
  return behind;
}

/// Texts in fenced blocks are for tracks that ask for them; other answers are read as they are.
bool takes_code(AllAsked all) {
  return std::any_of(all.begin(), all.end(), [](const Asked& a) {
    return std::any_of(a.track.answer_names.begin(), a.track.answer_names.end(),
                       [](const AnswerName& name) { return !name.flag.empty(); });
  });
}

std::vector<Parsed> parse(std::string_view text, AllAsked all) {
  std::vector<std::string> code;
  std::string without;
  if (takes_code(all)) {
    const auto decides_nothing = [&](std::string_view block) {
      const std::vector<Json> objects = find_json_objects(block);
      return std::none_of(objects.begin(), objects.end(),
                          [&](const Json& o) { return unwrapped(o) || is_decision(all, o); });
    };
    const Unfenced answer = without_code(text, decides_nothing);
    code = answered_code(answer);
    text = without = answer.text;
  }
  const Found found = find_action(text, all);
  if (found.action.is_null()) return {all.size(), without_action(text, all)};
  if (!is_decision(all, found.action))
    return {all.size(), ReplyFault{FaultKind::irrelevant, "its JSON object holds none of the parameters"}};
  std::vector<Parsed> parsed;
  for (const Asked& a : all) {
    const Json* entry = entry_for(a, all, found.action);
    parsed.push_back(entry ? checked(a, found.thought, *entry, code)
                           : ReplyFault{FaultKind::out_of_range, fmt::format("it holds no entry \"{}\"", a.name)});
  }
  return parsed;
}

}  // namespace

std::string_view to_string(FaultKind kind) {
  switch (kind) {
    case FaultKind::wrong_format:
      return "wrong format";
    case FaultKind::out_of_range:
      return "out of range";
    case FaultKind::irrelevant:
      return "irrelevant text";
    case FaultKind::duplicate:
      break;
  }
  return "duplicate";
}

std::variant<AgentAction, ReplyFault> parse_reply(std::string_view text, const Track& track,
                                                  std::span<const Trial> trials) {
  const Asked one[] = {{"", track, trials}};
  return parse(text, one).front();
}

std::vector<std::variant<AgentAction, ReplyFault>> parse_joint_reply(std::string_view text,
                                                                     std::span<const TrackHistory> tracks) {
  std::vector<Asked> all;
  for (const TrackHistory& h : tracks) all.push_back({h.track->name, *h.track, h.trials});
  return parse(text, all);
}

}  // namespace haqa
