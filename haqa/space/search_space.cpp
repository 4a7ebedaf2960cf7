#include "haqa/space/search_space.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>
#include <set>
#include <stdexcept>

#include "haqa/base/file_name.h"
#include "haqa/base/stats.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

/// Whole numbers on a logarithmic scale are drawn from half a step beyond either end and rounded, as Optuna does, so
/// that the outermost are as likely as their neighbours.
constexpr double kHalf = 0.5;

/// Within the bounds and on the step. NaN and infinity fail, as they are in no range.
bool in_range(const Parameter& p, double value) {
  if (!(value >= p.low && value <= p.high)) return false;
  const double steps = p.step > 0 ? (value - p.low) / p.step : 0;
  return std::abs(steps - std::round(steps)) < 1e-9 * std::max(1.0, std::abs(steps));
}

/// Steps of a range from its lowest to its highest value; between whole numbers 1 each.
double steps_of(const Parameter& p) {
  return std::floor((p.high - p.low) / (p.step > 0 ? p.step : 1) * (1 + 1e-12));
}

double on_step(const Parameter& p, double value) {
  if (p.step <= 0) return value;
  return p.low + p.step * std::clamp(std::round((value - p.low) / p.step), 0.0, steps_of(p));
}

bool is_whole(const Json& value) {
  if (value.is_number_integer()) return true;
  return value.is_number_float() && std::nearbyint(value.get<double>()) == value.get<double>();
}

bool is_choice(const Parameter& p, const Json& value) {
  return std::find(p.choices.begin(), p.choices.end(), value) != p.choices.end();
}

std::string allowed(const Parameter& p) {
  const std::string steps = p.step > 0 ? fmt::format(" in steps of {}", p.step) : "";
  switch (p.type) {
    case ParameterType::real:
      // In full: a bound rounded to six digits may lie outside, and whoever proposes it gets the same sentence again.
      return fmt::format("a number from {} to {}{}", p.low, p.high, steps);
    case ParameterType::integer:
      return fmt::format("a whole number from {:.0f} to {:.0f}{}", p.low, p.high, steps);
    case ParameterType::boolean:
      return "true or false";
    case ParameterType::text:
      return fmt::format("a text of at most {} bytes of UTF-8 without NUL", p.longest);
    case ParameterType::categorical:
      break;
  }
  return "one of " + Json(p.choices).dump();
}

bool is_text_within(const Json& value, size_t longest) {
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  return text.size() <= longest && text.find('\0') == std::string::npos && is_utf8(text);
}

bool valid(const Parameter& p, const Json& value) {
  switch (p.type) {
    case ParameterType::real:
      return value.is_number() && in_range(p, value.get<double>());
    case ParameterType::integer:
      return is_whole(value) && in_range(p, value.get<double>());
    case ParameterType::boolean:
      return value.is_boolean();
    case ParameterType::text:
      return is_text_within(value, p.longest);
    case ParameterType::categorical:
      break;
  }
  return is_choice(p, value);
}

/// What a wrong value is called in a correction; long rubbish is cut.
std::string shown(const Json& value) {
  return shortened(to_line(value), 57);
}

/// A wrong value; of a text how long it is, which may be what is wrong.
std::string shown(const Parameter& p, const Json& value) {
  if (p.type != ParameterType::text || !value.is_string()) return shown(value);
  return fmt::format("{} of {} bytes", shown(value), value.get_ref<const std::string&>().size());
}

double to_unit(const Parameter& p, double value, double margin = 0) {
  const double low = p.low - margin, high = p.high + margin;
  if (high <= low) return 0;
  return p.log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
}

Json from_unit(const Parameter& p, double unit) {
  unit = std::clamp(unit, 0.0, 1.0);
  double value = p.log ? p.low * std::pow(p.high / p.low, unit) : p.low + unit * (p.high - p.low);
  value = std::clamp(on_step(p, p.type == ParameterType::integer ? std::round(value) : value), p.low, p.high);
  return p.type == ParameterType::integer ? Json(static_cast<int64_t>(value)) : Json(value);
}

/// The choices of an ordinal parameter from the least; mostly they are written down so.
class Ordered {
 public:
  explicit Ordered(const Parameter& p) : choices_(p.choices) {
    if (!is_ordinal(p) || std::is_sorted(choices_.begin(), choices_.end())) return;
    sorted_ = choices_;
    std::sort(sorted_.begin(), sorted_.end());
  }
  const std::vector<Json>& operator*() const { return sorted_.empty() ? choices_ : sorted_; }

