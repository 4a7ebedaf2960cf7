#include "haqa/study/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "haqa/base/error.h"
#include "haqa/base/stats.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

constexpr const char* kVersion = "1.0.0";
constexpr std::array<std::string_view, 6> kInvalidities = {"timeout",     "compile",     "runtime",
                                                           "correctness", "constraints", "correct"};
constexpr const char* kReason = "reason";
constexpr const char* kMessage = "message";
/// Metrics that stand elsewhere in a result.
constexpr std::array<std::string_view, 4> kTimes = {"compile_s", "check_s", "runtimes_ms", "invalidity"};

bool is_invalidity(const Json& word) {
  return word.is_string() &&
         std::find(kInvalidities.begin(), kInvalidities.end(), word.get<std::string>()) != kInvalidities.end();
}

std::string invalidity_of(const Trial& t) {
  if (t.value) return "correct";
  if (const Json said = t.metrics.value("invalidity", Json()); is_invalidity(said) && said != "correct") return said;
  switch (t.reason) {
    case FailReason::timed_out:
      return "timeout";
    case FailReason::does_not_compile:
      return "compile";
    case FailReason::wrong_result:
    case FailReason::quality_loss:
      return "correctness";
    default:
      return "runtime";
  }
}

/// What is not known is left out.
Json times_of(const Trial& t) {
  Json times = {{"benchmark", 1000 * t.evaluate_s}, {"search_algorithm", 1000 * t.propose_s}};
  for (const auto& [key, metric] : {std::pair("compilation_time", "compile_s"), std::pair("validation", "check_s")})
    if (const Json seconds = t.metrics.value(metric, Json()); seconds.is_number())
      times[key] = 1000 * seconds.get<double>();
  const Json runtimes = t.metrics.value("runtimes_ms", Json());
  times["runtimes"] = runtimes.is_array() ? runtimes : Json::array();
  return times;
}

Json measurement(const std::string& name, const Json& value) {
  return {{"name", name}, {"value", value}, {"unit", ""}};
}

std::string objective_of(const Track& track) {
  return track.value_name.empty() ? "value" : track.value_name;
}

Json measurements_of(const Track& track, const Trial& t) {
  Json all = Json::array();
  if (t.value) all.push_back(measurement(objective_of(track), *t.value));
  for (size_t i = 0; i < t.more_values.size(); ++i)
    all.push_back(measurement(track.more_goals.at(i).value_name, t.more_values[i]));
  for (const auto& [name, value] : t.metrics.items())
    if (value.is_number() && name != objective_of(track) &&
        std::find(kTimes.begin(), kTimes.end(), name) == kTimes.end())
      all.push_back(measurement(name, value));
  if (t.value) return all;
  all.push_back(measurement(kReason, to_string(t.reason)));
  all.push_back(measurement(kMessage, t.message));
  return all;
}

/// Whether it says something that lasts of its configuration.
bool is_result(const Trial& t) {
  if (t.state == TrialState::failed) return t.reason != FailReason::interrupted;
  return has_finite_value(t);
}

/// One result as it is read.
class Result {
 public:
  explicit Result(const Json& json) : json_(json) {
    if (!json.is_object()) throw Error("is no object");
    for (const Json& m : json.value("measurements", Json::array()))
      if (m.is_object() && m.contains("value")) measured_[m.value("name", "")] = m["value"];
  }
  std::string objective() const {
    const Json names = json_.value("objectives", Json::array());
    if (names.is_array() && !names.empty() && names[0].is_string()) return names[0];
    return "time";  // Kernel Tuner's own default
  }
  Trial trial(const std::string& objective) const {
    Trial t;
    const auto configuration = json_.find("configuration");
    if (configuration == json_.end() || !configuration->is_object()) throw Error("has no configuration");
    t.configuration = *configuration;
    const Json invalidity = json_.value("invalidity", Json());
    if (!is_invalidity(invalidity)) throw Error("has {} as its invalidity, which is none of T4's", to_line(invalidity));
    for (const auto& [name, value] : measured_)
      if (value.is_number() && name != objective) t.metrics[name] = value;
    take_times(t);
    if (invalidity == "correct") {
      take_value(t, objective);
    } else {
      take_failure(t, invalidity);
    }
    return t;
  }

 private:
  const Json* find(const std::string& name) const {
    const auto at = measured_.find(name);
    return at == measured_.end() ? nullptr : &at->second;
  }
  void take_value(Trial& t, const std::string& objective) const {
    const Json* value = find(objective);
    if (!value || !value->is_number())
      throw Error("is correct, but {}", value ? fmt::format("its {} is no number", one_line(objective))
                                              : fmt::format("has no measurement \"{}\"", one_line(objective)));
    t.value = value->get<double>();
  }
  void take_failure(Trial& t, const std::string& invalidity) const {
    t.state = TrialState::failed;
    t.reason = reason_of_invalidity(invalidity);
    t.metrics["invalidity"] = invalidity;
    if (const Json* reason = find(kReason); reason && reason->is_string())
      if (const auto known = fail_reason(reason->get<std::string>()); known && *known != FailReason::none)
        t.reason = *known;
    const Json* message = find(kMessage);
    t.message = message && message->is_string() ? message->get<std::string>()
                                                : fmt::format("it was invalid in the sweep: {}", invalidity);
  }
  void take_times(Trial& t) const {
    const Json times = json_.value("times", Json::object());
    if (!times.is_object()) return;
    const auto seconds = [&](const char* key) {
      const Json ms = times.value(key, Json());
      return ms.is_number() ? ms.get<double>() / 1000 : 0.0;
    };
    t.propose_s = seconds("search_algorithm");
    t.evaluate_s = seconds("benchmark");
    if (times.contains("compilation_time")) t.metrics["compile_s"] = seconds("compilation_time");
    if (times.contains("validation")) t.metrics["check_s"] = seconds("validation");
    if (const Json runtimes = times.value("runtimes", Json()); runtimes.is_array() && !runtimes.empty())
      t.metrics["runtimes_ms"] = runtimes;
  }

