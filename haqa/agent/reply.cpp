#include "haqa/agent/reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

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

bool names_a_parameter(const SearchSpace& space, const auto& mentions) {
  return std::any_of(space.parameters().begin(), space.parameters().end(),
                     [&](const Parameter& p) { return mentions(p.name); });
}

bool holds_a_parameter(const SearchSpace& space, const Json& object) {
  return names_a_parameter(space, [&](const std::string& name) { return object.contains(name); });
}

/// {"thought": ..., "action": {...}}, or with capitals, as the prompt spells the words; nothing for another object.
std::optional<Found> unwrapped(const Json& object) {
  for (const auto& [thought, action] : {std::pair("thought", "action"), std::pair("Thought", "Action")}) {
    const auto inner = object.find(action);
    if (inner == object.end() || !inner->is_object()) continue;
    const Json said = object.value(thought, Json());
    return Found{said.is_string() ? said.get<std::string>() : "", *inner};
  }
  return std::nullopt;
}

/// The last object that holds a parameter: models go on with an observation that they make up. Else the last.
const Json& decision(const std::vector<Json>& objects, const SearchSpace& space) {
  const auto at = std::find_if(objects.rbegin(), objects.rend(),
                               [&](const Json& o) { return unwrapped(o) || holds_a_parameter(space, o); });
  return at == objects.rend() ? objects.back() : *at;
}

Found find_action(std::string_view text, const SearchSpace& space) {
  const std::vector<Json> all = find_json_objects(text);
  if (all.empty()) return {};
  // First, as the word "Action" may stand anywhere within such an object.
  if (auto found = unwrapped(decision(all, space))) return *std::move(found);
  bool cut_off = false;
  for (size_t mark = text.rfind("Action"); mark != std::string_view::npos;
       mark = mark == 0 ? std::string_view::npos : text.rfind("Action", mark - 1)) {
    const std::vector<Json> objects = find_json_objects(text.substr(mark));
    if (!objects.empty()) return {thought_of(text.substr(0, mark)), decision(objects, space)};
    cut_off = cut_off || text.find('{', mark) != std::string_view::npos;
  }
  if (cut_off) return {};  // what the thought quotes is not the decision
  return {thought_of(text.substr(0, text.find('{'))), decision(all, space)};
}

const Trial* same_trial(const SearchSpace& space, std::span<const Trial> trials, const Configuration& configuration) {
  const std::string hash = space.hash(configuration);
  for (const Trial& t : trials)
    if (space.hash(t.configuration) == hash) return &t;
  return nullptr;
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

std::variant<AgentAction, ReplyFault> parse_reply(std::string_view text, const SearchSpace& space,
                                                  std::span<const Trial> trials) {
  const Found found = find_action(text, space);
  if (found.action.is_null()) {
    const auto mentioned = [&](const std::string& name) { return text.find(name) != std::string_view::npos; };
    const bool on_topic = text.find('{') != std::string_view::npos || names_a_parameter(space, mentioned);
    if (trimmed(text).empty()) return ReplyFault{FaultKind::wrong_format, "it is empty"};
    return ReplyFault{on_topic ? FaultKind::wrong_format : FaultKind::irrelevant, ""};
  }
  if (!holds_a_parameter(space, found.action))
    return ReplyFault{FaultKind::irrelevant, "its JSON object holds none of the parameters"};
  // Told to the model: an answer of 5,000 unknown keys would flood its context.
  if (const auto problem = space.problem(found.action))
    return ReplyFault{FaultKind::out_of_range, shortened(*problem, 1500)};
  const Configuration clean = space.normalized(found.action);
  if (!matches_schema(clean, space.schema()))
    return ReplyFault{FaultKind::out_of_range, "it does not match the JSON schema of the search space"};
  if (const Trial* before = same_trial(space, trials, clean))
    return ReplyFault{FaultKind::duplicate, fmt::format("round {}", before->number + 1)};
  return AgentAction{found.thought, clean};
}

}  // namespace haqa
