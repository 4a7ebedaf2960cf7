#pragma once
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// One value for each parameter of a search space: a JSON object in the space's order.
using Configuration = Json;

enum class ParameterType { real, integer, categorical, boolean };

/// One thing to tune. Use the makers below.
struct Parameter {
  std::string name;
  ParameterType type = ParameterType::real;
  double low = 0, high = 0;   ///< inclusive bounds of real and integer
  bool log = false;           ///< spread evenly in the logarithm; low > 0
  std::vector<Json> choices;  ///< of categorical
  Json default_value;
  std::string description;  ///< meaning and unit; the prompt shows it
};

Parameter real_parameter(std::string name, double low, double high, double default_value, std::string description,
                         bool log = false);
Parameter integer_parameter(std::string name, int low, int high, int default_value, std::string description,
                            bool log = false);
Parameter categorical_parameter(std::string name, std::vector<Json> choices, Json default_value,
                                std::string description);
Parameter boolean_parameter(std::string name, bool default_value, std::string description);

/// A rule between parameters, on complete and individually valid configurations.
struct Constraint {
  std::string text;  ///< "ubatch <= batch", shown to the agent
  std::function<bool(const Configuration&)> holds;
};

class SearchSpace {
 public:
  SearchSpace() = default;
  /// Throws std::invalid_argument where bounds are reversed, names repeat, or the defaults themselves are not valid.
  explicit SearchSpace(std::vector<Parameter> parameters, std::vector<Constraint> constraints = {});

  const std::vector<Parameter>& parameters() const { return parameters_; }
  Configuration defaults() const;

  /// What is wrong with a proposal, for whoever proposed it: every fault with the allowed values; nullopt if valid.
  std::optional<std::string> problem(const Configuration& proposal) const;

  /// The proposal in the space's order and types (4.0 becomes 4 for an integer). Call on valid proposals only.
  Configuration normalized(const Configuration& proposal) const;

  /// Equal exactly for configurations that mean the same: 16 hexadecimal digits.
  std::string hash(const Configuration& configuration) const;

  /// A point of the unit cube for surrogates: numbers scaled (by logarithm where the parameter says so), booleans 0 or
  /// 1, one coordinate for each choice (0 or 1/sqrt 2, so that two choices are one apart).
  std::vector<double> encode(const Configuration& configuration) const;

  /// Uniform over the valid configurations (by rejection).
  Configuration sample(std::mt19937_64& random) const;

  /// `configuration` with one to three parameters changed, numbers mostly by a little; valid.
  Configuration neighbour(const Configuration& configuration, std::mt19937_64& random) const;

  /// JSON schema of a configuration, for providers with structured output and for valijson.
  Json schema() const;

  /// One line a parameter in the paper's form: 'name': meaning. Type: ..., Range: [a, b], Default: c, Log scale.
  std::string describe() const;

 private:
  std::vector<Parameter> parameters_;
  std::vector<Constraint> constraints_;
};

}  // namespace haqa
