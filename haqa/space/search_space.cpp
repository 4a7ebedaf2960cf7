#include "haqa/space/search_space.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

#include "haqa/base/text.h"

namespace haqa {
namespace {

/// NaN and infinity fail, as they are in no range.
bool in_range(const Parameter& p, double value) {
  return value >= p.low && value <= p.high;
}

bool is_whole(const Json& value) {
  if (value.is_number_integer()) return true;
  return value.is_number_float() && std::nearbyint(value.get<double>()) == value.get<double>();
}

bool is_choice(const Parameter& p, const Json& value) {
  return std::find(p.choices.begin(), p.choices.end(), value) != p.choices.end();
}

std::string allowed(const Parameter& p) {
  switch (p.type) {
    case ParameterType::real:
      // In full: a bound rounded to six digits may lie outside, and whoever proposes it gets the same sentence again.
      return fmt::format("a number from {} to {}", p.low, p.high);
    case ParameterType::integer:
      return fmt::format("a whole number from {:.0f} to {:.0f}", p.low, p.high);
    case ParameterType::boolean:
      return "true or false";
    case ParameterType::categorical:
      break;
  }
  return "one of " + Json(p.choices).dump();
}

bool valid(const Parameter& p, const Json& value) {
  switch (p.type) {
    case ParameterType::real:
      return value.is_number() && in_range(p, value.get<double>());
    case ParameterType::integer:
      return is_whole(value) && in_range(p, value.get<double>());
    case ParameterType::boolean:
      return value.is_boolean();
    case ParameterType::categorical:
      break;
  }
  return is_choice(p, value);
}

/// What a wrong value is called in a correction; long rubbish is cut.
std::string shown(const Json& value) {
  return shortened(to_line(value), 57);
}

double to_unit(const Parameter& p, double value) {
  if (p.high <= p.low) return 0;
  return p.log ? std::log(value / p.low) / std::log(p.high / p.low) : (value - p.low) / (p.high - p.low);
}

Json from_unit(const Parameter& p, double unit) {
  unit = std::clamp(unit, 0.0, 1.0);
  double value = p.log ? p.low * std::pow(p.high / p.low, unit) : p.low + unit * (p.high - p.low);
  value = std::clamp(p.type == ParameterType::integer ? std::round(value) : value, p.low, p.high);
  return p.type == ParameterType::integer ? Json(static_cast<int64_t>(value)) : Json(value);
}

double uniform(std::mt19937_64& random) {
  return std::uniform_real_distribution<double>(0, 1)(random);
}

Json sample_value(const Parameter& p, std::mt19937_64& random) {
  if (p.type == ParameterType::boolean) return uniform(random) < 0.5;
  if (p.type == ParameterType::categorical)
    return p.choices[std::uniform_int_distribution<size_t>(0, p.choices.size() - 1)(random)];
  if (p.type == ParameterType::integer && !p.log)  // every integer as likely, the outermost too
    return std::uniform_int_distribution<int64_t>(static_cast<int64_t>(p.low), static_cast<int64_t>(p.high))(random);
  return from_unit(p, uniform(random));
}

/// A step to the next values of an integer, a tenth of the range for a real; anything for the rest.
Json step_value(const Parameter& p, const Json& from, std::mt19937_64& random) {
  if (p.type == ParameterType::boolean) return !from.get<bool>();
  if (p.type == ParameterType::categorical) return sample_value(p, random);
  const double step = std::normal_distribution<double>(0, 0.1)(random);
  const Json moved = from_unit(p, to_unit(p, from.get<double>()) + step);
  if (p.type == ParameterType::real || moved != from) return moved;
  const double next = from.get<double>() + (step < 0 ? -1 : 1);
  return in_range(p, next) ? Json(static_cast<int64_t>(next)) : from;
}

void check_parameter(const Parameter& p) {
  const bool numeric = p.type == ParameterType::real || p.type == ParameterType::integer;
  if (numeric && !(p.low <= p.high)) throw std::invalid_argument(p.name + ": low is above high");
  if (numeric && p.log && !(p.low > 0)) throw std::invalid_argument(p.name + ": a logarithmic range starts above 0");
  if (numeric && !std::isfinite(p.log ? p.high / p.low : p.high - p.low))  // nothing can be drawn from it
    throw std::invalid_argument(p.name + ": the range is too wide");
  if (p.type == ParameterType::categorical && p.choices.empty()) throw std::invalid_argument(p.name + ": no choices");
}

}  // namespace

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

SearchSpace::SearchSpace(std::vector<Parameter> parameters, std::vector<Constraint> constraints)
    : parameters_(std::move(parameters)), constraints_(std::move(constraints)) {
  std::set<std::string> names;
  for (const Parameter& p : parameters_) {
    check_parameter(p);
    if (!names.insert(p.name).second) throw std::invalid_argument(p.name + ": named twice");
  }
  if (const auto fault = problem(defaults())) throw std::invalid_argument("the defaults are not valid: " + *fault);
}

Configuration SearchSpace::defaults() const {
  Configuration all = Json::object();
  for (const Parameter& p : parameters_) all[p.name] = p.default_value;
  return all;
}

std::optional<std::string> SearchSpace::problem(const Configuration& proposal) const {
  if (!proposal.is_object()) return "the configuration must be one JSON object";
  std::vector<std::string> faults;
  for (const Parameter& p : parameters_) {
    const auto value = proposal.find(p.name);
    if (value == proposal.end()) {
      faults.push_back(fmt::format("\"{}\" is missing; it must be {}", p.name, allowed(p)));
    } else if (!valid(p, *value)) {
      faults.push_back(fmt::format("\"{}\" is {}; it must be {}", p.name, shown(*value), allowed(p)));
    }
  }
  for (const auto& [name, value] : proposal.items()) {
    const auto same = [&name = name](const Parameter& p) { return p.name == name; };
    if (std::none_of(parameters_.begin(), parameters_.end(), same))
      faults.push_back(fmt::format("{} is no parameter", shown(Json(name))));
  }
  if (faults.empty()) {
    const Configuration clean = normalized(proposal);
    for (const Constraint& c : constraints_)
      if (!c.holds(clean)) faults.push_back("it must hold that " + c.text);
  }
  if (faults.empty()) return std::nullopt;
  return fmt::format("{}", fmt::join(faults, "; "));
}

Configuration SearchSpace::normalized(const Configuration& proposal) const {
  Configuration clean = Json::object();
  for (const Parameter& p : parameters_) {
    const Json& value = proposal.at(p.name);
    if (p.type == ParameterType::integer) {
      clean[p.name] = static_cast<int64_t>(std::llround(value.get<double>()));
    } else if (p.type == ParameterType::real) {
      clean[p.name] = value.get<double>() + 0.0;  // -0.0 becomes 0.0, or one value would have two hashes
    } else if (p.type == ParameterType::categorical) {
      const auto choice = std::find(p.choices.begin(), p.choices.end(), value);
      clean[p.name] = choice == p.choices.end() ? value : *choice;  // the choice 4 for 4.0
    } else {
      clean[p.name] = value;
    }
  }
  return clean;
}

std::string SearchSpace::hash(const Configuration& configuration) const {
  uint64_t fnv = 0xcbf29ce484222325;  // FNV-1a: stable across runs and machines, unlike std::hash
  for (const unsigned char c : to_line(normalized(configuration))) fnv = (fnv ^ c) * 0x100000001b3;
  return fmt::format("{:016x}", fnv);
}

std::vector<double> SearchSpace::encode(const Configuration& configuration) const {
  std::vector<double> point;
  for (const Parameter& p : parameters_) {
    const Json& value = configuration.at(p.name);
    if (p.type == ParameterType::categorical) {
      for (const Json& choice : p.choices) point.push_back(choice == value ? std::sqrt(0.5) : 0.0);
    } else if (p.type == ParameterType::boolean) {
      point.push_back(value.get<bool>() ? 1.0 : 0.0);
    } else {
      point.push_back(to_unit(p, value.get<double>()));
    }
  }
  return point;
}

Configuration SearchSpace::sample(std::mt19937_64& random) const {
  for (int attempt = 0; attempt < 10000; ++attempt) {
    Configuration all = Json::object();
    for (const Parameter& p : parameters_) all[p.name] = sample_value(p, random);
    if (!problem(all)) return all;
  }
  return defaults();  // constraints that reject 10,000 draws leave little else
}

Configuration SearchSpace::neighbour(const Configuration& configuration, std::mt19937_64& random) const {
  if (parameters_.empty()) return configuration;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    Configuration moved = configuration;
    for (int changes = std::uniform_int_distribution<int>(1, 3)(random); changes > 0; --changes) {
      const Parameter& p = parameters_[std::uniform_int_distribution<size_t>(0, parameters_.size() - 1)(random)];
      moved[p.name] = step_value(p, moved[p.name], random);
    }
    if (moved != configuration && !problem(moved)) return moved;
  }
  return configuration;
}

Json SearchSpace::schema() const {
  Json properties = Json::object(), required = Json::array();
  for (const Parameter& p : parameters_) {
    Json& entry = properties[p.name];
    entry["description"] = p.description;
    if (p.type == ParameterType::categorical) {
      entry["enum"] = p.choices;
    } else if (p.type == ParameterType::boolean) {
      entry["type"] = "boolean";
    } else if (p.type == ParameterType::integer) {
      entry["type"] = "integer";
      entry["minimum"] = static_cast<int64_t>(p.low);
      entry["maximum"] = static_cast<int64_t>(p.high);
    } else {
      entry["type"] = "number";
      entry["minimum"] = p.low;
      entry["maximum"] = p.high;
    }
    required.push_back(p.name);
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
    } else {
      const char* type = p.type == ParameterType::integer ? "UniformInteger" : "UniformFloat";
      text += fmt::format("Type: {}, Range: [{}, {}], ", type, p.low, p.high);
    }
    text += fmt::format("Default: {}{}.\n", p.default_value.dump(), p.log ? ", Log scale" : "");
  }
  for (const Constraint& c : constraints_) text += fmt::format("It must hold that {}.\n", c.text);
  return text;
}

}  // namespace haqa
