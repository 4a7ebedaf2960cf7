#include "haqa/sampler/surrogate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "haqa/base/stats.h"
#include "haqa/sampler/constant_liar.h"
#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

constexpr size_t kRandomCandidates = 400, kLeaders = 3, kNeighbours = 100, kPriorCandidates = 200;
constexpr size_t kClimbers = 5, kSteps = 8;
constexpr int kDraws = 200;  ///< for one random candidate: constraints may let next to nothing through
constexpr double kDeviation = 0.1, kDeviations[] = {0.1, 0.05, 0.02};  ///< of candidates, and of climbers' steps
/// A prior that is fully trusted weighs as much as it says after so many trials. Hvarfner et al. take a tenth of the
/// trials in all.
constexpr double kPriorTrials = 2;
/// The same of the belief that good values lie around the middle of a range, and their deviation, in shares of it.
/// Without it the mean regret after 10 trials of bench/hpo was .43 instead of .33, with optima moved .38 instead of
/// .25.
constexpr double kCentreTrials = 3, kCentreDeviation = 0.3;
/// Of one parameter's novelty in a score. 0.3 measured better than 1 and than the distance over all parameters.
constexpr double kNovelty = 0.3;
/// Of what a value may lie below the median, in what the best lies above it or the lower quartile below it.
constexpr double kOutOfProportion = 10;
/// Pairs of trials that a prior is believed to order as their values do, before any were measured, and of how many.
constexpr double kOrderedPairs = 2.5, kImaginedPairs = 4;

bool has_value(const Trial& t) {
  return t.value && std::abs(*t.value) < kDiverged;
}

/// Raises what is out of all proportion to the others, a loss of 1e9 among those around 2: the process would see no
/// difference between the others. The larger the better.
void tame(std::vector<double>& values) {
  if (values.size() < 5) return;
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  const double middle = median(sorted), quarter = sorted[sorted.size() / 4];
  const double usual = std::max(sorted.back() - middle, middle - quarter);
  if (!(usual > 0)) return;
  for (double& v : values) v = std::max(v, middle - kOutOfProportion * usual);
}

}  // namespace

Surrogate::Surrogate(const Track& track, std::span<const Trial> trials, const Prior* prior, std::mt19937_64& random)
    : track_(track),
      asked_(trials.begin(), trials.end()),
      trials_(with_lies(track, trials)),
      prior_(prior),
      tried_(tried_hashes(track.space, trials)) {
  const std::vector<size_t> owners = track.space.encoded_parameters();
  GaussianProcess::Points all, measured;
  std::vector<double> runs, values;
  for (const Trial& t : trials_) {
    all.push_back(track.space.encode(t.configuration));
    runs.push_back(has_value(t) ? 1 : 0);
    if (!has_value(t)) continue;
    measured.push_back(all.back());
    values.push_back(sign() * *t.value);
  }
  if (prior_) prior_weight_ = weigh_prior();
  if (owners.empty()) return;
  tame(values);
  if (values.size() >= 2) {
    process_.emplace(measured, values, owners, random);
    incumbent_ = -std::numeric_limits<double>::infinity();
    for (const auto& p : process_->predict(measured)) incumbent_ = std::max(incumbent_, p.mean);
  }
  if (values.size() < all.size()) feasibility_.emplace(all, runs, owners, random);
}

GaussianProcess::Points Surrogate::encoded(std::span<const Configuration> configurations) const {
  GaussianProcess::Points points;
  for (const Configuration& c : configurations) points.push_back(track_.space.encode(c));
  return points;
}

/// A Gaussian process on 1 and 0 finds which parameters decide what fails, where a kernel over all of them would not.
double Surrogate::chance(const GaussianProcess::Posterior& p) const {
  return 0.5 * std::erfc(-(p.mean - 0.5) / (std::numbers::sqrt2 * std::max(p.deviation, 0.1)));
}

/// Between 0 and twice what the number of trials says, by how well the prior ordered the trials so far: one that is
/// wrong for this task is soon left alone. What is still measured says nothing of that.
double Surrogate::weigh_prior() const {
  double ordered = kOrderedPairs, pairs = kImaginedPairs;
  std::vector<std::pair<double, double>> told;
  for (const Trial& t : asked_) {
    if (t.state == TrialState::running) continue;
    told.push_back({prior_->log_density(t.configuration),
                    has_value(t) ? sign() * *t.value : -std::numeric_limits<double>::infinity()});
  }
  for (size_t i = 0; i < told.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      if (told[i].first == told[j].first || told[i].second == told[j].second) continue;
      ordered += (told[i].first > told[j].first) == (told[i].second > told[j].second);
      pairs += 1;
    }
  const double trust = std::max(0.0, 2 * (2 * ordered / pairs - 1));
  return trust * kPriorTrials / static_cast<double>(std::max<size_t>(1, asked_.size()));
}

/// Minus the logarithm of a normal density around the middle of all numbers' ranges.
double Surrogate::off_centre(const Configuration& configuration) const {
  double sum = 0;
  for (const Parameter& p : track_.space.parameters()) {
    const auto value = configuration.find(p.name);
    if (!is_numeric(p) || value == configuration.end()) continue;
    const double off = (unit_of(p, *value) - 0.5) / kCentreDeviation;
    sum += 0.5 * off * off;
  }
  return sum;
}