 private:
  const std::vector<Json>& choices_;
  std::vector<Json> sorted_;
};

double rank_of(const Parameter& p, const Json& value) {
  const Ordered ordered(p);
  const std::vector<Json>& choices = *ordered;
  const auto at = std::find(choices.begin(), choices.end(), value) - choices.begin();
  return choices.size() < 2 ? 0 : static_cast<double>(at) / static_cast<double>(choices.size() - 1);
}

Json sample_value(const Parameter& p, std::mt19937_64& random) {
  return value_at(p, uniform(random));
}

/// Mostly the next choice, up or down.
Json step_rank(const Parameter& p, const Json& from, double step) {
  const Ordered ordered(p);
  const std::vector<Json>& choices = *ordered;
  const double last = static_cast<double>(choices.size() - 1), at = rank_of(p, from) * last;
  const double moved = std::round(at + step * last);
  return choices[static_cast<size_t>(std::clamp(moved == at ? at + (step < 0 ? -1 : 1) : moved, 0.0, last))];
}

/// A step to the next values of an integer or an ordered choice, a tenth of the range for a real; anything for the
/// rest.
Json step_value(const Parameter& p, const Json& from, std::mt19937_64& random, double deviation) {
  if (p.type == ParameterType::boolean) return !from.get<bool>();
  if (p.type == ParameterType::categorical && !is_ordinal(p)) return sample_value(p, random);
  const double step = std::normal_distribution<double>(0, deviation)(random);
  if (p.type == ParameterType::categorical) return step_rank(p, from, step);
  const Json moved = from_unit(p, to_unit(p, from.get<double>()) + step);
  const bool any_real = p.type == ParameterType::real && p.step <= 0;
  if (any_real || moved != from) return moved;
  const double next = from.get<double>() + (step < 0 ? -1 : 1) * (p.step > 0 ? p.step : 1);
  if (!in_range(p, next)) return from;
  return p.type == ParameterType::integer ? Json(static_cast<int64_t>(next)) : Json(on_step(p, next));
}

/// A valid value in the parameter's type, 4 for 4.0.
Json clean_value(const Parameter& p, const Json& value) {
  switch (p.type) {
    case ParameterType::integer:
      return static_cast<int64_t>(std::llround(value.get<double>()));
    case ParameterType::real:  // -0.0 becomes 0.0, or one value would have two hashes; 0.30000000000000004 becomes 0.3
      return std::clamp(on_step(p, value.get<double>()), p.low, p.high) + 0.0;
    case ParameterType::categorical: {
      const auto choice = std::find(p.choices.begin(), p.choices.end(), value);
      return choice == p.choices.end() ? value : *choice;
    }
    case ParameterType::boolean:
    case ParameterType::text:
      break;
  }
  return value;
}

Json clipped_value(const Parameter& p, const Json& value) {
  const bool number = value.is_number() && std::isfinite(value.get<double>());
  if (is_numeric(p) && number) {
    const double x = std::clamp(value.get<double>(), p.low, p.high);
    return clean_value(p, on_step(p, p.type == ParameterType::integer ? std::round(x) : x));
  }
  return valid(p, value) ? clean_value(p, value) : p.default_value;
}

