#include "haqa/study/trial.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "haqa/base/error.h"

namespace haqa {
namespace {

constexpr std::array<std::pair<FailReason, std::string_view>, 8> kReasons = {{
    {FailReason::none, "none"},
    {FailReason::out_of_memory, "out_of_memory"},
    {FailReason::timed_out, "timed_out"},
    {FailReason::crashed, "crashed"},
    {FailReason::does_not_compile, "does_not_compile"},
    {FailReason::wrong_result, "wrong_result"},
    {FailReason::quality_loss, "quality_loss"},
    {FailReason::interrupted, "interrupted"},
}};

constexpr std::array<std::pair<TrialState, std::string_view>, 4> kStates = {{
    {TrialState::running, "running"},
    {TrialState::complete, "complete"},
    {TrialState::pruned, "pruned"},
    {TrialState::failed, "failed"},
}};

FailReason reason_from(const std::string& name) {
  if (const auto reason = fail_reason(name)) return *reason;
  throw Error("\"{}\" is no reason of a failed trial; the log was written by another version", name);
}

/// The value under `key`; `fits` says whether its type is right. nlohmann's own errors name the type, but no key, and
/// turn 1.5 or true into a whole number without one.
const Json& field(const Json& json, const char* key, const char* expected, const auto& fits) {
  constexpr const char* kAdvice = "the log is damaged or of another version";
  const auto found = json.find(key);
  if (found == json.end()) throw Error("a trial in the log has no \"{}\"; {}", key, kAdvice);
  if (!fits(*found)) throw Error("\"{}\" of a trial in the log is not {}; {}", key, expected, kAdvice);
  return *found;
}

std::string text(const Json& json, const char* key) {
  return field(json, key, "a text", [](const Json& v) { return v.is_string(); });
}

double number(const Json& json, const char* key) {
  return field(json, key, "a number", [](const Json& v) { return v.is_number(); });
}

Json object(const Json& json, const char* key) {
  return field(json, key, "an object", [](const Json& v) { return v.is_object(); });
}

int trial_number(const Json& json) {
  return field(json, "number", "a whole number from 0",
               [](const Json& v) { return v.is_number_integer() && v >= 0 && v <= std::numeric_limits<int>::max(); });
}

TrialState trial_state(const Json& json) {
  const Json& state = field(json, "state", "a state that a trial can have", [](const Json& v) {
    return std::any_of(kStates.begin(), kStates.end(), [&](const auto& known) { return v == known.second; });
  });
  return std::find_if(kStates.begin(), kStates.end(), [&](const auto& known) { return state == known.second; })->first;
}

std::vector<double> more_values(const Json& json) {
  std::vector<double> values;
  for (const Json& v : json.value("more_values", Json::array())) {
    if (!v.is_number()) throw Error("\"more_values\" of a trial in the log holds {}, which is no number", v.dump());
    values.push_back(v);
  }
  return values;
}

std::vector<Intermediate> intermediate(const Json& json) {
  std::vector<Intermediate> values;
  for (const Json& v : json.value("intermediate", Json::array())) {
    if (!v.is_array() || v.size() != 2 || !v[0].is_number_integer() || !v[1].is_number())
      throw Error("\"intermediate\" of a trial in the log holds {}, which is no [step, value]", v.dump());
    values.push_back({v[0], v[1]});
  }
  return values;
}

}  // namespace

std::optional<FailReason> fail_reason(std::string_view name) {
  for (const auto& [reason, text] : kReasons)
    if (text == name) return reason;
  return std::nullopt;
}

std::string_view to_string(FailReason reason) {
  for (const auto& [known, text] : kReasons)
    if (known == reason) return text;
  return "none";
}

std::string_view to_string(TrialState state) {
  return std::find_if(kStates.begin(), kStates.end(), [&](const auto& known) { return known.first == state; })->second;
}

Json to_json(const Trial& t) {
  Json json = {{"number", t.number},          {"configuration", t.configuration},
               {"state", to_string(t.state)}, {"value", t.value ? Json(*t.value) : Json(nullptr)},
               {"metrics", t.metrics},        {"proposed_by", t.proposed_by},
               {"thought", t.thought},        {"propose_s", t.propose_s},
               {"evaluate_s", t.evaluate_s}};
  if (!t.fits) json["other_space"] = true;
  if (!t.more_values.empty()) json["more_values"] = t.more_values;
  for (const Intermediate& i : t.intermediate) json["intermediate"].push_back({i.step, i.value});
  if (t.state == TrialState::failed) {
    json["reason"] = to_string(t.reason);
    json["message"] = t.message;
  }
  return json;
}

Trial trial_from_json(const Json& json) {
  if (!json.is_object()) throw Error("a trial in the log is not an object; the log is damaged or of another version");
  Trial t;
  t.number = trial_number(json);
  t.configuration = object(json, "configuration");
  t.state = trial_state(json);
  t.more_values = more_values(json);
  t.intermediate = intermediate(json);
  if (t.state == TrialState::complete || t.state == TrialState::pruned) {
    t.value = number(json, "value");
  } else if (t.state == TrialState::failed) {
    // A value beside a failure would make the failed trial the incumbent.
    field(json, "value", "null, as it must be where the trial failed", [](const Json& v) { return v.is_null(); });
    t.reason = reason_from(text(json, "reason"));
    t.message = text(json, "message");
  }
  t.metrics = object(json, "metrics");
  t.proposed_by = text(json, "proposed_by");
  t.thought = text(json, "thought");
  t.propose_s = number(json, "propose_s");
  t.evaluate_s = number(json, "evaluate_s");
  return t;
}

}  // namespace haqa