/// Before there is a model: how new each number is, as the logarithm of a process' deviation beside the nearest that
/// was tried. Else defaults that lie in the middle of their ranges would be tried again, but for a choice or two.
double Surrogate::log_novelty(const Configuration& configuration) const {
  double sum = 0;
  for (const Parameter& p : track_.space.parameters()) {
    const auto value = configuration.find(p.name);
    if (!is_numeric(p) || value == configuration.end()) continue;
    double nearest = 1;
    for (const Trial& t : asked_)
      if (const auto tried = t.configuration.find(p.name); tried != t.configuration.end())
        nearest = std::min(nearest, std::abs(unit_of(p, *value) - unit_of(p, *tried)));
    const double z = nearest / kCentreDeviation;
    sum += 0.5 * std::log(std::max(1e-12, 1 - std::exp(-0.5 * z * z)));
  }
  return kNovelty * sum;
}

std::vector<double> Surrogate::scores(std::span<const Configuration> configurations) const {
  const GaussianProcess::Points points = encoded(configurations);
  std::vector<double> scores(points.size(), 0);
  if (process_) {
    const auto expected = process_->predict(points);
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = log_expected_improvement(expected[i], incumbent_);
  }
  if (feasibility_) {
    // Improvement alone is orders of magnitude larger where nothing has run yet, whatever the chance: what more likely
    // fails is proposed only where hardly anything is to be gained elsewhere.
    const auto expected = feasibility_->predict(points);
    for (size_t i = 0; i < scores.size(); ++i) {
      const double p = chance(expected[i]);
      scores[i] += std::log(std::max(p, 1e-12)) - (p < 0.5 ? std::log(1e3) : 0);
    }
  }
  for (size_t i = 0; !process_ && i < scores.size(); ++i) scores[i] += log_novelty(configurations[i]);
  const double centre_weight = kCentreTrials / static_cast<double>(std::max<size_t>(1, asked_.size()));
  for (size_t i = 0; i < scores.size(); ++i) scores[i] -= centre_weight * off_centre(configurations[i]);
  for (size_t i = 0; prior_ && i < scores.size(); ++i)
    scores[i] += prior_weight_ * prior_->log_density(configurations[i]);
  return scores;
}

Expectation Surrogate::expect(const Configuration& configuration) const {
  Expectation e;
  const GaussianProcess::Points point = encoded({&configuration, 1});
  if (feasibility_) e.chance = chance(feasibility_->predict(point).front());
  if (!process_) return e;
  const auto p = process_->predict(point).front();
  e.mean = sign() * p.mean;
  e.deviation = p.deviation;
  e.gain = expected_improvement(p, incumbent_);
  return e;
}

/// The best trials, around which better ones may lie.
std::vector<const Trial*> Surrogate::leaders() const {
  std::vector<const Trial*> best;
  for (const Trial& t : trials_)
    if (has_value(t)) best.push_back(&t);
  const size_t count = std::min(kLeaders, best.size());
  std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(count), best.end(),
                    [&](const Trial* a, const Trial* b) { return sign() * *a->value > sign() * *b->value; });
  best.resize(count);
  return best;
}

std::vector<Configuration> Surrogate::candidates(std::mt19937_64& random) const {
  std::vector<Configuration> all;
  const auto add = [&](Configuration c) {
    if (!tried_.contains(track_.space.hash(c))) all.push_back(std::move(c));
  };
  for (size_t i = 0; i < kRandomCandidates; ++i) add(track_.space.sample(random, kDraws));
  for (const Trial* leader : leaders())
    for (size_t i = 0; i < kNeighbours; ++i)
      add(track_.space.neighbour(leader->configuration, random, kDeviation, kDraws));
  for (size_t i = 0; prior_ && i < kPriorCandidates; ++i) add(prior_->sample(random));
  return all;
}

Configuration Surrogate::best(std::mt19937_64& random) const {
  std::vector<Configuration> all = candidates(random);
  if (all.empty()) return track_.space.sample(random);  // all were tried
  std::vector<double> score = scores(all);
  std::vector<size_t> order(all.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const size_t climbers = std::min(kClimbers, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(climbers), order.end(),
                    [&](size_t a, size_t b) { return score[a] > score[b]; });
  size_t winner = order[0];
  for (size_t c = 0; c < climbers; ++c) {
    const size_t at = order[c];
    for (const double deviation : kDeviations) {
      std::vector<Configuration> steps;
      for (size_t i = 0; i < kSteps; ++i) {
        Configuration step = track_.space.neighbour(all[at], random, deviation, kDraws);
        if (!tried_.contains(track_.space.hash(step))) steps.push_back(std::move(step));
      }
      if (steps.empty()) continue;
      const std::vector<double> stepped = scores(steps);
      const auto highest = std::max_element(stepped.begin(), stepped.end());
      if (*highest <= score[at]) continue;
      score[at] = *highest;
      all[at] = std::move(steps[static_cast<size_t>(highest - stepped.begin())]);
    }
    if (score[at] > score[winner]) winner = at;
  }
  return all[winner];
}

}  // namespace haqa
