#include "haqa/sampler/bayesian.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/stats.h"

namespace haqa {
namespace {

Track track() {
  Track t;
  t.space = SearchSpace({real_parameter("x", 0, 1, 0.5, ""), real_parameter("y", 1e-4, 1, 0.01, "", true),
                         integer_parameter("n", 1, 8, 4, ""), categorical_parameter("c", {"a", "b", "d"}, "a", "")});
  return t;
}

/// Best 1, at x = 0.8, y = 0.1, n = 6, c = b.
double value_of(const Configuration& c) {
  const double dx = c["x"].get<double>() - 0.8, dy = std::log10(c["y"].get<double>()) + 1,
               dn = (c["n"].get<double>() - 6) / 7;
  return 1 - dx * dx - 0.1 * dy * dy - dn * dn - (c["c"] == "b" ? 0 : 0.2);
}

template <typename Propose>
double best_after(int rounds, const Propose& propose) {
  const Track t = track();
  std::vector<Trial> trials;
  for (int i = 0; i < rounds; ++i) {
    Trial trial;
    trial.number = i;
    trial.configuration = i == 0 ? t.space.defaults() : propose(t, trials);
    trial.value = value_of(trial.configuration);
    trials.push_back(trial);
  }
  return *best_trial(trials, Direction::maximize)->value;
}

TEST(BayesianSampler, BeatsRandomSearch) {
  std::vector<double> bayesian, random;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    BayesianSampler sampler(seed);
    bayesian.push_back(
        best_after(15, [&](const Track& t, const auto& trials) { return sampler.ask(t, trials, 1).configuration; }));
    std::mt19937_64 dice(seed);
    random.push_back(best_after(15, [&](const Track& t, const auto&) { return t.space.sample(dice); }));
  }
  EXPECT_GT(median(bayesian), median(random) + 0.03);
}

TEST(BayesianSampler, IsValidNewAndReproducible) {
  const Track t = track();
  std::vector<Trial> trials;
  BayesianSampler a(7), b(7);
  for (int i = 0; i < 12; ++i) {
    const Proposal p = a.ask(t, trials, 1);
    EXPECT_EQ(p.configuration, b.ask(t, trials, 1).configuration);
    EXPECT_EQ(t.space.problem(p.configuration), std::nullopt);
    EXPECT_FALSE(tried_hashes(t.space, trials).contains(t.space.hash(p.configuration)));
    EXPECT_FALSE(p.thought.empty());
    Trial trial;
    trial.configuration = p.configuration;
    if (i % 3) trial.value = value_of(p.configuration);
    trials.push_back(trial);
  }
}

TEST(BayesianSampler, LearnsWhereTrialsFail) {
  // The best choice always fails; a sampler that did not learn it would propose nothing else in the end.
  int failures = 0;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    BayesianSampler sampler(seed);
    const Track t = track();
    std::vector<Trial> trials;
    for (int i = 0; i < 25; ++i) {
      Trial trial;
      trial.configuration = i == 0 ? t.space.defaults() : sampler.ask(t, trials, 1).configuration;
      const bool fails = trial.configuration["c"] == "b";
      if (!fails) trial.value = value_of(trial.configuration);
      failures += fails && i >= 15;
      trials.push_back(trial);
    }
  }
  EXPECT_LE(failures, 10) << "of 50 late proposals";
}

TEST(BayesianSampler, MinimizesToo) {
  Track t = track();
  t.direction = Direction::minimize;
  std::vector<Trial> trials;
  BayesianSampler sampler(3);
  for (int i = 0; i < 20; ++i) {
    Trial trial;
    trial.configuration = i == 0 ? t.space.defaults() : sampler.ask(t, trials, 1).configuration;
    trial.value = -value_of(trial.configuration);
    trials.push_back(trial);
  }
  EXPECT_LT(*best_trial(trials, Direction::minimize)->value, -0.9);
}

}  // namespace
}  // namespace haqa
