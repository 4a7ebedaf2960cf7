#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// Parallel coordinates as inline SVG: an axis a parameter and one for the value, a line a trial, the stronger the
/// better; failed trials dashed, to the bottom of the value's axis. A line ends at a parameter that has no value and
/// goes on behind it. Empty where no trial has ended.
std::string parallel_coordinates(const Track& track, std::span<const Trial> trials);

/// A parameter's value as plots and tables show it, a long text in short.
std::string value_text(const Json& value);
/// The choices of a categorical or boolean parameter, in the order of their places on its axis; whether a text is the
/// default or changed.
std::vector<std::string> choice_names(const Parameter& p);

/// Where a value is on its parameter's axis, from 0 to 1, by logarithm where the parameter says so, in the middle of
/// its share for a choice; nullopt where there is none or of another type.
std::optional<double> axis_place(const Parameter& p, const Configuration& configuration);

}  // namespace haqa
