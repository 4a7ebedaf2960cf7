#include "haqa/space/space_file.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <regex>
#include <stdexcept>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/base/yaml_map.h"

namespace haqa {
namespace {

constexpr const char* kExample = "data/spaces/llama.yaml";
constexpr double kHuge = std::numeric_limits<double>::max();
// In the order of ParameterType.
const std::vector<std::string> kTypes = {"float", "int", "categorical", "bool", "text"};
/// Bytes of a text: it reaches a program by environment variables, which Linux ends at 128 KiB, beside others as JSON.
constexpr double kLongestText = 50000;

/// The middle of the range on its own scale, the first choice, false, no text.
Json middle(const Parameter& p) {
  if (p.type == ParameterType::boolean) return false;
  if (p.type == ParameterType::text) return "";
  if (p.type == ParameterType::categorical) return p.choices.empty() ? Json() : p.choices.front();
  const double value = p.log ? std::sqrt(p.low) * std::sqrt(p.high) : 0.5 * (p.low + p.high);
  return p.type == ParameterType::integer ? Json(std::llround(value)) : Json(value);
}

/// What stands in a file, not yet a whole space.
struct Draft {
  std::vector<Parameter> parameters;
  std::vector<Expression> constraints;
  std::vector<bool> has_default;  ///< of each parameter

  /// Calls `fail(what)`, which throws, for a parameter that makes no sense in itself.
  void add(Parameter p, std::optional<Json> given, const std::function<void(const std::string&)>& fail) {
    has_default.push_back(given.has_value());
    p.default_value = given ? std::move(*given) : middle(p);
    Parameter alone = p;
    alone.when.reset();
    try {
      if (!given) p.default_value = alone.default_value = nearest_default(alone);
      const SearchSpace checked({alone});
    } catch (const std::invalid_argument& e) {
      std::string what = e.what();
      if (what.starts_with(p.name + ": ")) what.erase(0, p.name.size() + 2);
      fail(what);
    }
    parameters.push_back(std::move(p));
  }

  /// The middle of the range may lie between two steps.
  static Json nearest_default(const Parameter& p) {
    Parameter valid = p;
    if (p.type == ParameterType::real) valid.default_value = p.low;
    if (p.type == ParameterType::integer) valid.default_value = static_cast<int64_t>(std::llround(p.low));
    return SearchSpace({valid}).clipped({{p.name, p.default_value}})[p.name];
  }

  SearchSpace space() {
    find_defaults();
    return SearchSpace(std::move(parameters), std::move(constraints));
  }

