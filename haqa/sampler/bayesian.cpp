#include "haqa/sampler/bayesian.h"

#include <fmt/format.h>

#include "haqa/sampler/surrogate.h"
#include "haqa/sampler/untried.h"

namespace haqa {

Proposal BayesianSampler::ask(const Track& track, std::span<const Trial> trials, int) {
  const std::optional<Prior> prior = Prior::match(track, priors_);
  const Surrogate surrogate(track, trials, prior ? &*prior : nullptr, random_);
  Proposal best = {surrogate.best(random_), "bayesian", "", {}};
  if (surrogate.modelled()) {
    const Expectation e = surrogate.expect(best.configuration);
    best.thought =
        fmt::format("A Gaussian process over the trials so far expects {:.4g} ± {:.2g} here.", e.mean, e.deviation);
    best.expected_gain = e.gain;
  } else {
    best.thought = "Too few trials for a model.";
  }
  if (prior) {
    const Trial* incumbent = best_trial(trials, track.direction);
    const std::string known =
        prior->explain(best.configuration, incumbent ? incumbent->configuration : track.space.defaults());
    if (!known.empty()) best.thought += fmt::format(" What usually works: {}.", known);
  }
  return best;
}

}  // namespace haqa