void check_parameter(const Parameter& p) {
  const bool numeric = is_numeric(p);
  if (p.name.empty()) throw std::invalid_argument("a parameter has no name");
  if (numeric && !(p.low <= p.high)) throw std::invalid_argument(p.name + ": low is above high");
  if (numeric && p.log && !(p.low > 0)) throw std::invalid_argument(p.name + ": a logarithmic range starts above 0");
  if (numeric && !std::isfinite(p.log ? p.high / p.low : p.high - p.low))  // nothing can be drawn from it
    throw std::invalid_argument(p.name + ": the range is too wide");
  if (!(p.step >= 0 && std::isfinite(p.step)))
    throw std::invalid_argument(p.name + ": the step is below 0 or infinite");
  if (p.type == ParameterType::integer && std::max(std::abs(p.low), std::abs(p.high)) > 0x1p53)
    throw std::invalid_argument(p.name + ": whole numbers beyond 2^53 are none of a double's");
  if (p.step > p.high - p.low && p.high > p.low)
    throw std::invalid_argument(p.name + ": the step is larger than the range");
  if (p.log && p.step > 0) throw std::invalid_argument(p.name + ": a logarithmic range has no step");
  const bool whole = p.low == std::round(p.low) && p.high == std::round(p.high) && p.step == std::round(p.step);
  if (p.type == ParameterType::integer && !whole)
    throw std::invalid_argument(p.name + ": the bounds and the step of a whole number are whole");
  if (p.type != ParameterType::categorical) return;
  if (p.choices.empty()) throw std::invalid_argument(p.name + ": no choices");
  for (size_t i = 0; i < p.choices.size(); ++i)
    if (std::find(p.choices.begin(), p.choices.begin() + static_cast<std::ptrdiff_t>(i), p.choices[i]) !=
        p.choices.begin() + static_cast<std::ptrdiff_t>(i))
      throw std::invalid_argument(fmt::format("{}: the choice {} stands there twice", p.name, shown(p.choices[i])));
}

}  // namespace

bool is_numeric(const Parameter& p) {
  return p.type == ParameterType::real || p.type == ParameterType::integer;
}

bool is_ordinal(const Parameter& p) {
  return p.type == ParameterType::categorical &&
         std::all_of(p.choices.begin(), p.choices.end(), [](const Json& c) { return c.is_number(); });
}

Parameter real_parameter(std::string name, double low, double high, double default_value, std::string description,
                         bool log) {
  return {std::move(name), ParameterType::real, low, high, log, {}, default_value, std::move(description)};
}

Parameter integer_parameter(std::string name, int low, int high, int default_value, std::string description, bool log) {
  return {std::move(name), ParameterType::integer, static_cast<double>(low), static_cast<double>(high), log, {},
          default_value,   std::move(description)};
}

Parameter categorical_parameter(std::string name, std::vector<Json> choices, Json default_value,
                                std::string description) {
  return {std::move(name),          ParameterType::categorical, 0, 0, false, std::move(choices),
          std::move(default_value), std::move(description)};
}

Parameter boolean_parameter(std::string name, bool default_value, std::string description) {
  return {std::move(name), ParameterType::boolean, 0, 0, false, {}, default_value, std::move(description)};
}

Parameter text_parameter(std::string name, size_t longest, std::string description) {
  Parameter p{std::move(name), ParameterType::text, 0, 0, false, {}, "", std::move(description)};
  p.longest = longest;
  return p;
}

std::string short_text(const std::string& text) {
  constexpr size_t kShort = 100;  // a choice may be a file's path
  if (text.size() <= kShort && text.find('\n') == std::string::npos) return text;
  return fmt::format("{} bytes, hash {:08x}", text.size(), fnv1a_64(text) >> 32);
}

bool is_short_text(std::string_view text) {
  static const std::regex form("[0-9]+ bytes, hash [0-9a-f]{8}");
  return text.size() < 60 && std::regex_match(text.begin(), text.end(), form);
}

Configuration with_short_texts(Configuration configuration) {
  for (Json& value : configuration)
    if (value.is_string()) value = short_text(value);
  return configuration;
}

Json value_at(const Parameter& p, double unit) {
  if (p.type == ParameterType::text) return p.default_value;
  unit = std::clamp(unit, 0.0, 1.0);
  const auto cell = [&](double count) { return std::min(std::floor(unit * count), count - 1); };
  if (p.type == ParameterType::boolean) return unit >= 0.5;
  if (p.type == ParameterType::categorical) {
    const Ordered ordered(p);
    const std::vector<Json>& choices = *ordered;
    return choices[static_cast<size_t>(cell(static_cast<double>(choices.size())))];
  }
  if (p.type == ParameterType::integer && p.log) {
    const double low = p.low - kHalf, high = p.high + kHalf;
    return static_cast<int64_t>(std::clamp(std::round(low * std::pow(high / low, unit)), p.low, p.high));
  }
  if (p.type == ParameterType::real && p.step <= 0) return from_unit(p, unit);
  const double value = p.low + (p.step > 0 ? p.step : 1) * cell(steps_of(p) + 1);
  return p.type == ParameterType::integer ? Json(static_cast<int64_t>(value)) : Json(std::min(value, p.high));
}

