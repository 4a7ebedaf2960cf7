#pragma once
#include <functional>
#include <set>
#include <span>
#include <string>

#include "haqa/study/trial.h"

namespace haqa {

/// The hashes of every configuration tried so far.
std::set<std::string> tried_hashes(const SearchSpace& space, std::span<const Trial> trials);

/// What `draw` gives, drawn again until it was not tried; after 1000 draws, as in a small space of which all was tried,
/// or 100 of one and the same, as where constraints let nothing else through, the last one.
Configuration untried(const SearchSpace& space, std::span<const Trial> trials,
                      const std::function<Configuration()>& draw);

}  // namespace haqa
