#pragma once
#include <functional>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/space/expression.h"

namespace haqa {

/// One value for each active parameter of a search space: a JSON object in the space's order.
using Configuration = Json;

enum class ParameterType { real, integer, categorical, boolean, text };

/// One thing to tune. Use the makers below.
struct Parameter {
  std::string name;
  ParameterType type = ParameterType::real;
  double low = 0, high = 0;   ///< inclusive bounds of real and integer
  bool log = false;           ///< spread evenly in the logarithm; low > 0
  std::vector<Json> choices;  ///< of categorical; where all are numbers, their order counts
  Json default_value;
  std::string description;         ///< meaning; the prompt shows it
  double step = 0;                 ///< values are low, low + step, ...; 0: all, for integers all whole ones
  std::string unit;                ///< "tokens"; empty where there is none
  std::optional<Expression> when;  ///< over earlier parameters: where it is false, this one has no value
  size_t longest = 0;              ///< bytes of a text
};

Parameter real_parameter(std::string name, double low, double high, double default_value, std::string description,
                         bool log = false);
Parameter integer_parameter(std::string name, int low, int high, int default_value, std::string description,
                            bool log = false);
Parameter categorical_parameter(std::string name, std::vector<Json> choices, Json default_value,
                                std::string description);
Parameter boolean_parameter(std::string name, bool default_value, std::string description);
/// Any UTF-8 without NUL of at most `longest` bytes, such as a kernel's source; the default, nothing, means as shipped.
/// Whoever draws values leaves it alone: only what writes texts, an agent or a person, changes it.
Parameter text_parameter(std::string name, size_t longest, std::string description);

/// Real or integer.
bool is_numeric(const Parameter& p);
/// Choices such as 16, 32, 64: a number between them means something.
bool is_ordinal(const Parameter& p);

/// A text as tables and one-line summaries show it: "1532 bytes, hash 1a2b3c4d" where it is long or has several lines.
std::string short_text(const std::string& text);
/// Whether a text is what short_text() makes of another one.
bool is_short_text(std::string_view text);
/// The configuration with each text by its short_text().
Configuration with_short_texts(Configuration configuration);

/// A parameter's value at a place from 0 to 1: uniform places give every value as often (by logarithm where the
/// parameter says so), choices that are numbers from the least, a text's default everywhere.
Json value_at(const Parameter& p, double unit);
/// The place of a valid value, the middle of its places: value_at(p, unit_of(p, v)) is v, up to rounding; of a text 0.
double unit_of(const Parameter& p, const Json& value);

class SearchSpace {
 public:
  SearchSpace() = default;
  /// A constraint holds where one of its parameters is not active. Throws std::invalid_argument where bounds are
  /// reversed, names repeat, a condition or constraint names what is not there, or the defaults are not valid.
  explicit SearchSpace(std::vector<Parameter> parameters, std::vector<Expression> constraints = {});

  const std::vector<Parameter>& parameters() const { return parameters_; }
  const std::vector<Expression>& constraints() const { return constraints_; }
  Configuration defaults() const;

  /// What is wrong with a proposal, for whoever proposed it: every fault with the allowed values; nullopt if valid. A
  /// value for a parameter that is not active is no fault.
  std::optional<std::string> problem(const Configuration& proposal) const;

  /// Whether problem() would find nothing; faster.
  bool allows(const Configuration& proposal) const;

  /// The proposal in the space's order and types (4.0 becomes 4 for an integer), without what is not active. Call on
  /// valid proposals only.
  Configuration normalized(const Configuration& proposal) const;

  /// The nearest that can be made of a proposal from elsewhere, another space's trial say: numbers brought into their
  /// range and onto their step, the default for what is missing or no choice. Its constraints may still fail.
  Configuration clipped(const Configuration& proposal) const;

  /// Equal exactly for configurations that mean the same: 16 hexadecimal digits.
  std::string hash(const Configuration& configuration) const;

  /// A point of the unit cube for surrogates: numbers scaled (by logarithm where the parameter says so), booleans 0 or
  /// 1, choices that are numbers by their rank, one coordinate for each other choice (0 or 1/sqrt 2, so that two are
  /// one apart), a text 0 where it is the default, else 1; the default's for a parameter that is not active.
  std::vector<double> encode(const Configuration& configuration) const;
  /// For each coordinate of encode() the parameter that it belongs to, by its place in parameters().
  std::vector<size_t> encoded_parameters() const;

  /// The configuration at a point of the unit cube, a coordinate a parameter, as value_at() reads them. Its constraints
  /// may fail.
  Configuration at(std::span<const double> units) const;

  /// Uniform over the valid configurations: by rejection, for each group of parameters that constraints bind together;
  /// a group's defaults where `draws` give none.
  Configuration sample(std::mt19937_64& random, int draws = 10000) const;

  /// `origin` (where it is not valid, what can be made of it) with one to three parameters changed, numbers by a
  /// normal step of `deviation` of their range; valid; the same where `draws` give none. Texts stay as they are.
  Configuration neighbour(const Configuration& origin, std::mt19937_64& random, double deviation = 0.1,
                          int draws = 1000) const;

  /// JSON schema of a configuration, for providers with structured output and for valijson.
  Json schema() const;

  /// One line a parameter in the paper's form: 'name': meaning. Type: ..., Range: [a, b], Default: c, Log scale.
  std::string describe() const;

 private:
  /// What shares no constraint and no condition with the parameters of another group.
  struct Group {
    std::vector<size_t> parameters, constraints;  ///< by their places
  };
  void check_names() const;
  std::vector<Group> grouped() const;
  bool keeps(const Configuration& configuration, const Expression& constraint) const;
  bool keeps_all(const Configuration& configuration) const;
  Configuration sample(const Group& group, std::mt19937_64& random, int draws) const;
  std::vector<std::string> faults_of_values(const Configuration& proposal) const;
  Configuration assembled(const std::function<Json(const Parameter&)>& value) const;

  std::vector<Parameter> parameters_;
  std::vector<Expression> constraints_;
  std::vector<Group> groups_;
};

}  // namespace haqa
