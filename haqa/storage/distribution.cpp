#include "haqa/storage/distribution.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/study/observed_space.h"

namespace haqa {
namespace {

std::string_view kind(const Distribution& d) {
  if (d.type == ParameterType::real) return "a real number";
  if (d.type == ParameterType::text) return "a text";
  return d.type == ParameterType::integer ? "a whole number" : "a choice";
}

/// The same choices in any order.
bool same_choices(const std::vector<Json>& a, const std::vector<Json>& b) {
  return a.size() == b.size() && std::is_permutation(a.begin(), a.end(), b.begin());
}

Json attributes(const Distribution& d) {
  // In the order of Optuna's own fields.
  if (d.type == ParameterType::real)
    return {{"step", d.step > 0 ? Json(d.step) : Json()}, {"low", d.low}, {"high", d.high}, {"log", d.log}};
  if (d.type == ParameterType::integer)
    return {{"log", d.log},
            {"step", d.step > 0 ? static_cast<int64_t>(d.step) : 1},
            {"low", static_cast<int64_t>(d.low)},
            {"high", static_cast<int64_t>(d.high)}};
  return {{"choices", d.choices}};
}

Distribution from_attributes(const std::string& name, const Json& a) {
  Distribution d;
  if (name == "CategoricalDistribution") {
    d.type = ParameterType::categorical;
    d.choices = a.at("choices").get<std::vector<Json>>();
    return d;
  }
  if (name != "FloatDistribution" && name != "IntDistribution") throw Error("it is a {}", one_line(name, 60));
  d.type = name == "IntDistribution" ? ParameterType::integer : ParameterType::real;
  d.low = a.at("low").get<double>();
  d.high = a.at("high").get<double>();
  d.log = a.at("log").get<bool>();
  if (!a.at("step").is_null()) d.step = a.at("step").get<double>();
  return d;
}

}  // namespace

Distribution distribution_of(const Parameter& p) {
  if (p.type == ParameterType::boolean) return {ParameterType::categorical, 0, 0, 0, false, {false, true}};
  if (p.type == ParameterType::categorical) return {p.type, 0, 0, 0, false, p.choices};
  if (p.type == ParameterType::text) return {p.type, 0, 0, 0, false, {}};
  return {p.type, p.low, last_step(p), p.step, p.log, {}};
}

Distribution of_value(const Distribution& d, const Json& value) {
  if (d.type != ParameterType::text) return d;
  return {ParameterType::categorical, 0, 0, 0, false, {value}};
}

std::string to_optuna(const Distribution& d) {
  const char* name = d.type == ParameterType::real      ? "FloatDistribution"
                     : d.type == ParameterType::integer ? "IntDistribution"
                                                        : "CategoricalDistribution";
  return to_python_json({{"name", name}, {"attributes", attributes(d)}});
}

Distribution distribution_from_optuna(std::string_view json) {
  constexpr const char* kText = "the database holds a distribution that HAQA does not know: {}; {}";
  try {
    const Json all = Json::parse(json);
    return from_attributes(all.at("name").get<std::string>(), all.at("attributes"));
  } catch (const std::exception& e) {
    throw Error(kText, one_line(json), one_line(e.what()));
  }
}

double to_stored(const Distribution& d, const Json& value) {
  if (d.type != ParameterType::categorical) return value.get<double>();
  const auto at = std::find(d.choices.begin(), d.choices.end(), value);
  if (at == d.choices.end()) throw Error("{} is none of the choices {}", to_line(value), to_line(d.choices));
  return static_cast<double>(at - d.choices.begin());
}

Json from_stored(const Distribution& d, double number) {
  if (d.type == ParameterType::real) return number;
  if (d.type == ParameterType::integer) return static_cast<int64_t>(std::llround(number));
  if (!(number >= 0 && number < static_cast<double>(d.choices.size())))
    throw Error("the database holds choice {} of the {} choices {}; it is damaged", number, d.choices.size(),
                to_line(d.choices));
  return d.choices[static_cast<size_t>(number)];
}

std::optional<std::string> contradiction(const Distribution& stored, const Distribution& wanted) {
  const auto is_text = [](const Json& choice) { return choice.is_string(); };
  if (wanted.type == ParameterType::text && stored.type == ParameterType::categorical &&
      std::all_of(stored.choices.begin(), stored.choices.end(), is_text))
    return std::nullopt;
  if (stored.type != wanted.type) return fmt::format("is {} there and {} here", kind(stored), kind(wanted));
  if (stored.log != wanted.log)
    return fmt::format("has a {} scale there and a {} one here", stored.log ? "logarithmic" : "linear",
                       wanted.log ? "logarithmic" : "linear");
  if (!same_choices(stored.choices, wanted.choices))
    return fmt::format("has the choices {} there and {} here", to_line(stored.choices), to_line(wanted.choices));
  return std::nullopt;
}

std::string to_python_json(const Json& value) {
  std::vector<std::string> parts;
  if (value.is_object()) {
    for (const auto& [key, v] : value.items()) parts.push_back(to_python_json(key) + ": " + to_python_json(v));
    return fmt::format("{{{}}}", fmt::join(parts, ", "));
  }
  if (value.is_array()) {
    for (const Json& v : value) parts.push_back(to_python_json(v));
    return fmt::format("[{}]", fmt::join(parts, ", "));
  }
  return value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace haqa
