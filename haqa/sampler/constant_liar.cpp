#include "haqa/sampler/constant_liar.h"

namespace haqa {

std::vector<Trial> with_lies(const Track& track, std::span<const Trial> trials) {
  const Trial* worst =
      best_trial(trials, track.direction == Direction::maximize ? Direction::minimize : Direction::maximize);
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
