#include "haqa/base/stats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
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
  const std::pair<int, int> cases[] = {{1, 0},  {2, 0},  {5, 0},  {6, 0},  {8, 0},   {9, 1},   {10, 1},
                                       {12, 2}, {15, 3}, {20, 5}, {30, 9}, {50, 17}, {100, 39}};
  for (const auto& [n, rank] : cases) {
    std::vector<double> values;
    for (int i = n; i > 0; --i) values.push_back(i);
    const Estimate e = estimate_median(values);
    EXPECT_EQ(e.low, rank + 1) << n;
    EXPECT_EQ(e.high, n - rank) << n;
    EXPECT_EQ(e.samples, n);
  }
}

// scipy.stats.binom.cdf of SciPy 1.17.1: 0.5^n is no longer a number there, and the interval once was the two extremes.
TEST(Stats, IntervalHasTheRanksOfManyValues) {
  const std::pair<int, int> cases[] = {{1000, 468}, {1022, 479}, {1074, 504},   {1075, 504},
                                       {1100, 517}, {2000, 955}, {10000, 4901}, {100000, 49689}};
  for (const auto& [n, rank] : cases) {
    std::vector<double> values(static_cast<size_t>(n));
    std::iota(values.begin(), values.end(), 0);
    const Estimate e = estimate_median(values);
    EXPECT_EQ(e.low, rank) << n;
    EXPECT_EQ(e.high, n - 1 - rank) << n;
  }
}

// numpy 2.4.6: median, mean, std(ddof=1).
TEST(Stats, AgreesWithNumpy) {
  const std::vector<double> skewed = {12.1, 11.9, 12.4, 30.0, 12.0, 11.8, 12.2}, far = {1e9 + 1, 1e9 + 2, 1e9 + 4};
  EXPECT_EQ(median(skewed), 12.1);
  EXPECT_NEAR(mean(skewed), 14.62857142857143, 1e-13);
  EXPECT_NEAR(standard_deviation(skewed), 6.781030965301734, 1e-13);
  EXPECT_NEAR(standard_deviation(far), 1.5275252316519474, 1e-9) << "no cancellation";
  const std::vector<double> huge = {1e308, 1.2e308}, mixed = {-3, 0, -1, 2}, none;
  EXPECT_EQ(median(huge), 1.1e308) << "no overflow";
  EXPECT_EQ(median(mixed), -0.5);
  EXPECT_EQ(standard_deviation(none), 0);
  EXPECT_EQ(estimate_median(none).samples, 0);
}

TEST(Stats, NanIsNotSortedAway) {
  const double nan = std::nan("");
  for (const std::vector<double>& values : {std::vector<double>{nan}, {nan, 1, 2}, {1, nan, 2}, {1, 2, nan}}) {
    const Estimate e = estimate_median(values);
    EXPECT_TRUE(std::isnan(e.median) && std::isnan(e.low) && std::isnan(e.high)) << e.median;
    EXPECT_EQ(e.samples, static_cast<int>(values.size()));
    EXPECT_TRUE(std::isnan(median(values)) && std::isnan(mean(values)));
  }
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(median(std::vector<double>{inf, 1, 2}), 2);
  EXPECT_EQ(median(std::vector<double>{-inf, -inf, 2}), -inf);
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