double unit_of(const Parameter& p, const Json& value) {
  if (p.type == ParameterType::text) return 0;
  const auto middle = [](double at, double count) { return (at + 0.5) / count; };
  if (p.type == ParameterType::boolean) return value.get<bool>() ? 0.75 : 0.25;
  if (p.type == ParameterType::categorical) {
    const Ordered ordered(p);
    const std::vector<Json>& choices = *ordered;
    const auto at = std::find(choices.begin(), choices.end(), value) - choices.begin();
    return middle(static_cast<double>(at), static_cast<double>(choices.size()));
  }
  if (p.type == ParameterType::integer && p.log) return to_unit(p, value.get<double>(), kHalf);
  if (p.type == ParameterType::real && p.step <= 0) return to_unit(p, value.get<double>());
  return middle(std::round((value.get<double>() - p.low) / (p.step > 0 ? p.step : 1)), steps_of(p) + 1);
}

SearchSpace::SearchSpace(std::vector<Parameter> parameters, std::vector<Expression> constraints)
    : parameters_(std::move(parameters)), constraints_(std::move(constraints)) {
  for (const Parameter& p : parameters_) check_parameter(p);
  check_names();
  groups_ = grouped();
  if (const auto fault = problem(defaults())) throw std::invalid_argument("the defaults are not valid: " + *fault);
}

void SearchSpace::check_names() const {
  std::set<std::string> names;
  const auto require = [&](const Expression& rule, const std::string& of) {
    for (const std::string& name : rule.names())
      if (!names.contains(name))
        throw std::invalid_argument(fmt::format("{} '{}' names {}, which is no parameter{}", of, rule.text(), name,
                                                of == "the constraint" ? "" : " before it"));
  };
  for (const Parameter& p : parameters_) {
    if (p.when) require(*p.when, p.name + ": its condition");
    if (!names.insert(p.name).second) throw std::invalid_argument(p.name + ": named twice");
  }
  for (const Expression& c : constraints_) require(c, "the constraint");
}

std::vector<SearchSpace::Group> SearchSpace::grouped() const {
  std::vector<size_t> label(parameters_.size());
  std::map<std::string, size_t> place;
  for (size_t i = 0; i < label.size(); ++i) place[parameters_[i].name] = label[i] = i;
  const auto bind = [&](size_t a, size_t b) {
    const size_t kept = std::min(label[a], label[b]), other = std::max(label[a], label[b]);
    std::replace(label.begin(), label.end(), other, kept);
  };
  for (size_t i = 0; i < label.size(); ++i)
    if (parameters_[i].when)
      for (const std::string& name : parameters_[i].when->names()) bind(i, place[name]);
  for (const Expression& c : constraints_)
    for (const std::string& name : c.names()) bind(place[name], place[c.names().front()]);
  std::map<size_t, Group> groups;
  for (size_t i = 0; i < label.size(); ++i) groups[label[i]].parameters.push_back(i);
  for (size_t i = 0; i < constraints_.size(); ++i)
    if (!constraints_[i].names().empty())
      groups[label[place[constraints_[i].names().front()]]].constraints.push_back(i);
  std::vector<Group> all;
  for (auto& [first, group] : groups) all.push_back(std::move(group));
  return all;
}

/// In order, as a condition sees the values before it.
Configuration SearchSpace::assembled(const std::function<Json(const Parameter&)>& value) const {
  Configuration all = Json::object();
  for (const Parameter& p : parameters_)
    if (!p.when || p.when->holds(all)) all[p.name] = value(p);
  return all;
}

Configuration SearchSpace::defaults() const {
  return assembled([](const Parameter& p) { return p.default_value; });
}

std::vector<std::string> SearchSpace::faults_of_values(const Configuration& proposal) const {
  std::vector<std::string> faults;
  Configuration clean = Json::object();
  for (const Parameter& p : parameters_) {
    if (p.when && !p.when->holds(clean)) continue;
    const auto value = proposal.find(p.name);
    if (value == proposal.end()) {
      faults.push_back(fmt::format("\"{}\" is missing; it must be {}", p.name, allowed(p)));
    } else if (!valid(p, *value)) {
      faults.push_back(fmt::format("\"{}\" is {}; it must be {}", p.name, shown(p, *value), allowed(p)));
    } else {
      clean[p.name] = clean_value(p, *value);
    }
  }
  for (const auto& [name, value] : proposal.items()) {
    const auto same = [&name = name](const Parameter& p) { return p.name == name; };
    if (std::none_of(parameters_.begin(), parameters_.end(), same))
      faults.push_back(fmt::format("{} is no parameter", shown(Json(name))));
  }
  return faults;
}

