#pragma once
#include <filesystem>

#include "haqa/space/search_space.h"

namespace haqa {

/// Reads a search space from YAML or JSON: an entry a parameter,
///   name: {type: float|int|categorical|bool|text, low, high, log, step, choices, longest, default, unit, description,
///          when}
/// and optionally `constraints:`, a list of expressions. Without a default: the middle of the range, the first choice,
/// false, no text; where those break a constraint, some configuration that keeps all. A file in Kernel Tuner's T1
/// format (its ConfigurationSpace) is read too. Throws UsageError naming file, line and what is allowed.
SearchSpace read_space(const std::filesystem::path& file);

/// The space of a ConfigurationSpace in T1. Throws UsageError, or Json::exception where something is missing.
SearchSpace space_from_t1(const Json& configuration_space);

/// The space in the form that read_space() reads.
Json to_json(const SearchSpace& space);

}  // namespace haqa