  const Json& json_;
  std::map<std::string, Json> measured_;
};

Sweep sweep_of(const Json& json, const std::string& name) {
  const Json none;
  const auto results = json.is_object() ? json.find("results") : json.end();
  if (!json.is_object() || results == json.end() || !results->is_array() || results->empty())
    throw Error("{}: is no T4 results file: it has no list of results", name);
  Sweep sweep;
  for (size_t i = 0; i < results->size(); ++i) {
    try {
      const Result result((*results)[i]);
      if (i == 0) sweep.value_name = result.objective();
      sweep.trials.push_back(result.trial(sweep.value_name));
      sweep.trials.back().number = static_cast<int>(i);
    } catch (const std::exception& e) {
      throw Error("{}: result {} {}", name, i + 1, e.what());
    }
  }
  const Json metadata = json.value("metadata", Json());
  const Json direction = metadata.is_object() ? metadata.value("direction", Json()) : Json();
  if (direction == "minimize" || sweep.value_name == "time") sweep.direction = Direction::minimize;
  if (direction == "maximize") sweep.direction = Direction::maximize;
  return sweep;
}

Parameter choice_of(const std::string& name, std::vector<Json> values) {
  const Json first = values.front();
  const auto all = [&](auto is) { return std::all_of(values.begin(), values.end(), is); };
  if (all([](const Json& v) { return v.is_boolean(); })) return boolean_parameter(name, first, "");
  if (all([](const Json& v) { return v.is_number(); })) std::sort(values.begin(), values.end());
  return categorical_parameter(name, std::move(values), first, "");
}

}  // namespace

FailReason reason_of_invalidity(std::string_view invalidity) {
  if (invalidity == "timeout") return FailReason::timed_out;
  if (invalidity == "correctness") return FailReason::wrong_result;
  if (invalidity == "compile") return FailReason::does_not_compile;
  return FailReason::crashed;
}

Json to_t4(const Track& track, std::span<const Trial> trials) {
  Json objectives = {objective_of(track)}, results = Json::array();
  for (const Goal& g : track.more_goals) objectives.push_back(g.value_name);
  for (const Trial& t : trials) {
    if (!is_result(t)) continue;
    results.push_back({{"configuration", t.configuration},
                       {"times", times_of(t)},
                       {"invalidity", invalidity_of(t)},
                       {"correctness", t.value ? 1 : 0},
                       {"measurements", measurements_of(track, t)},
                       {"objectives", objectives}});
  }
  return {{"results", results},
          {"schema_version", kVersion},
          {"metadata", {{"timeunit", "milliseconds"}, {"direction", to_string(track.direction)}}}};
}

Sweep read_sweep(const std::filesystem::path& file) {
  return sweep_of(read_json(file), file.string());
}

SearchSpace space_of(const Sweep& sweep) {
  std::vector<const Trial*> order;  // with a value first: their values are the defaults
  for (const Trial& t : sweep.trials) order.push_back(&t);
  std::stable_partition(order.begin(), order.end(), [](const Trial* t) { return t->value.has_value(); });
  std::vector<std::pair<std::string, std::vector<Json>>> values;
  for (const Trial* t : order)
    for (const auto& [name, value] : t->configuration.items()) {
      auto at = std::find_if(values.begin(), values.end(), [&, &n = name](const auto& v) { return v.first == n; });
      if (at == values.end()) at = values.insert(values.end(), {name, {}});
      if (std::find(at->second.begin(), at->second.end(), value) == at->second.end()) at->second.push_back(value);
    }
  if (values.empty()) throw UsageError("the sweep holds no configuration");
  std::vector<Parameter> parameters;
  for (auto& [name, all] : values) parameters.push_back(choice_of(name, std::move(all)));
  try {
    return SearchSpace(parameters);
  } catch (const std::invalid_argument& e) {
    throw UsageError("the sweep's configurations make no search space: {}", e.what());
  }
}

SweepObjective::SweepObjective(SearchSpace space, std::span<const Trial> trials) : space_(std::move(space)) {
  std::unordered_map<std::string, std::vector<double>> values;
  for (const Trial& t : trials) {
    if (!space_.allows(t.configuration)) continue;
    const std::string hash = space_.hash(t.configuration);
    if (t.value) values[hash].push_back(*t.value);
    outcomes_.try_emplace(hash, Outcome{t.value, {}, t.reason, t.message, t.metrics});
  }
  for (auto& [hash, all] : values) outcomes_[hash].value = median(all);
  for (auto& [hash, outcome] : outcomes_)
    if (outcome.value) outcome.reason = FailReason::none;
}

Outcome SweepObjective::evaluate(const Configuration& configuration, const Report&) {
  const auto found = outcomes_.find(space_.hash(configuration));
  if (found != outcomes_.end()) return found->second;
  return {std::nullopt, {}, FailReason::crashed, "the sweep holds no result of this configuration"};
}

}  // namespace haqa