std::optional<std::string> SearchSpace::problem(const Configuration& proposal) const {
  if (!proposal.is_object()) return "the configuration must be one JSON object";
  std::vector<std::string> faults = faults_of_values(proposal);
  if (faults.empty()) {
    const Configuration clean = normalized(proposal);
    for (const Expression& c : constraints_)
      if (!keeps(clean, c)) faults.push_back("it must hold that " + c.text());
  }
  if (faults.empty()) return std::nullopt;
  return fmt::format("{}", fmt::join(faults, "; "));
}

bool SearchSpace::allows(const Configuration& proposal) const {
  if (!proposal.is_object()) return false;
  Configuration clean = Json::object();
  size_t known = 0;
  for (const Parameter& p : parameters_) {
    const auto value = proposal.find(p.name);
    known += value != proposal.end();
    if (p.when && !p.when->holds(clean)) continue;
    if (value == proposal.end() || !valid(p, *value)) return false;
    clean[p.name] = clean_value(p, *value);
  }
  return known == proposal.size() && keeps_all(clean);
}

bool SearchSpace::keeps(const Configuration& configuration, const Expression& constraint) const {
  return !constraint.applies(configuration) || constraint.holds(configuration);
}

bool SearchSpace::keeps_all(const Configuration& configuration) const {
  return std::all_of(constraints_.begin(), constraints_.end(),
                     [&](const Expression& c) { return keeps(configuration, c); });
}

Configuration SearchSpace::normalized(const Configuration& proposal) const {
  return assembled([&](const Parameter& p) { return clean_value(p, proposal.at(p.name)); });
}

Configuration SearchSpace::clipped(const Configuration& proposal) const {
  return assembled([&](const Parameter& p) { return clipped_value(p, proposal.value(p.name, Json())); });
}

std::string SearchSpace::hash(const Configuration& configuration) const {
  return fmt::format("{:016x}", fnv1a_64(to_line(normalized(configuration))));  // stable, unlike std::hash
}

std::vector<double> SearchSpace::encode(const Configuration& configuration) const {
  std::vector<double> point;
  for (const Parameter& p : parameters_) {
    const auto found = configuration.find(p.name);
    const Json& value = found == configuration.end() ? p.default_value : *found;
    if (is_ordinal(p)) {
      point.push_back(rank_of(p, value));
    } else if (p.type == ParameterType::categorical) {
      for (const Json& choice : p.choices) point.push_back(choice == value ? std::sqrt(0.5) : 0.0);
    } else if (p.type == ParameterType::boolean) {
      point.push_back(value.get<bool>() ? 1.0 : 0.0);
    } else if (p.type == ParameterType::text) {
      point.push_back(value == p.default_value ? 0.0 : 1.0);
    } else {
      point.push_back(to_unit(p, value.get<double>()));
    }
  }
  return point;
}

std::vector<size_t> SearchSpace::encoded_parameters() const {
  std::vector<size_t> owners;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    const bool has_many = p.type == ParameterType::categorical && !is_ordinal(p);
    owners.insert(owners.end(), has_many ? p.choices.size() : 1, i);
  }
  return owners;
}

Configuration SearchSpace::at(std::span<const double> units) const {
  size_t i = 0;
  Configuration all = Json::object();
  for (const Parameter& p : parameters_) {
    const double unit = units[i++];  // also of one without a value: each has its own coordinate
    if (!p.when || p.when->holds(all)) all[p.name] = value_at(p, unit);
  }
  return all;
}

Configuration SearchSpace::sample(std::mt19937_64& random, int draws) const {
  if (constraints_.empty()) return assembled([&](const Parameter& p) { return sample_value(p, random); });
  Configuration values = Json::object();
  for (const Group& group : groups_) values.update(sample(group, random, draws));
  return assembled([&](const Parameter& p) { return values[p.name]; });
}