 private:
  /// Where the defaults that nobody gave break a constraint, others that do not.
  void find_defaults() {
    if (std::all_of(has_default.begin(), has_default.end(), [](bool given) { return given; })) return;
    const SearchSpace free(parameters);
    const auto good = [&](const Configuration& c) {
      return std::all_of(constraints.begin(), constraints.end(),
                         [&](const Expression& rule) { return !rule.applies(c) || rule.holds(c); });
    };
    std::mt19937_64 random(1);
    Configuration candidate = free.defaults();
    for (int attempt = 0; !good(candidate); ++attempt) {
      if (attempt == 100000)
        throw std::invalid_argument(
            "no configuration was found that keeps all constraints; check them, or give defaults that keep them");
      candidate = free.sample(random);
      for (size_t i = 0; i < parameters.size(); ++i)
        if (has_default[i] && candidate.contains(parameters[i].name))
          candidate[parameters[i].name] = parameters[i].default_value;
      candidate = free.clipped(candidate);  // others may be active now
    }
    for (Parameter& p : parameters)
      if (candidate.contains(p.name)) p.default_value = candidate[p.name];
  }
};

Parameter read_parameter(const std::string& name, YamlMap& map) {
  Parameter p;
  p.name = name;
  const auto type = map.choice("type", kTypes);
  if (!type) map.fail("type", fmt::format("is missing: one of {}", fmt::join(kTypes, ", ")));
  const auto bound = [&](const char* key) {
    const auto value = map.number(key, -kHuge, kHuge);
    if (!value) map.fail(key, "is missing: a number");
    return *value;
  };
  if (*type == "float" || *type == "int") {
    p.type = *type == "int" ? ParameterType::integer : ParameterType::real;
    p.low = bound("low");
    p.high = bound("high");
    p.log = map.choice("log", {"true", "false"}).value_or("false") == "true";
    p.step = map.number("step", 0, kHuge).value_or(0);
  } else if (*type == "categorical") {
    p.type = ParameterType::categorical;
    const Json choices = map.value("choices").value_or(Json());
    if (!choices.is_array() || choices.empty()) map.fail("choices", "must be a list of values");
    p.choices.assign(choices.begin(), choices.end());
  } else if (*type == "text") {
    p.type = ParameterType::text;
    const auto longest = map.number("longest", 1, kLongestText);
    if (!longest) map.fail("longest", fmt::format("is missing: how many bytes, at most {}", kLongestText));
    p.longest = static_cast<size_t>(*longest);
  } else {
    p.type = ParameterType::boolean;
  }
  p.unit = map.text("unit").value_or("");
  p.description = map.text("description").value_or("");
  return p;
}

Expression expression_at(const YamlMap& map, const char* key, const std::string& text) {
  try {
    return Expression(text);
  } catch (const UsageError& e) {
    map.fail(key, e.what());
  }
}

std::vector<Expression> read_constraints(YamlMap& map) {
  std::vector<Expression> all;
  for (const Json& rule : map.value("constraints").value_or(Json::array())) {
    if (!rule.is_string()) map.fail("constraints", "must be a list of expressions such as \"a * b <= 64\"");
    all.push_back(expression_at(map, "constraints", rule));
  }
  return all;
}

SearchSpace read_entries(YamlMap& map) {
  Draft draft;
  draft.constraints = read_constraints(map);
  for (const std::string& name : map.keys()) {
    if (name == "constraints") continue;
    YamlMap entry = map.map(name);
    Parameter p = read_parameter(name, entry);
    if (const auto when = entry.text("when")) p.when = expression_at(entry, "when", *when);
    draft.add(std::move(p), entry.value("default"), [&](const std::string& what) { map.fail(name, what); });
    entry.finish();
  }
  if (draft.parameters.empty())
    map.fail("constraints", "there is no parameter beside them; see " + std::string(kExample));
  return draft.space();
}

/// A Python list of literals, range(a, b, c), or list(range(...)): what Kernel Tuner's files hold.
std::vector<Json> python_values(const std::string& text) {
  static const std::regex range(
      R"(\s*(?:list\()?range\(\s*(-?\d{1,18})\s*(?:,\s*(-?\d{1,18})\s*)?(?:,\s*(-?\d{1,18})\s*)?\)\)?\s*)");
  std::smatch match;
  std::vector<Json> all;
  if (std::regex_match(text, match, range)) {
    const auto part = [&](size_t i, int64_t otherwise) { return match[i].matched ? std::stoll(match[i]) : otherwise; };
    const int64_t first = match[2].matched ? part(1, 0) : 0, end = match[2].matched ? part(2, 0) : part(1, 0);
    const int64_t step = part(3, 1);
    for (int64_t v = first; step > 0 ? v < end : step < 0 && v > end; v += step) {
      if (all.size() == 100000) throw std::invalid_argument("has more than 100000 values");
      all.push_back(v);
    }
    return all;
  }
  Json list;
  try {
    list = yaml_value(text);
  } catch (const UsageError& e) {
    throw std::invalid_argument(e.what());
  }
  static const std::regex comprehension(R"(\s*(?:list\()?[\[(].*\sfor\s.*\sin\s.*)");
  if (std::regex_match(text, comprehension))
    throw std::invalid_argument(
        fmt::format("'{}' is a comprehension, which only Python can work out; write its values "
                    "down, as in [16, 32, 48]",
                    one_line(text, 60)));
  if (!list.is_array()) throw std::invalid_argument("'" + one_line(text, 60) + "' is no list of values and no range()");
  return {list.begin(), list.end()};
}

Parameter read_t1_parameter(const Json& entry) {
  Parameter p;
  p.name = entry.at("Name");
  const auto text = [&](const char* key) {
    const auto found = entry.find(key);
    if (found == entry.end() || !found->is_string())
      throw std::invalid_argument(
          fmt::format("{}: {} must be there, as a text such as \"[16, 32]\" or \"int\"", p.name, key));
    return found->get<std::string>();
  };
  const std::string type = text("Type");
  p.type = ParameterType::categorical;
  try {
    p.choices = python_values(text("Values"));
  } catch (const std::invalid_argument& e) {
    throw std::invalid_argument(fmt::format("{}: its Values: {}", p.name, e.what()));
  }
  for (Json& choice : p.choices) {
    if (type == "bool" && choice.is_number()) choice = choice != 0;
    const bool right = type == "string" ? choice.is_string()
                       : type == "bool" ? choice.is_boolean()
                                        : choice.is_number();
    if (!right) throw std::invalid_argument(fmt::format("{}: {} is no {}", p.name, choice.dump(), type));
  }
  p.description = entry.value("Description", "");
  return p;
}

/// Source: Kernel Tuner's schema/T1/1.0.0/input-schema.json.
SearchSpace read_t1(const Json& space) {
  Draft draft;
  for (const Json& condition : space.value("Conditions", Json::array()))
    draft.constraints.emplace_back(condition.at("Expression").get<std::string>());
  for (const Json& entry : space.at("TuningParameters")) {
    const auto given = entry.contains("Default") ? std::optional(entry["Default"]) : std::nullopt;
    Parameter p = read_t1_parameter(entry);
    const std::string name = p.name;
    draft.add(std::move(p), given, [&](const std::string& what) { throw std::invalid_argument(name + ": " + what); });
  }
  return draft.space();
}

}  // namespace

SearchSpace read_space(const std::filesystem::path& file) {
  YamlMap map = YamlMap::load(file, kExample);
  try {
    const auto t1 = map.value("ConfigurationSpace");
    return t1 ? read_t1(*t1) : read_entries(map);
  } catch (const std::invalid_argument& e) {
    throw UsageError("{}: {}", file.string(), e.what());
  } catch (const Json::exception& e) {
    throw UsageError("{}: is no T1 file: {}; see Kernel Tuner's input-schema.json", file.string(), e.what());
  }
}

SearchSpace space_from_t1(const Json& configuration_space) {
  try {
    return read_t1(configuration_space);
  } catch (const std::invalid_argument& e) {
    throw UsageError("{}", e.what());
  }
}

Json to_json(const SearchSpace& space) {
  Json all = Json::object();
  for (const Parameter& p : space.parameters()) {
    Json& entry = all[p.name];
    const auto number = [&](double v) { return p.type == ParameterType::integer ? Json(std::llround(v)) : Json(v); };
    entry["type"] = kTypes[static_cast<size_t>(p.type)];
    if (p.type == ParameterType::real || p.type == ParameterType::integer) {
      entry["low"] = number(p.low);
      entry["high"] = number(p.high);
      if (p.log) entry["log"] = true;
      if (p.step > 0) entry["step"] = number(p.step);
    }
    if (p.type == ParameterType::categorical) entry["choices"] = p.choices;
    if (p.type == ParameterType::text) entry["longest"] = p.longest;
    entry["default"] = p.default_value;
    if (!p.unit.empty()) entry["unit"] = p.unit;
    if (!p.description.empty()) entry["description"] = p.description;
    if (p.when) entry["when"] = p.when->text();
  }
  for (const Expression& c : space.constraints()) all["constraints"].push_back(c.text());
  return all;
}

}  // namespace haqa
