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

/// The prose of an answer: after "Thought:", up to "Action:" or the JSON.
std::string thought_of(std::string_view text) {
  const size_t mark = text.find("Thought:");
  if (mark != std::string_view::npos) text.remove_prefix(mark + 8);
  return trimmed(text.substr(0, std::min(text.find("Action:"), text.find('{'))));
}

struct Found {
  std::string thought;
  Json action;  ///< null where there is none
};

Found find_action(std::string_view text) {
  const size_t mark = text.rfind("Action");
  std::vector<Json> objects = find_json_objects(mark == std::string_view::npos ? text : text.substr(mark));
  if (objects.empty()) objects = find_json_objects(text);
  if (objects.empty()) return {};
  Json& last = objects.back();
  if (last.contains("action") && last["action"].is_object()) {
    const Json thought = last.value("thought", Json());
    return {thought.is_string() ? thought.get<std::string>() : "", last["action"]};
  }
  return {thought_of(text), last};
}

bool names_a_parameter(const SearchSpace& space, const auto& mentions) {
  return std::any_of(space.parameters().begin(), space.parameters().end(),
                     [&](const Parameter& p) { return mentions(p.name); });
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
  const Found found = find_action(text);
  if (found.action.is_null()) {
    const bool on_topic = text.find('{') != std::string_view::npos || names_a_parameter(space, [&](const auto& name) {
                            return text.find(name) != std::string_view::npos;
                          });
    if (trimmed(text).empty()) return ReplyFault{FaultKind::wrong_format, ": it is empty"};
    return ReplyFault{on_topic ? FaultKind::wrong_format : FaultKind::irrelevant, ""};
  }
  if (!names_a_parameter(space, [&](const auto& name) { return found.action.contains(name); }))
    return ReplyFault{FaultKind::irrelevant, ": its JSON object holds none of the parameters"};
  if (const auto problem = space.problem(found.action)) return ReplyFault{FaultKind::out_of_range, *problem};
  const Configuration clean = space.normalized(found.action);
  if (!matches_schema(clean, space.schema()))
    return ReplyFault{FaultKind::out_of_range, "it does not match the JSON schema of the search space"};
  if (const Trial* before = same_trial(space, trials, clean))
    return ReplyFault{FaultKind::duplicate, fmt::format("round {}", before->number + 1)};
  return AgentAction{found.thought, clean};
}

}  // namespace haqa
