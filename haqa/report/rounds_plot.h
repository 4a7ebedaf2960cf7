#pragma once
#include <string>
#include <vector>

#include "haqa/report/findings.h"
#include "haqa/report/plots.h"

namespace haqa {

/// Each round's speed-up with its interval, the best so far, and those that failed. There is at least one round. over:
/// what it is the speed-up over.
Plot rounds_plot(const std::vector<Round>& rounds, bool maximize, const std::string& id = "rounds",
                 const std::string& over = "the defaults");

}  // namespace haqa
