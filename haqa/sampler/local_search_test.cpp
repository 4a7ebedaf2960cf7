#include "haqa/sampler/local_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/stats.h"
#include "haqa/sampler/random.h"

namespace haqa {
namespace {

using testing::HasSubstr;

Track track_of(int dimensions) {
  Track t;
  std::vector<Parameter> all;
  for (int i = 0; i < dimensions; ++i) all.push_back(real_parameter("x" + std::to_string(i), 0, 1, 0.1, ""));
  t.space = SearchSpace(all);
  t.direction = Direction::minimize;
  return t;
}

/// A bowl around 0.7 in every coordinate.
double bowl(const Configuration& c) {
  double sum = 0;
  for (const auto& [name, x] : c.items()) sum += std::pow(x.get<double>() - 0.7, 2);
  return sum;
}

Trial trial(int number, const Configuration& configuration, std::optional<double> value) {
  Trial t;
  t.number = number;
  t.configuration = configuration;
  t.value = value;
  t.state = value ? TrialState::complete : TrialState::failed;
  return t;
}

double best_of(const Track& track, Sampler& sampler, int rounds) {
  std::vector<Trial> trials = {trial(0, track.space.defaults(), bowl(track.space.defaults()))};
  while (static_cast<int>(trials.size()) < rounds) {
    const Configuration c = sampler.ask(track, trials, 1).configuration;
    trials.push_back(trial(static_cast<int>(trials.size()), c, bowl(c)));
  }
  return *best_trial(trials, track.direction)->value;
}

TEST(LocalSearchSampler, BeatsRandomSearchInABowl) {
  const Track track = track_of(4);
  int won = 0;
  std::vector<double> ratios;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    LocalSearchSampler local(seed);
    RandomSampler random(seed);
    const double ours = best_of(track, local, 60), theirs = best_of(track, random, 60);
    won += ours < theirs;
    ratios.push_back(ours / theirs);
  }
  EXPECT_GE(won, 17);
  EXPECT_LT(median(ratios), 0.5);
}

TEST(LocalSearchSampler, StepsWidenWithSuccessAndNarrowWithout) {
  const Track track = track_of(1);
  const auto thought_after = [&](const std::vector<double>& values) {
    std::vector<Trial> trials;
    for (const double v : values)
      trials.push_back(trial(static_cast<int>(trials.size()), {{"x0", 0.01 * static_cast<double>(trials.size())}}, v));
    return LocalSearchSampler(1).ask(track, trials, 1).thought;
  };
  EXPECT_THAT(thought_after({5}), HasSubstr("30 % of the ranges from round 1"));
  EXPECT_THAT(thought_after({5, 4}), HasSubstr("45 % of the ranges from round 2"));
  EXPECT_THAT(thought_after({5, 4, 3}), HasSubstr("50 % of the ranges from round 3")) << "no wider than half";
  EXPECT_THAT(thought_after({5, 6}), HasSubstr("27 % of the ranges from round 1"));
  EXPECT_THAT(thought_after({5, 6, 7, 8, 9}), HasSubstr("20 % of the ranges from round 1"));  // 0.3 / 1.5
  EXPECT_THAT(thought_after({5, 6, 7, 8, 9, 4}), HasSubstr("30 % of the ranges from round 6"))
      << "level at one in five";
}

TEST(LocalSearchSampler, WaitsForRunningTrialsAndLearnsNothingGoodOfPrunedOnes) {
  const Track track = track_of(1);  // minimized
  std::vector<Trial> trials = {trial(0, {{"x0", 0.5}}, 5), trial(1, {{"x0", 0.6}}, std::nullopt),
                               trial(2, {{"x0", 0.7}}, std::nullopt)};
  for (Trial& t : trials)
    if (t.number > 0) t.state = TrialState::running;
  EXPECT_THAT(LocalSearchSampler(1).ask(track, trials, 1).thought, HasSubstr("30 % of the ranges from round 1"))
      << "as if the two were not there";
  trials[1].state = TrialState::pruned;
  trials[1].value = 1;
  EXPECT_THAT(LocalSearchSampler(1).ask(track, trials, 1).thought, HasSubstr("27 % of the ranges from round 1"));
}

TEST(LocalSearchSampler, BeginsAnewWhereStepsLedNowhere) {
  const Track track = track_of(1);
  std::vector<Trial> trials = {trial(0, {{"x0", 0.5}}, 1)};
  LocalSearchSampler sampler(1);
  int steps = 0;
  for (; steps < 100; ++steps) {
    const Proposal p = sampler.ask(track, trials, 1);
    if (p.thought.find("new walk") != std::string::npos) break;
    trials.push_back(trial(steps + 1, p.configuration, steps % 2 ? std::nullopt : std::optional(2.0)));
  }
  EXPECT_EQ(steps, 27);
  trials.push_back(trial(steps + 1, {{"x0", 0.9}}, 3));  // worse than the first walk's, and yet this walk's best
  EXPECT_THAT(sampler.ask(track, trials, 1).thought, HasSubstr("30 % of the ranges from round 29"));
}

// A study may go on with narrower ranges: its best trial lies outside, and steps from there would be lost.
TEST(LocalSearchSampler, StepsFromTheNearestOfWhatIsOutsideTodaysRange) {
  const Track track = track_of(5);
  const Configuration outside = {{"x0", 3.0}, {"x1", 3.0}, {"x2", 3.0}, {"x3", 3.0}, {"x4", 3.0}};
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const Configuration c = LocalSearchSampler(seed).ask(track, std::vector{trial(0, outside, 1)}, 1).configuration;
    EXPECT_EQ(track.space.problem(c), std::nullopt) << c;
    EXPECT_GE(std::count(c.begin(), c.end(), Json(1.0)), 2) << "the others stay at the end of their range";
  }
}

TEST(LocalSearchSampler, AFailedStartIsLeftAtTheFirstThatRuns) {
  const Track track = track_of(1);
  const std::vector<Trial> trials = {trial(0, {{"x0", 0.5}}, std::nullopt), trial(1, {{"x0", 0.6}}, 9)};
  EXPECT_THAT(LocalSearchSampler(1).ask(track, trials, 1).thought, HasSubstr("from round 2"));
}

}  // namespace
}  // namespace haqa