/// Values of the group's parameters alone.
Configuration SearchSpace::sample(const Group& group, std::mt19937_64& random, int draws) const {
  Configuration values;
  const auto assign = [&](const std::function<Json(const Parameter&)>& value) {
    values = Json::object();
    for (const size_t i : group.parameters)
      if (const Parameter& p = parameters_[i]; !p.when || p.when->holds(values)) values[p.name] = value(p);
  };
  for (int draw = 0; draw < draws; ++draw) {
    assign([&](const Parameter& p) { return sample_value(p, random); });
    if (std::all_of(group.constraints.begin(), group.constraints.end(),
                    [&](size_t i) { return keeps(values, constraints_[i]); }))
      return values;
  }
  assign([](const Parameter& p) { return p.default_value; });
  return values;
}

Configuration SearchSpace::neighbour(const Configuration& origin, std::mt19937_64& random, double deviation,
                                     int draws) const {
  const bool is_valid = allows(origin);
  const Configuration configuration = is_valid ? origin : clipped(origin);
  std::vector<const Parameter*> active;
  for (const Parameter& p : parameters_)
    if (configuration.contains(p.name) && p.type != ParameterType::text) active.push_back(&p);
  if (active.empty()) return configuration;
  for (int i = 0; i < draws; ++i) {
    Configuration changed = configuration;
    for (int changes = std::uniform_int_distribution<int>(1, 3)(random); changes > 0; --changes) {
      const Parameter& p = *active[std::uniform_int_distribution<size_t>(0, active.size() - 1)(random)];
      changed[p.name] = step_value(p, changed[p.name], random, deviation);
    }
    // A change may make other parameters active, which then get any value.
    Configuration moved = assembled(
        [&](const Parameter& p) { return changed.contains(p.name) ? changed[p.name] : sample_value(p, random); });
    if (moved != configuration && keeps_all(moved)) return moved;
  }
  return is_valid || keeps_all(configuration) ? configuration : defaults();
}

Json SearchSpace::schema() const {
  Json properties = Json::object(), required = Json::array();
  for (const Parameter& p : parameters_) {
    Json& entry = properties[p.name];
    entry["description"] = p.unit.empty() ? p.description : fmt::format("{} Unit: {}.", p.description, p.unit);
    if (p.type == ParameterType::categorical) {
      entry["enum"] = p.choices;
    } else if (p.type == ParameterType::boolean) {
      entry["type"] = "boolean";
    } else if (p.type == ParameterType::text) {
      entry["type"] = "string";
      entry["maxLength"] = p.longest;
    } else if (p.type == ParameterType::integer) {
      entry["type"] = "integer";
      entry["minimum"] = static_cast<int64_t>(p.low);
      entry["maximum"] = static_cast<int64_t>(p.high);
    } else {
      entry["type"] = "number";
      entry["minimum"] = p.low;
      entry["maximum"] = p.high;
    }
    if (!p.when) required.push_back(p.name);
  }
  return {{"type", "object"}, {"properties", properties}, {"required", required}, {"additionalProperties", false}};
}

std::string SearchSpace::describe() const {
  std::string text;
  for (const Parameter& p : parameters_) {
    text += fmt::format("'{}': {} ", p.name, p.description);
    if (p.type == ParameterType::categorical) {
      text += fmt::format("Type: Categorical, Choices: {}, ", Json(p.choices).dump());
    } else if (p.type == ParameterType::boolean) {
      text += "Type: Boolean, ";
    } else if (p.type == ParameterType::text) {
      text += fmt::format("Type: Text, Longest: {} bytes, ", p.longest);
    } else {
      const char* type = p.type == ParameterType::integer ? "UniformInteger" : "UniformFloat";
      text += fmt::format("Type: {}, Range: [{}, {}], ", type, p.low, p.high);
    }
    if (p.step > 0) text += fmt::format("Step: {}, ", p.step);
    if (!p.unit.empty()) text += fmt::format("Unit: {}, ", p.unit);
    const Json shown_default = p.type == ParameterType::text ? Json(short_text(p.default_value)) : p.default_value;
    text += fmt::format("Default: {}{}", shown_default.dump(), p.log ? ", Log scale" : "");
    text += p.when ? fmt::format(", only where {}.\n", p.when->text()) : ".\n";
  }
  for (const Expression& c : constraints_) text += fmt::format("It must hold that {}.\n", c.text());
  return text;
}

}  // namespace haqa
