#include "haqa/base/rank_tests.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "haqa/base/json.h"

namespace haqa {
namespace {

/// Of SciPy and statsmodels: tests/golden/rank_tests.py.
const Json& golden() {
  static const Json json = read_json(HAQA_SOURCE_DIR "/tests/golden/rank_tests.json");
  return json;
}

std::vector<double> numbers(const Json& list) {
  std::vector<double> values;
  for (const Json& v : list)
    values.push_back(v.is_string() ? std::numeric_limits<double>::infinity() : v.get<double>());
  return values;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want, const Json& of) {
  ASSERT_EQ(got.size(), want.size()) << of.dump();
  for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(std::abs(got[i] - want[i]), 1e-12) << i << " of " << of.dump();
}

TEST(RankTests, SignedRankAgreesWithScipy) {
  ASSERT_GT(golden()["wilcoxon"].size(), 80u);
  for (const Json& c : golden()["wilcoxon"]) {
    const RankTest test = wilcoxon_signed_rank(numbers(c["differences"]));
    EXPECT_EQ(test.statistic, c["statistic"].get<double>()) << c.dump();
    EXPECT_LE(std::abs(test.p - c["p"].get<double>()), 1e-9 * test.p) << test.p << " for " << c.dump();
  }
}

// Conover, table A12: the 0.025 quantile of the statistic is 6 for n = 9 and 4 for n = 8; P(T <= 3 | n = 8) = 5/256.
TEST(RankTests, SignedRankAgreesWithTheTable) {
  EXPECT_DOUBLE_EQ(wilcoxon_signed_rank(std::vector<double>{-3, 1, 2, 4, 5, 6, 7, 8}).p, 2 * 5 / 256.0);
  EXPECT_DOUBLE_EQ(wilcoxon_signed_rank(std::vector<double>{1, 2, 3, 4, 5}).p, 2 / 32.0) << "five can never do";
  EXPECT_DOUBLE_EQ(wilcoxon_signed_rank(std::vector<double>{1, 2, 3, 4, 5, 6}).p, 2 / 64.0);
}

TEST(RankTests, SignedRankStandsEdges) {
  EXPECT_TRUE(std::isnan(wilcoxon_signed_rank({}).p));
  EXPECT_TRUE(std::isnan(wilcoxon_signed_rank(std::vector<double>{1, std::nan(""), 3}).p));
  EXPECT_EQ(wilcoxon_signed_rank(std::vector<double>(20, 0.0)).p, 1);
  EXPECT_EQ(wilcoxon_signed_rank(std::vector<double>{7}).p, 1);
}

TEST(RankTests, RanksAgreeWithScipy) {
  for (const Json& c : golden()["ranks"]) expect_near(ranks(numbers(c["values"])), numbers(c["ranks"]), c);
  EXPECT_TRUE(ranks({}).empty());
  for (const double r : ranks(std::vector<double>{1, std::nan(""), 2})) EXPECT_TRUE(std::isnan(r));
}

TEST(RankTests, FriedmanAndMeanRanksAgreeWithScipy) {
  for (const Json& c : golden()["friedman"]) {
    std::vector<std::vector<double>> rows;
    for (const Json& row : c["rows"]) rows.push_back(numbers(row));
    expect_near(mean_ranks(rows), numbers(c["mean_ranks"]), c);
    const RankTest test = friedman(rows);
    EXPECT_LE(std::abs(test.statistic - c["statistic"].get<double>()), 1e-10) << c.dump();
    EXPECT_LE(std::abs(test.p - c["p"].get<double>()), 1e-12) << c.dump();
  }
  EXPECT_TRUE(std::isnan(friedman({}).p));
  EXPECT_TRUE(std::isnan(friedman({{1, 2}, {2, 1}}).p)) << "two methods are the signed-rank test's";
  EXPECT_TRUE(std::isnan(friedman({{1, 1, 1}, {2, 2, 2}}).p)) << "ties alone";
}

TEST(RankTests, HolmAgreesWithStatsmodels) {
  for (const Json& c : golden()["holm"]) expect_near(holm(numbers(c["p"])), numbers(c["holm"]), c);
  const std::vector<double> p = holm(std::vector<double>{0.01, std::nan(""), 0.03});
  EXPECT_DOUBLE_EQ(p[0], 0.02);
  EXPECT_TRUE(std::isnan(p[1]));
  EXPECT_DOUBLE_EQ(p[2], 0.03);
  EXPECT_TRUE(holm({}).empty());
}

}  // namespace
}  // namespace haqa
