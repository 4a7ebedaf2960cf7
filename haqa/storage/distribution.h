#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/space/search_space.h"

namespace haqa {

/// The values a parameter can have, as Optuna's database describes them beside each value. boolean never occurs: Optuna
/// keeps it as the choices false and true. Optuna has no free texts: each trial's is a choice of one, the text itself
/// (of_value()), so that a text among our own distributions has no choices. Source: optuna/distributions.py of
/// Optuna 5.0.
struct Distribution {
  ParameterType type = ParameterType::real;
  double low = 0, high = 0;
  double step = 0;  ///< 0: none, for integers 1
  bool log = false;
  std::vector<Json> choices;
};

/// What Optuna would call the parameter. `high` comes down onto the last step, as Optuna brings it.
Distribution distribution_of(const Parameter& p);

/// What stands beside a value: a text's is of that text alone.
Distribution of_value(const Distribution& d, const Json& value);

/// Optuna's JSON, character by character but for numbers from 1e15 to 1e16.
std::string to_optuna(const Distribution& d);
/// Throws Error where it is no distribution of Optuna's present form.
Distribution distribution_from_optuna(std::string_view json);

/// The number that Optuna keeps: the value itself, or the index of the choice. Throws Error for what is no choice.
double to_stored(const Distribution& d, const Json& value);
/// The value that a kept number stands for. Throws Error for an index beyond the choices.
Json from_stored(const Distribution& d, double number);

/// Why trials of both cannot stand in one study, as Optuna decides it: another kind, another scale, other choices;
/// ranges and steps may change, texts are choices that are texts. nullopt where they can. The order of choices does not
/// matter.
std::optional<std::string> contradiction(const Distribution& stored, const Distribution& wanted);

/// JSON as Python's json.dumps writes it: a blank after each comma and colon, ASCII only. What is no number becomes
/// null.
std::string to_python_json(const Json& value);

}  // namespace haqa
