#include "haqa/sampler/constant_liar.h"

#include <cmath>

namespace haqa {
namespace {

const Trial* worst_of(const Track& track, std::span<const Trial> trials) {
  const double sign = track.direction == Direction::maximize ? 1 : -1;
  const Trial* worst = nullptr;
  for (const Trial& t : trials) {
    if (!has_finite_value(t) || std::abs(*t.value) >= kDiverged) continue;
    if (!worst || sign * *t.value < sign * *worst->value) worst = &t;
  }
  return worst;
}

}  // namespace

std::vector<Trial> with_lies(const Track& track, std::span<const Trial> trials) {
  const Trial* worst = worst_of(track, trials);
  std::vector<Trial> told;
  for (const Trial& t : trials) {
    if (t.state == TrialState::running && !worst) continue;
    told.push_back(t);
    if (t.state != TrialState::running) continue;
    told.back().state = TrialState::complete;
    told.back().value = worst->value;
    told.back().more_values = worst->more_values;
  }
  return told;
}

}  // namespace haqa
