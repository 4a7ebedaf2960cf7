#include "haqa/study/trial.h"

#include <array>
#include <utility>

#include "haqa/base/error.h"

namespace haqa {
namespace {

constexpr std::array<std::pair<FailReason, std::string_view>, 6> kReasons = {{
    {FailReason::none, "none"},
    {FailReason::out_of_memory, "out_of_memory"},
    {FailReason::timed_out, "timed_out"},
    {FailReason::crashed, "crashed"},
    {FailReason::wrong_result, "wrong_result"},
    {FailReason::quality_loss, "quality_loss"},
}};

FailReason reason_from(const std::string& name) {
  for (const auto& [reason, text] : kReasons)
    if (text == name) return reason;
  throw Error("\"{}\" is no reason of a failed trial; the log was written by another version", name);
}

}  // namespace

std::string_view to_string(FailReason reason) {
  for (const auto& [known, text] : kReasons)
    if (known == reason) return text;
  return "none";
}

Json to_json(const Trial& t) {
  Json json = {{"number", t.number},
               {"configuration", t.configuration},
               {"state", t.state == TrialState::complete ? "complete" : "failed"},
               {"value", t.value ? Json(*t.value) : Json(nullptr)},
               {"metrics", t.metrics},
               {"proposed_by", t.proposed_by},
               {"thought", t.thought},
               {"propose_s", t.propose_s},
               {"evaluate_s", t.evaluate_s}};
  if (t.state == TrialState::failed) {
    json["reason"] = to_string(t.reason);
    json["message"] = t.message;
  }
  return json;
}

Trial trial_from_json(const Json& json) {
  try {
    Trial t;
    t.number = json.at("number");
    t.configuration = json.at("configuration");
    t.state = json.at("state") == "complete" ? TrialState::complete : TrialState::failed;
    if (!json.at("value").is_null()) t.value = json.at("value").get<double>();
    if (t.state == TrialState::failed) {
      t.reason = reason_from(json.at("reason"));
      t.message = json.at("message");
    }
    t.metrics = json.at("metrics");
    t.proposed_by = json.at("proposed_by");
    t.thought = json.at("thought");
    t.propose_s = json.at("propose_s");
    t.evaluate_s = json.at("evaluate_s");
    return t;
  } catch (const Json::exception& e) {
    throw Error("a trial in the log cannot be read ({}); the log is damaged or of another version", e.what());
  }
}

}  // namespace haqa
