#pragma once
#include <span>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// What is beyond this diverged, which is a failure: infinity, and numbers whose squares are.
inline constexpr double kDiverged = 1e100;

/// The trials with those that are running as if they were complete, with the worst value so far that did not diverge,
/// so that parallel asks stay apart; without them while there is none. Source: Ginsbourger et al. 2010, Kriging is
/// well-suited to parallelize optimization, section 4.2 (the constant liar).
std::vector<Trial> with_lies(const Track& track, std::span<const Trial> trials);

}  // namespace haqa
