#include "haqa/sampler/quasi_random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "haqa/base/error.h"

namespace haqa {
namespace {

// Made by tests/golden/sobol.py with SciPy 1.17.1.
constexpr size_t kDimensions = 64;
constexpr std::array<size_t, 7> kCoordinates = {0, 1, 2, 3, 7, 20, 63};
const struct {
  uint32_t index;
  std::array<double, 7> point;
} kGolden[] = {
    {1, {0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5}},
    {2, {0.75, 0.25, 0.25, 0.25, 0.75, 0.25, 0.75}},
    {3, {0.25, 0.75, 0.75, 0.75, 0.25, 0.75, 0.25}},
    {5, {0.875, 0.875, 0.125, 0.375, 0.375, 0.625, 0.625}},
    {100, {0.4140625, 0.2578125, 0.7734375, 0.7265625, 0.4765625, 0.7578125, 0.6484375}},
    {1000, {0.2197265625, 0.0966796875, 0.5185546875, 0.6767578125, 0.8994140625, 0.5224609375, 0.4462890625}},
    {4095,
     {0.000244140625, 0.941162109375, 0.334228515625, 0.901611328125, 0.390869140625, 0.225830078125, 0.553466796875}},
};

TEST(SobolSequence, IsSciPysWhereItIsNotScrambled) {
  SobolSequence sequence(kDimensions);
  EXPECT_EQ(sequence.point(0), std::vector<double>(kDimensions, 0.0));
  for (const auto& golden : kGolden) {
    const std::vector<double> point = sequence.point(golden.index);
    ASSERT_EQ(point.size(), kDimensions);
    for (size_t i = 0; i < kCoordinates.size(); ++i)
      EXPECT_EQ(point[kCoordinates[i]], golden.point[i]) << golden.index << ' ' << kCoordinates[i];
  }
}

// A (0, m, 2)-net: each box of 2^-a by 2^-(m - a) holds exactly one of 2^m points; and so does each slice of each
// coordinate alone.
TEST(SobolSequence, StaysANetWhenScrambled) {
  constexpr int kLog = 7;
  constexpr uint32_t kPoints = 1 << kLog;
  const auto cell = [](double x, int log) { return static_cast<int>(std::ldexp(x, log)); };
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SobolSequence sequence(20, seed);
    for (const uint32_t start : {0u, 3 * kPoints}) {  // any aligned part of the sequence
      std::vector<std::vector<double>> points;
      for (uint32_t i = 0; i < kPoints; ++i) points.push_back(sequence.point(start + i));
      for (int a = 0; a <= kLog; ++a) {
        std::set<std::pair<int, int>> boxes;
        for (const auto& p : points) boxes.insert({cell(p[0], a), cell(p[1], kLog - a)});
        EXPECT_EQ(boxes.size(), kPoints) << "seed " << seed << ", boxes of 2^-" << a;
      }
      for (size_t d = 0; d < 20; ++d) {
        std::set<int> slices;
        for (const auto& p : points) slices.insert(cell(p[d], kLog));
        EXPECT_EQ(slices.size(), kPoints) << "seed " << seed << ", coordinate " << d;
      }
    }
  }
}

TEST(SobolSequence, EachPointIsUniformOverTheSeeds) {
  constexpr int kSeeds = 4000, kBins = 16;
  for (const uint32_t index : {0u, 5u}) {
    for (const size_t d : {0u, 3u}) {
      std::array<int, kBins> counts{};
      for (uint64_t seed = 0; seed < kSeeds; ++seed)
        ++counts[static_cast<size_t>(kBins * SobolSequence(4, seed).point(index)[d])];
      double chi_square = 0;
      for (const int n : counts) chi_square += std::pow(n - kSeeds / kBins, 2) / (kSeeds / kBins);
      EXPECT_LT(chi_square, 37.7) << "point " << index << ", coordinate " << d;  // 0.1 % of 15 degrees of freedom
    }
  }
}

// What is left below the net is random too: neither two coordinates nor two points of one scrambling move together, as
// they would under a digital shift, which keeps points 0 and 1 half the interval apart.
TEST(SobolSequence, CoordinatesAndPointsAreScrambledApart) {
  double together = 0;
  std::set<double> apart;
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    SobolSequence sequence(2, seed);
    const std::vector<double> p = sequence.point(0);
    apart.insert(std::abs(sequence.point(1)[0] - p[0]));
    together += 12 * (p[0] - 0.5) * (p[1] - 0.5) / 4000;
  }
  EXPECT_LT(std::abs(together), 0.06);  // four standard errors
  EXPECT_GT(apart.size(), 3900u);
}

TEST(SobolSequence, RefusesMoreDimensionsThanItHas) {
  EXPECT_THROW(SobolSequence(100000), UsageError);
  EXPECT_TRUE(SobolSequence(0, 1).point(7).empty());
}

TEST(QuasiRandomSampler, GoesOnAfterAnInterruptionAsItWouldHave) {
  Track track;
  track.space = SearchSpace({integer_parameter("n", 1, 40, 20, ""), integer_parameter("m", 1, 40, 20, "")},
                            {Expression("n <= m")});
  std::vector<Trial> trials = {running_trial(0, {track.space.defaults(), "default", "", {}})};
  QuasiRandomSampler whole(9);
  for (int i = 1; i < 30; ++i) {
    const Proposal p = whole.ask(track, trials, 1);
    EXPECT_EQ(QuasiRandomSampler(9).ask(track, trials, 1).configuration, p.configuration);
    trials.push_back(running_trial(i, p));
  }
}

// What others proposed took no point of the sequence.
TEST(QuasiRandomSampler, LeavesNoPointOutForWhatOthersProposed) {
  Track track;
  track.space = SearchSpace({real_parameter("x", 0, 1, 0.1, "")});
  std::vector<Trial> trials = {running_trial(0, {track.space.defaults(), "default", "", {}})};
  const Configuration first = QuasiRandomSampler(4).ask(track, trials, 1).configuration;
  for (const char* by : {"warm start: old", "enqueued"})
    trials.push_back(running_trial(static_cast<int>(trials.size()),
                                   {{{"x", 0.01 * static_cast<double>(trials.size())}}, by, "", {}}));
  EXPECT_EQ(QuasiRandomSampler(4).ask(track, trials, 1).configuration, first);
}

// The first 16 points: each sixteenth of each of ten parameters once, where random search leaves a third of them out.
TEST(QuasiRandomSampler, CoversEachParameterEvenly) {
  Track track;
  std::vector<Parameter> parameters;
  for (int i = 0; i < 10; ++i) parameters.push_back(real_parameter("x" + std::to_string(i), 0, 16, 0.1, ""));
  track.space = SearchSpace(parameters);
  std::vector<Trial> trials = {running_trial(0, {track.space.defaults(), "default", "", {}})};
  QuasiRandomSampler sampler(4);
  for (int i = 1; i <= 16; ++i) trials.push_back(running_trial(i, sampler.ask(track, trials, 1)));
  for (const Parameter& p : parameters) {
    std::set<int> cells;
    for (size_t i = 1; i < trials.size(); ++i)
      cells.insert(static_cast<int>(trials[i].configuration[p.name].get<double>()));
    EXPECT_EQ(cells.size(), 16u) << p.name;
  }
}

}  // namespace
}  // namespace haqa
