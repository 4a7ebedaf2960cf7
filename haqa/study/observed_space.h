#pragma once
#include <span>

#include "haqa/study/trial.h"

namespace haqa {

/// The search space as far as trials tell, where its file is not at hand: numbers from the least to the greatest tried,
/// on a logarithmic scale where they are positive and spread over two orders of magnitude; of other values those tried,
/// but for texts of several lines or beyond 100 bytes, of which the first is the default.
/// A parameter that some trials lack has no condition here. Good for looking back at trials, not for searching.
SearchSpace observed_space(std::span<const Trial> trials);

/// The last value of a numeric parameter that lies on a step, in as many digits as a person would write: 0.7, not
/// 0.7000000000000001. Its upper bound where it has no steps.
double last_step(const Parameter& p);

}  // namespace haqa
