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

/// Two contestants that take turns; the second is slower by `noise` in every other rotation; the first rounds are
/// disturbed.
std::vector<Round> rounds_of(size_t count, double noise, size_t disturbed) {
  std::vector<Round> rounds;
  for (size_t r = 0; r < count; ++r)
    rounds.push_back({r % 2, {100, r / 2 % 2 == 0 ? 50 : 50 * (1 + noise)}, r < disturbed});
  return rounds;
}

TEST(EnoughTest, IsARuleOfTightnessTimeAndNumber) {
  const StopRule rule{6, 20, 1, 0.02};
  struct Case {
    const char* what;
    size_t rounds;
    double noise;
    size_t disturbed;
    double seconds;
    size_t samples;  ///< 0: not enough
  };
  for (const Case& c : {Case{"nothing yet", 0, 0, 0, 0.1, 0},
                        {"fewer than the least, long after the time", 11, 0, 0, 9, 0},
                        {"tight at once", 12, 0.01, 0, 0.1, 6},
                        {"wide, and there is time", 12, 0.1, 0, 0.1, 0},
                        {"wide, and the time is up", 12, 0.1, 0, 1.1, 6},
                        {"wide, and as many as may be", 40, 0.1, 0, 0.1, 20},
                        {"disturbed: others are waited for", 12, 0, 2, 1.1, 0},
                        {"disturbed: others came", 14, 0, 2, 1.1, 6},
                        {"disturbed: patience is over, and all count", 12, 0, 2, 4.1, 6}}) {
    const auto results = enough(rounds_of(c.rounds, c.noise, c.disturbed), rule, c.seconds);
    EXPECT_EQ(results ? results->at(1).samples_us.size() : 0, c.samples) << c.what;
  }
}

TEST(DriftTest, ComparesTheHalves) {
  EXPECT_EQ(drift({}), 1);
  EXPECT_EQ(drift(std::vector<double>{7}), 1);
  EXPECT_EQ(drift(std::vector<double>{2, 2, 2, 3, 3, 3}), 1.5);
  EXPECT_EQ(drift(std::vector<double>{4, 4, 9, 2, 2, 2}), 0.5);
}

}  // namespace
}  // namespace haqa
