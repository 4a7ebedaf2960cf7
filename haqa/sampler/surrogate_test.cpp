#include "haqa/sampler/surrogate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace haqa {
namespace {

Track line() {
  Track t;
  t.space = SearchSpace({real_parameter("x", 0, 1, 0.1, ""), real_parameter("y", 0, 1, 0.5, "")});
  return t;
}

Trial trial(double x, double y, std::optional<double> value) {
  Trial t;
  t.configuration = {{"x", x}, {"y", y}};
  t.value = value;
  t.state = value ? TrialState::complete : TrialState::failed;
  return t;
}

std::optional<Prior> prior_at(const Track& track, double x) {
  PriorEntry entry;
  entry.name = std::regex("^x$");
  entry.median = x;
  entry.deviation = 0.05;
  return Prior::match(track, std::span(&entry, 1));
}

TEST(Surrogate, ExpectsInTheUnitAndDirectionOfTheValue) {
  for (const double sign : {1.0, -1.0}) {
    Track track = line();
    track.direction = sign > 0 ? Direction::maximize : Direction::minimize;
    std::vector<Trial> trials;
    for (int i = 0; i <= 6; ++i) trials.push_back(trial(i / 6.0, 0.5, sign * (1000 + 60 * i / 6.0)));
    std::mt19937_64 random(1);
    const Surrogate surrogate(track, trials, nullptr, random);
    ASSERT_TRUE(surrogate.modelled());
    const Expectation middle = surrogate.expect({{"x", 0.55}, {"y", 0.5}});
    EXPECT_NEAR(middle.mean, sign * 1033, 3);
    EXPECT_LT(middle.deviation, 5);
    EXPECT_GE(middle.gain, 0);
    EXPECT_LT(middle.gain, 1) << "27 below the incumbent";
    EXPECT_EQ(middle.chance, 1);
  }
}

TEST(Surrogate, FailuresLowerTheChanceAndNoValue) {
  const Track track = line();
  std::vector<Trial> trials;
  for (int i = 0; i <= 5; ++i) trials.push_back(trial(0.1 * i, 0.2 * i, 1 + 0.1 * i));
  std::mt19937_64 a(1), b(1);
  const Surrogate before(track, trials, nullptr, a);
  const Expectation without = before.expect({{"x", 0.8}, {"y", 0.5}});
  for (int i = 0; i <= 5; ++i) trials.push_back(trial(0.6 + 0.08 * i, 0.2 * i, std::nullopt));
  const Surrogate after(track, trials, nullptr, b);
  const Expectation with = after.expect({{"x", 0.8}, {"y", 0.5}});
  EXPECT_DOUBLE_EQ(with.mean, without.mean) << "a failure is no value";
  EXPECT_LT(with.chance, 0.2);
  EXPECT_GT(after.expect({{"x", 0.2}, {"y", 0.4}}).chance, 0.8);
  const std::vector<Configuration> two = {{{"x", 0.5}, {"y", 0.5}}, {{"x", 0.9}, {"y", 0.5}}};
  EXPECT_GT(after.scores(two)[0], after.scores(two)[1]);
}

// The slope of the others must stay visible beside a value that is out of all proportion, or diverged.
TEST(Surrogate, AnOutlierDoesNotHideTheOthers) {
  for (const double bad : {-1e6, -1e30, -1e300}) {
    const Track track = line();
    std::vector<Trial> trials = {trial(0, 0.9, bad)};
    for (int i = 1; i <= 8; ++i) trials.push_back(trial(0.1 * i, 0.1, 2 + 0.1 * i));
    std::mt19937_64 random(1);
    const Surrogate surrogate(track, trials, nullptr, random);
    EXPECT_NEAR(surrogate.expect({{"x", 0.75}, {"y", 0.1}}).mean, 2.75, 0.03) << bad;
    EXPECT_LT(surrogate.expect({{"x", 0.02}, {"y", 0.9}}).gain, 0.05) << bad;
  }
}

// Where the defaults lie in the middle of their ranges: another choice beside them is not new enough.
TEST(Surrogate, TheSecondTrialMovesTheNumbers) {
  Track track;
  track.space = SearchSpace({real_parameter("x", 0, 1, 0.5, ""), real_parameter("rate", 1e-4, 1, 1e-2, "", true),
                             categorical_parameter("c", {"a", "b", "d"}, "a", "")});
  Trial defaults;
  defaults.configuration = track.space.defaults();
  defaults.value = 1;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::mt19937_64 random(seed);
    const Configuration second = Surrogate(track, {&defaults, 1}, nullptr, random).best(random);
    EXPECT_GT(std::abs(second["x"].get<double>() - 0.5), 0.05) << seed;
    EXPECT_GT(std::abs(std::log10(second["rate"].get<double>()) + 2), 0.2) << seed;
  }
}

