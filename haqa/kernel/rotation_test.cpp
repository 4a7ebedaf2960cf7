#include "haqa/kernel/rotation.h"

#include <gtest/gtest.h>

namespace haqa {
namespace {

/// Contestants of 100, 100 / 1.05, 50 us, each a fifth faster for every other that came before it in the round.
std::vector<Round> rounds_where_later_is_faster(size_t count) {
  const std::vector<double> us = {100, 100 / 1.05, 50};
  std::vector<Round> rounds;
  for (size_t r = 0; r < count; ++r) {
    rounds.push_back({r % 3, us});
    for (size_t turn = 0; turn < 3; ++turn)
      for (size_t before = 0; before < turn; ++before) rounds.back().us[(turn + r) % 3] *= 0.8;
  }
  return rounds;
}

TEST(RotationTest, TheTurnDoesNotCount) {
  const std::vector<Paired> results = summarized(rounds_where_later_is_faster(12), /*all=*/false);
  ASSERT_EQ(results.size(), 3u);
  const double expected[3] = {1, 1.05, 2};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(results[i].ratio.median, expected[i], 1e-12);
    EXPECT_NEAR(results[i].ratio.low, results[i].ratio.high, 1e-12) << "nothing else differs";
    EXPECT_NEAR(results[i].microseconds, 80 / expected[i], 1e-9) << "100 * 0.8, the mean of 1, 0.8 and 0.64";
    EXPECT_EQ(results[i].samples_us.size(), 4u);
  }
}

TEST(RotationTest, WhatIsDisturbedCountsWhereAllDo) {
  std::vector<Round> rounds = rounds_where_later_is_faster(9);
  for (const size_t r : {1, 4}) rounds[r].disturbed = true, rounds[r].us[1] = 1000;
  EXPECT_EQ(whole_rotations(rounds), 1u) << "of the second order one is left";
  const std::vector<Paired> quiet = summarized(rounds, /*all=*/false), all = summarized(rounds, /*all=*/true);
  EXPECT_EQ(quiet[1].samples_us.size(), 1u);
  EXPECT_NEAR(quiet[1].ratio.median, 1.05, 1e-12);
  EXPECT_EQ(all[1].samples_us.size(), 3u);
  EXPECT_LT(all[1].ratio.median, 1);
  EXPECT_NEAR(quiet[1].disturbed, 2.0 / 9, 1e-12);
}

TEST(RotationTest, OneAloneNeedsNoRotation) {
  const std::vector<Round> rounds = {{0, {3}}, {0, {5}}, {0, {4}}};
  EXPECT_EQ(whole_rotations(rounds), 3u);
  EXPECT_NEAR(summarized(rounds, false)[0].microseconds, 4, 1e-12);
  EXPECT_EQ(whole_rotations({}), 0u);
}

}  // namespace
}  // namespace haqa
