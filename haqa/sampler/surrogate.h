#pragma once
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "haqa/sampler/gaussian_process.h"
#include "haqa/sampler/prior.h"
#include "haqa/study/study.h"

namespace haqa {

/// What a surrogate expects of a configuration, in the unit of the track's value.
struct Expectation {
  double mean = 0, deviation = 0;
  double gain = 0;    ///< expected improvement over the incumbent
  double chance = 1;  ///< that the trial does not fail
};

/// A model of a track's objective from its trials: a Gaussian process of the complete and pruned ones, another of which
/// trials fail, and what was known before. Failed trials teach that chance alone; no penalty value enters.
/// Sources: Jones et al. 1998 (expected improvement, here over the best that the process believes in, for noise);
/// Gelbart et al. 2014, Bayesian optimization with unknown constraints (the chance); Hvarfner et al. 2022, piBO (the
/// prior).
class Surrogate {
 public:
  /// prior: nullptr where there is none; like the track it must outlive this. Running trials count as in
  /// with_lies(), and keep others away also where nothing is complete yet.
  Surrogate(const Track& track, std::span<const Trial> trials, const Prior* prior, std::mt19937_64& random);

  /// Whether there are trials enough for a model; without one, scores come from the prior and failures alone.
  bool modelled() const { return process_.has_value(); }
  /// How promising each is: the logarithm of expected improvement times the chance to run times the faded prior.
  std::vector<double> scores(std::span<const Configuration> configurations) const;
  Expectation expect(const Configuration& configuration) const;
  /// The most promising valid configuration that was not tried, as far as a search finds it.
  Configuration best(std::mt19937_64& random) const;

 private:
  std::vector<Configuration> candidates(std::mt19937_64& random) const;
  std::vector<const Trial*> leaders() const;
  GaussianProcess::Points encoded(std::span<const Configuration> configurations) const;
  double chance(const GaussianProcess::Posterior& p) const;
  double weigh_prior() const;
  double off_centre(const Configuration& configuration) const;
  double log_novelty(const Configuration& configuration) const;
  double sign() const { return track_.direction == Direction::maximize ? 1 : -1; }

  const Track& track_;
  std::vector<Trial> asked_;   ///< all of them, as they are
  std::vector<Trial> trials_;  ///< those to learn values from: with_lies()
  const Prior* prior_;
  std::set<std::string> tried_;
  std::optional<GaussianProcess> process_, feasibility_;
  double incumbent_ = 0;     ///< the best that the process believes in where something was measured
  double prior_weight_ = 0;  ///< of the prior's log density; fades with trials, the sooner the worse it foretold them
};

}  // namespace haqa
