#include "haqa/study/observed_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace haqa {
namespace {

constexpr double kWide = 100;  // times the least: a logarithmic scale

struct Observed {
  std::string name;
  std::vector<Json> values;  ///< in their order, each once
};

bool all_of(const Observed& o, bool (*is)(const Json&)) {
  return std::all_of(o.values.begin(), o.values.end(), is);
}

bool is_finite(const Json& v) {
  return v.is_number() && std::isfinite(v.get<double>());
}

Parameter number_parameter(const Observed& o) {
  Parameter p;
  p.name = o.name;
  p.type =
      all_of(o, [](const Json& v) { return v.is_number_integer(); }) ? ParameterType::integer : ParameterType::real;
  const auto [least, greatest] = std::minmax_element(o.values.begin(), o.values.end());
  p.low = least->get<double>();
  p.high = greatest->get<double>();
  p.log = p.low > 0 && p.high / p.low >= kWide;
  p.default_value = o.values[0];
  return p;
}

bool is_long_text(const Json& v) {
  return v.is_string() && short_text(v) != v;
}

/// Of which some are long.
Parameter text_of(const Observed& o) {
  Parameter p = text_parameter(o.name, 0, "");
  for (const Json& v : o.values) p.longest = std::max(p.longest, v.get_ref<const std::string&>().size());
  p.default_value = o.values[0];
  return p;
}

Parameter parameter_of(const Observed& o) {
  if (all_of(o, [](const Json& v) { return v.is_string(); }) &&
      std::any_of(o.values.begin(), o.values.end(), is_long_text))
    return text_of(o);
  if (all_of(o, [](const Json& v) { return v.is_boolean(); })) return boolean_parameter(o.name, o.values[0], "");
  if (o.values.size() > 1 && all_of(o, is_finite)) return number_parameter(o);
  return categorical_parameter(o.name, o.values, o.values[0], "");
}

std::vector<Observed> observed(std::span<const Trial> trials) {
  std::vector<Observed> all;
  for (const Trial& t : trials)
    for (const auto& [name, value] : t.configuration.items()) {
      if (name.empty() || !(value.is_string() || value.is_boolean() || is_finite(value))) continue;
      auto at = std::find_if(all.begin(), all.end(), [&, &n = name](const Observed& o) { return o.name == n; });
      if (at == all.end()) at = all.insert(all.end(), {name, {}});
      if (std::find(at->values.begin(), at->values.end(), value) == at->values.end()) at->values.push_back(value);
    }
  return all;
}

}  // namespace

SearchSpace observed_space(std::span<const Trial> trials) {
  std::vector<Parameter> parameters;
  for (const Observed& o : observed(trials)) parameters.push_back(parameter_of(o));
  return SearchSpace(parameters);
}

double last_step(const Parameter& p) {
  if (p.step <= 0) return p.high;
  return std::stod(fmt::format("{:.15g}", p.low + p.step * std::floor((p.high - p.low) / p.step * (1 + 1e-12))));
}

}  // namespace haqa
