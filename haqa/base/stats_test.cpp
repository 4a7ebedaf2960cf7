#include "haqa/base/stats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace haqa {
namespace {

TEST(Stats, MatchesHandWorkedValues) {
  const std::vector<double> odd = {3, 1, 2}, even = {4, 1, 3, 2}, one = {7}, none;
  EXPECT_EQ(median(odd), 2);
  EXPECT_EQ(median(even), 2.5);
  EXPECT_EQ(median(one), 7);
  EXPECT_TRUE(std::isnan(median(none)));
  EXPECT_EQ(mean(even), 2.5);
  EXPECT_TRUE(std::isnan(mean(none)));
  EXPECT_NEAR(standard_deviation(even), std::sqrt(5.0 / 3), 1e-15);
  EXPECT_EQ(standard_deviation(one), 0);
}

// Ranks of the sign test's 95 % interval: Conover, table A3 (binomial, p = 1/2). First value left in, counted from 0.
TEST(Stats, IntervalHasTheTabulatedRanks) {
  const std::pair<int, int> cases[] = {{1, 0},  {2, 0},  {5, 0},  {6, 0},  {8, 0}, {9, 1},
                                       {10, 1}, {12, 2}, {15, 3}, {20, 5}, {30, 9}};
  for (const auto& [n, rank] : cases) {
    std::vector<double> values;
    for (int i = n; i > 0; --i) values.push_back(i);
    const Estimate e = estimate_median(values);
    EXPECT_EQ(e.low, rank + 1) << n;
    EXPECT_EQ(e.high, n - rank) << n;
    EXPECT_EQ(e.samples, n);
  }
}

TEST(Stats, IntervalHoldsTheTrueMedian) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> skewed(0, 1);  // median 1
  int held = 0;
  for (int run = 0; run < 2000; ++run) {
    std::vector<double> values(10);
    for (double& v : values) v = skewed(random);
    const Estimate e = estimate_median(values);
    held += e.low <= 1 && 1 <= e.high;
  }
  // 97.85 % for n = 10: 1 - 2 * P(Binomial(10, 1/2) <= 1)
  EXPECT_NEAR(held / 2000.0, 0.9785, 0.012);
}

}  // namespace
}  // namespace haqa
