#pragma once
#include <span>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// The trials with those that are running as if they were complete, with the worst value so far, so that parallel asks
/// stay apart; without them while no trial is complete. Source: Ginsbourger et al. 2010, Kriging is well-suited to
/// parallelize optimization, section 4.2 (the constant liar).
std::vector<Trial> with_lies(const Track& track, std::span<const Trial> trials);

}  // namespace haqa
