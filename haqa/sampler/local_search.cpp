#include "haqa/sampler/local_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

// Shares of a parameter's range, as standard deviations. A walk without any success ends after 27 steps.
constexpr double kFirstStep = 0.3, kWidestStep = 0.5, kShortestStep = 0.02;
constexpr double kWiden = 1.5;  // and by its fourth root narrower: level at one success in five

struct Walk {
  const Trial* best = nullptr;  ///< nothing where a new walk begins
  double step = kFirstStep;
};

Walk follow(const Track& track, std::span<const Trial> trials) {
  const double sign = track.direction == Direction::maximize ? 1 : -1;
  const auto score = [&](const Trial& t) {
    return t.state == TrialState::complete && t.value && std::isfinite(*t.value) ? sign * *t.value : -INFINITY;
  };
  Walk walk;
  for (const Trial& t : trials) {
    if (t.state == TrialState::running) continue;  // neither a success nor a failure yet
    if (!walk.best) {
      walk = {&t, kFirstStep};
    } else if (score(t) > score(*walk.best)) {
      walk = {&t, std::min(kWidestStep, walk.step * kWiden)};
    } else {
      walk.step *= std::pow(kWiden, -0.25);
    }
    if (walk.step < kShortestStep) walk.best = nullptr;
  }
  return walk;
}

}  // namespace

Proposal LocalSearchSampler::ask(const Track& track, std::span<const Trial> trials, int) {
  const Walk walk = follow(track, trials);
  const auto draw = [&] {
    if (!walk.best) return track.space.sample(random_);
    // Clipped, as a study may go on with narrower ranges; constraints may let no step through from there.
    Configuration step = track.space.neighbour(track.space.clipped(walk.best->configuration), random_, walk.step);
    return track.space.problem(step) ? track.space.sample(random_) : step;
  };
  const std::string thought =
      walk.best ? fmt::format("A step of about {:.0f} % of the ranges from round {}, the best of this walk.",
                              100 * walk.step, walk.best->number + 1)
                : "The steps led nowhere: a new walk from a random configuration.";
  return {untried(track.space, trials, draw), "local search", thought};
}

}  // namespace haqa
