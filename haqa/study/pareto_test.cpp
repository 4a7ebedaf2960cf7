#include "haqa/study/pareto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<ParetoPoint> points_of(const Json& rows) {
  std::vector<ParetoPoint> points;
  for (const Json& row : rows) points.push_back({row.get<std::vector<double>>()});
  return points;
}

// Made by tests/golden/pareto.py with pygmo 2.20.0: 2 to 4 goals, duplicates and ties.
TEST(Pareto, SortsAndSpreadsAsPagmo) {
  const Json golden = read_json(HAQA_SOURCE_DIR "/tests/golden/pareto.json");
  int with_crowding = 0;
  for (const Json& c : golden.at("cases")) {
    const std::vector<ParetoPoint> points = points_of(c["points"]);
    const auto fronts = non_dominated_fronts(points);
    EXPECT_EQ(fronts, c["fronts"].get<std::vector<std::vector<size_t>>>()) << c["points"];
    if (!c.contains("crowding")) continue;
    ++with_crowding;
    std::vector<ParetoPoint> front;
    for (const size_t i : fronts[0]) front.push_back(points[i]);
    const std::vector<double> distances = crowding_distances(front);
    ASSERT_EQ(distances.size(), c["crowding"].size());
    for (size_t i = 0; i < distances.size(); ++i) {
      const Json& want = c["crowding"][i];
      EXPECT_TRUE(want == "inf" ? distances[i] == kInfinity : std::abs(distances[i] - want.get<double>()) <= 1e-12)
          << i << ": " << distances[i] << ", not " << want << " of " << c["points"];
    }
  }
  EXPECT_GE(with_crowding, 12);
}

TEST(Pareto, WhatFailedIsDominatedByAllThatRan) {
  const ParetoPoint good = {{1, 1}}, bad = {{9, 9}}, other = {{0, 2}}, pruned = {{}, 1}, failed = {{}, 2};
  EXPECT_TRUE(dominates(good, bad));
  EXPECT_FALSE(dominates(bad, good));
  EXPECT_FALSE(dominates(good, good));
  EXPECT_FALSE(dominates(good, other) || dominates(other, good));
  EXPECT_TRUE(dominates(bad, pruned) && dominates(pruned, failed) && dominates(bad, failed));
  EXPECT_FALSE(dominates(failed, failed) || dominates(pruned, bad));
  EXPECT_FALSE(dominates({{1}, 2}, {{5}, 2})) << "what failed has no values that count";
  const std::vector<ParetoPoint> all = {failed, bad, good, pruned, other, failed};
  EXPECT_EQ(non_dominated_fronts(all), (std::vector<std::vector<size_t>>{{2, 4}, {1}, {3}, {0, 5}}));
}

TEST(Pareto, CrowdingOfDegenerateFronts) {
  EXPECT_THAT(crowding_distances({}), IsEmpty());
  EXPECT_THAT(crowding_distances(std::vector<ParetoPoint>{{{3, 4}}}), ElementsAre(kInfinity));
  EXPECT_THAT(crowding_distances(std::vector<ParetoPoint>(3, {{3, 4}})), ElementsAre(kInfinity, 0, kInfinity));
  EXPECT_THAT(crowding_distances(std::vector<ParetoPoint>(2, {{}, 2})), ElementsAre(0, 0));
  // By hand: (3 - 0) / 4 + (4 - 1) / 4 for the second, (4 - 1) / 4 + (3 - 0) / 4 for the third.
  EXPECT_THAT(crowding_distances(std::vector<ParetoPoint>{{{0, 4}}, {{1, 3}}, {{3, 1}}, {{4, 0}}}),
              ElementsAre(kInfinity, 1.5, 1.5, kInfinity));
}

Trial trial(int number, TrialState state, std::optional<double> value, std::vector<double> more) {
  Trial t;
  t.number = number;
  t.state = state;
  t.value = value;
  t.more_values = std::move(more);
  return t;
}

std::vector<int> numbers(const std::vector<const Trial*>& trials) {
  std::vector<int> all;
  for (const Trial* t : trials) all.push_back(t->number);
  return all;
}

TEST(Pareto, FrontOfTrialsHeedsTheDirections) {
  using enum TrialState;
  Track track;
  track.direction = Direction::maximize;  // accuracy
  track.more_goals = {{"latency_ms", Direction::minimize}};
  const std::vector<Trial> trials = {
      trial(0, complete, 0.7, {50}),  trial(1, complete, 0.8, {60}), trial(2, complete, 0.6, {40}),
      trial(3, complete, 0.65, {55}), trial(4, failed, {}, {}),      trial(5, pruned, 0.99, {}),
      trial(6, running, {}, {}),      trial(7, complete, 0.9, {}),   trial(8, complete, std::nan(""), {1}),
      trial(9, complete, 0.8, {60})};
  EXPECT_THAT(numbers(pareto_front(track, trials)), ElementsAre(0, 1, 2, 9));
  track.more_goals[0].direction = Direction::maximize;
  EXPECT_THAT(numbers(pareto_front(track, trials)), ElementsAre(1, 9));
  EXPECT_THAT(numbers(pareto_front(track, std::span(trials).subspan(4, 4))), IsEmpty()) << "nothing ran to its end";
  EXPECT_THAT(numbers(pareto_front(track, std::span<const Trial>())), IsEmpty());
}

TEST(Pareto, OneGoalLeavesTheBest) {
  using enum TrialState;
  Track track;
  track.direction = Direction::minimize;
  const std::vector<Trial> trials = {trial(0, complete, 3, {}), trial(1, complete, 1, {}), trial(2, failed, {}, {}),
                                     trial(3, complete, 1, {})};
  EXPECT_THAT(numbers(pareto_front(track, trials)), ElementsAre(1, 3));
}

}  // namespace
}  // namespace haqa