TEST(Surrogate, ThePriorLeadsAtFirstAndFades) {
  const Track track = line();
  const std::optional<Prior> prior = prior_at(track, 0.9);
  std::mt19937_64 random(3);
  const std::vector<Trial> defaults = {trial(0.1, 0.5, 1)};
  EXPECT_NEAR(Surrogate(track, defaults, &*prior, random).best(random)["x"].get<double>(), 0.9, 0.1);
  // The truth lies elsewhere: the better, the farther from what the prior says.
  std::vector<Trial> trials = defaults;
  for (int i = 0; i < 4; ++i) trials.push_back(trial(0.85 + 0.03 * i, 0.2 * i, -0.02 * i));
  EXPECT_LT(Surrogate(track, trials, &*prior, random).best(random)["x"].get<double>(), 0.7);
}

// The lie about what is running, the worst value so far, says nothing of the prior that led there.
TEST(Surrogate, LiesDoNotSpeakAgainstThePrior) {
  const Track track = line();
  const std::optional<Prior> prior = prior_at(track, 0.9);
  const std::vector<Configuration> two = {{{"x", 0.9}, {"y", 0.5}}, {{"x", 0.3}, {"y", 0.5}}};
  /// By how much the prior, of which alone the scores differ, prefers what it holds likely.
  const auto preferred = [&](const std::vector<Trial>& trials) {
    std::mt19937_64 a(1), b(1);
    const auto with = Surrogate(track, trials, &*prior, a).scores(two);
    const auto without = Surrogate(track, trials, nullptr, b).scores(two);
    return (with[0] - with[1]) - (without[0] - without[1]);
  };
  // Four trials that the prior ordered as their values are; four more run where it says.
  std::vector<Trial> trials;
  for (int i = 0; i < 4; ++i) trials.push_back(trial(0.1 + 0.2 * i, 0.5, i));
  std::vector<Trial> ended = trials;
  for (int i = 0; i < 4; ++i) {
    trials.push_back(trial(0.89 + 0.005 * i, 0.2 * i, std::nullopt));
    trials.back().state = TrialState::running;
  }
  EXPECT_NEAR(preferred(trials), preferred(ended) / 2, 1e-9) << "half as much at twice the trials, believed as much";
}

// By hand: half its weight after one trial, 2, as its trust of 2.5 ordered pairs in 4 is one half; a second part of
// that after two. Trials of one value order no pairs and leave the trust alone.
TEST(Surrogate, ThePriorsWeightIsSharedByTheTrials) {
  const Track track = line();
  const std::optional<Prior> prior = prior_at(track, 0.9);
  const std::vector<Configuration> two = {{{"x", 0.9}, {"y", 0.5}}, {{"x", 0.3}, {"y", 0.5}}};
  const double told = prior->log_density(two[0]) - prior->log_density(two[1]);
  ASSERT_GT(told, 1);
  std::vector<Trial> trials;
  for (int n = 1; n <= 8; ++n) {
    trials.push_back(trial(0.1 * n, 0.4, 1));
    std::mt19937_64 a(1), b(1);
    const std::vector<double> with = Surrogate(track, trials, &*prior, a).scores(two),
                              without = Surrogate(track, trials, nullptr, b).scores(two);
    EXPECT_NEAR(((with[0] - without[0]) - (with[1] - without[1])) / told, 1.0 / n, 1e-9) << n;
  }
}

// By hand: the logarithm of a normal density of deviation 0.3 around the middle, three times after one trial. Both are
// as far from that trial, so that neither is newer.
TEST(Surrogate, TheMiddleOfARangeIsTriedFirst) {
  const Track track = line();
  const std::vector<Trial> one = {trial(0.25, 0.5, 1)};
  const std::vector<Configuration> two = {{{"x", 0.5}, {"y", 0.3}}, {{"x", 0.0}, {"y", 0.3}}};
  std::mt19937_64 random(1);
  const std::vector<double> scores = Surrogate(track, one, nullptr, random).scores(two);
  EXPECT_NEAR(scores[0] - scores[1], 3 * 0.5 * std::pow(0.5 / 0.3, 2), 1e-9);
  // Alike, that belief fades with trials: these say nothing of either.
  std::vector<Trial> three = one;
  three.push_back(trial(0.25, 0.3, 1));
  three.push_back(trial(0.25, 0.1, 1));
  std::mt19937_64 again(1);
  const std::vector<double> later = Surrogate(track, three, nullptr, again).scores(two);
  EXPECT_NEAR(later[0] - later[1], 0.5 * std::pow(0.5 / 0.3, 2), 1e-6);
}

TEST(Surrogate, RunningTrialsKeepItAway) {
  const Track track = line();
  std::vector<Trial> trials;
  for (int i = 0; i <= 8; ++i) trials.push_back(trial(i / 8.0, 0.5, -std::pow(i / 8.0 - 0.6, 2)));
  std::mt19937_64 a(5), b(5);
  const Configuration first = Surrogate(track, trials, nullptr, a).best(a);
  trials.push_back(trial(first["x"], first["y"], std::nullopt));
  trials.back().state = TrialState::running;
  const Configuration second = Surrogate(track, trials, nullptr, b).best(b);
  EXPECT_GT(std::hypot(first["x"].get<double>() - second["x"].get<double>(),
                       first["y"].get<double>() - second["y"].get<double>()),
            0.02);
}

}  // namespace
}  // namespace haqa
