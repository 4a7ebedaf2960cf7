#include "haqa/sampler/gaussian_process.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>

namespace haqa {
namespace {

using Points = std::vector<std::vector<double>>;

/// What tests/golden/gaussian_process.py calls PLANE and SPACE.
struct Data {
  Points points;
  std::vector<double> values;
  Points queries;
  std::vector<double> scales;

  GaussianProcess process(double noise) const {
    return {points, values, {}, {Eigen::Map<const Eigen::VectorXd>(scales.data(), std::ssize(scales)), noise}};
  }
};
const Data kPlane = {{{0.1, 0.9}, {0.4, 0.2}, {0.5, 0.5}, {0.8, 0.7}, {0.95, 0.05}},
                     {1.2, 0.7, 1.9, 1.1, 0.3},
                     {{0.1, 0.9}, {0.45, 0.4}, {0.0, 0.0}, {1.0, 1.0}},
                     {0.3, 0.7}};
const Data kSpace = {{{0, 0, 0}, {1, 0.5, 0.25}, {1, 0.5, 0.25}, {0.3, 1, 0.8}, {0.6, 0.2, 0.9}, {0.5, 0.5, 0.5}},
                     {1000200, 1000950, 1000930, 1000410, 999800, 1000600},
                     {{1, 0.5, 0.25}, {0.2, 0.7, 0.1}, {0, 1, 1}},
                     {0.25, 1.5, 0.6}};

struct Golden {
  const Data& data;
  double noise, log_likelihood;
  std::vector<std::pair<double, double>> posterior;  ///< mean and deviation at the queries
  double tolerance;
};

// Made by tests/golden/gaussian_process.py with scikit-learn 1.9.1.
const Golden kGolden[] = {{kPlane,
                           1e-3,
                           -10.639750156338458,
                           {{1.199940654012, 0.018910271967},
                            {1.482924587245, 0.072194616306},
                            {0.660702195529, 0.530713575090},
                            {0.808434722322, 0.443088287309}},
                           1e-9},
                          {kPlane,
                           0.1,
                           -8.839476190193654,
                           {{1.193623421256, 0.179461412532},
                            {1.393493817673, 0.156167399273},
                            {0.830124097202, 0.540716702588},
                            {0.910238932162, 0.463228184613}},
                           1e-9},
                          {kSpace,
                           0.02,
                           -6.933652295939434,
                           {{1000934.681759218918, 44.124447816530},
                            {1000447.913650239352, 334.898670944796},
                            {1000409.228994058562, 401.225105411349}},
                           1e-6}};

TEST(GaussianProcess, AgreesWithScikitLearn) {
  for (const Golden& golden : kGolden) {
    const GaussianProcess process = golden.data.process(golden.noise);
    EXPECT_NEAR(process.log_marginal_likelihood(), golden.log_likelihood, 1e-9);
    ASSERT_EQ(golden.data.queries.size(), golden.posterior.size());
    for (size_t i = 0; i < golden.posterior.size(); ++i) {
      const auto p = process.predict(golden.data.queries[i]);
      EXPECT_NEAR(p.mean, golden.posterior[i].first, golden.tolerance);
      EXPECT_NEAR(p.deviation, golden.posterior[i].second, golden.tolerance);
    }
  }
}

TEST(GaussianProcess, FollowsTheUnitOfItsValues) {
  std::vector<double> scaled;
  for (const double v : kPlane.values) scaled.push_back(-1e6 * v + 42);
  Data other = kPlane;
  other.values = scaled;
  const GaussianProcess a = kPlane.process(0.01), b = other.process(0.01);
  EXPECT_NEAR(a.log_marginal_likelihood(), b.log_marginal_likelihood(), 1e-9);
  for (const auto& query : kPlane.queries) {
    EXPECT_NEAR(-1e6 * a.predict(query).mean + 42, b.predict(query).mean, 1e-3);
    EXPECT_NEAR(1e6 * a.predict(query).deviation, b.predict(query).deviation, 1e-3);
  }
}

TEST(GaussianProcess, KnowsNothingFarAway) {
  const GaussianProcess process = kPlane.process(0.01);
  const auto far = process.predict(std::vector<double>{100, 100});
  EXPECT_NEAR(far.mean, 1.04, 1e-9) << "the mean of the values";
  EXPECT_NEAR(far.deviation, 0.5983310121, 1e-9) << "their sample deviation, by hand: sqrt(1.432 / 4)";
}

TEST(GaussianProcess, CoordinatesOfOneParameterShareALengthScale) {
  const std::vector<size_t> owners = {0, 1, 1};
  const GaussianProcess shared(kSpace.points, kSpace.values, owners, {Eigen::Vector2d(0.4, 0.9), 0.02});
  const GaussianProcess each(kSpace.points, kSpace.values, {}, {Eigen::Vector3d(0.4, 0.9, 0.9), 0.02});
  EXPECT_NEAR(shared.log_marginal_likelihood(), each.log_marginal_likelihood(), 1e-12);
  for (const auto& query : kSpace.queries) EXPECT_NEAR(shared.predict(query).mean, each.predict(query).mean, 1e-6);
}

TEST(GaussianProcess, VarianceAndNoiseScaleTogether) {
  // Twice the variance and the noise give the same mean and sqrt 2 the deviation.
  const GaussianProcess one(kPlane.points, kPlane.values, {}, {Eigen::Vector2d(0.3, 0.7), 0.01, 1});
  const GaussianProcess two(kPlane.points, kPlane.values, {}, {Eigen::Vector2d(0.3, 0.7), 0.02, 2});
  for (const auto& query : kPlane.queries) {
    EXPECT_NEAR(one.predict(query).mean, two.predict(query).mean, 1e-6);
    EXPECT_NEAR(std::sqrt(2) * one.predict(query).deviation, two.predict(query).deviation, 1e-6);
  }
}

TEST(GaussianProcess, GradientAgreesWithFiniteDifferences) {
  const std::vector<size_t> owners = {0, 1, 1};
  const GaussianProcess process(kSpace.points, kSpace.values, owners, {Eigen::Vector2d(0.4, 0.9), 0.02});
  const std::vector<GaussianProcess::Hyperparameters> places = {
      {Eigen::Vector2d(0.4, 0.9), 0.02, 1}, {Eigen::Vector2d(3, 0.1), 1e-4, 0.3}, {Eigen::Vector2d(0.1, 8), 0.5, 5}};
  for (const auto& h : places) {
    Eigen::VectorXd gradient;
    process.log_posterior(h, &gradient);
    ASSERT_EQ(gradient.size(), 4);
    for (int i = 0; i < 4; ++i) {
      const auto moved = [&](double by) {
        GaussianProcess::Hyperparameters other = h;
        (i < 2 ? other.length_scales(i) : i == 2 ? other.noise : other.variance) *= std::exp(by);
        return process.log_posterior(other, nullptr);
      };
      const double slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
      EXPECT_NEAR(gradient(i), slope, 1e-5 * std::max(1.0, std::abs(slope))) << i;
    }
  }
}

TEST(GaussianProcess, PredictsManyAsOne) {
  const GaussianProcess process = kPlane.process(0.01);
  const auto all = process.predict(kPlane.queries);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_NEAR(all[i].mean, process.predict(kPlane.queries[i]).mean, 1e-12);
    EXPECT_NEAR(all[i].deviation, process.predict(kPlane.queries[i]).deviation, 1e-9);
  }
}

// The process that draws its length scales must notice that the second coordinate does nothing.
TEST(GaussianProcess, FittingFindsWhatMatters) {
  std::mt19937_64 random(4);
  std::uniform_real_distribution<double> uniform(0, 1);
  const auto truth = [](double x) { return std::sin(6 * x); };
  Points points;
  std::vector<double> values;
  for (int i = 0; i < 20; ++i) {
    points.push_back({uniform(random), uniform(random)});
    values.push_back(truth(points.back()[0]));
  }
  const GaussianProcess fitted(points, values, {}, random);
  const GaussianProcess start(points, values, {}, {Eigen::VectorXd::Constant(2, 0.5), 1e-2});
  EXPECT_GT(fitted.log_marginal_likelihood(), start.log_marginal_likelihood() + 3);
  double fitted_error = 0, start_error = 0;
  for (int i = 0; i < 200; ++i) {
    const std::vector<double> point = {0.1 + 0.8 * uniform(random), uniform(random)};
    fitted_error += std::pow(fitted.predict(point).mean - truth(point[0]), 2);
    start_error += std::pow(start.predict(point).mean - truth(point[0]), 2);
  }
  EXPECT_LT(std::sqrt(fitted_error / 200), 0.2);
  EXPECT_LT(fitted_error, 0.8 * start_error);
}

TEST(GaussianProcess, FittingTellsNoiseFromSignal) {
  std::mt19937_64 random(9);
  std::normal_distribution<double> noise(0, 1);
  Points points;
  std::vector<double> pure, line;
  for (int i = 0; i < 30; ++i) {
    points.push_back({i / 29.0});
    pure.push_back(noise(random));
    line.push_back(i / 29.0);
  }
  const GaussianProcess noisy(points, pure, {}, random), smooth(points, line, {}, random);
  const std::vector<double> middle = {0.51};
  EXPECT_NEAR(smooth.predict(middle).mean, 0.51, 0.01);
  EXPECT_LT(smooth.predict(middle).deviation, 0.02);
  EXPECT_GT(noisy.predict(middle).deviation, 0.1);
}

TEST(GaussianProcess, IsReproducibleBySeed) {
  std::mt19937_64 a(2), b(2);
  const GaussianProcess first(kPlane.points, kPlane.values, {}, a), second(kPlane.points, kPlane.values, {}, b);
  EXPECT_EQ(first.predict(kPlane.queries[1]).mean, second.predict(kPlane.queries[1]).mean);
  EXPECT_EQ(first.predict(kPlane.queries[2]).deviation, second.predict(kPlane.queries[2]).deviation);
}

TEST(GaussianProcess, ToleratesEqualPointsAndEqualValues) {
  std::mt19937_64 random(1);
  const GaussianProcess same({{0.5}, {0.5}, {0.5}}, std::vector<double>{1, 1, 1}, {}, random);
  EXPECT_NEAR(same.predict(std::vector<double>{0.5}).mean, 1, 1e-6);
  const GaussianProcess one({{0.2}}, std::vector<double>{3}, {}, random);
  EXPECT_NEAR(one.predict(std::vector<double>{0.9}).mean, 3, 1e-6);
  // Their mean is not exactly 0.1: what is left must not be taken for what the values do.
  const GaussianProcess rounded({{0.0}, {0.5}, {1.0}}, std::vector<double>{0.1, 0.1, 0.1}, {},
                                {Eigen::VectorXd::Constant(1, 0.5), 1e-2});
  EXPECT_NEAR(rounded.predict(std::vector<double>{0.3}).mean, 0.1, 1e-12);
  EXPECT_GT(rounded.predict(std::vector<double>{0.3}).deviation, 1e-3);
}

/// By summing the definition, all of whose terms are positive: exact far below the best too, where the closed form
/// subtracts nearly equal numbers.
double integrated_improvement(double mu, double sigma, double best) {
  const double upper = std::max(mu, best) + 12 * sigma;
  constexpr int kSteps = 400000;
  const double step = (upper - best) / kSteps;
  double sum = 0;
  for (int i = 0; i < kSteps; ++i) {
    const double gain = (i + 0.5) * step, z = (best + gain - mu) / sigma;
    sum += gain * std::exp(-0.5 * z * z) / (sigma * std::sqrt(2 * std::numbers::pi)) * step;
  }
  return sum;
}

TEST(ExpectedImprovement, MatchesNumericalIntegration) {
  const std::pair<double, double> cases[] = {{1, 0.5}, {0, 1},  {-2, 1},     {3, 0.1},   {0.5, 2},
                                             {-5, 1},  {-9, 1}, {0.7, 1e-6}, {0.7, 1e6}, {-700, 100}};
  for (const auto& [mu, sigma] : cases) {
    const double expected = integrated_improvement(mu, sigma, 0.7);
    EXPECT_NEAR(expected_improvement({mu, sigma}, 0.7) / expected, 1, 1e-6) << mu << ' ' << sigma;
  }
  EXPECT_EQ(expected_improvement({1, 0}, 0.25), 0.75);
  EXPECT_EQ(expected_improvement({0, 0}, 0.25), 0);
}

TEST(ExpectedImprovement, ItsLogarithmHoldsFarBelowTheBest) {
  // mean, deviation, best, logarithm: tests/golden/gaussian_process.py, with mpmath 1.3.0.
  const double golden[][4] = {{1, 0.5, 0.7, -0.9562371564}, {0, 1, 5, -16.7443011627},
                              {0, 1, 11.9, -76.6976995177}, {0, 1, 12.1, -79.1303707176},
                              {0, 2, 80, -807.6054211761},  {-3, 0.1, 4, -2461.7191259185}};
  for (const auto& [mean, deviation, best, expected] : golden)
    EXPECT_NEAR(log_expected_improvement({mean, deviation}, best), expected, 1e-4) << mean << ' ' << deviation;
  EXPECT_EQ(log_expected_improvement({0, 0}, 1), -INFINITY);
  EXPECT_NEAR(log_expected_improvement({3, 0}, 1), std::log(2), 1e-12);
}

TEST(ExpectedImprovement, IsNeverNegativeAndGrowsWithBoth) {
  for (double mean = -60; mean < -37; mean += 0.01) ASSERT_GE(expected_improvement({mean, 1}, 0), 0) << mean;
  double before = 0;  // farther below, the smallest numbers have too few digits to grow steadily
  for (double mean = -37; mean < 10; mean += 0.01) {
    const double now = expected_improvement({mean, 1}, 0);
    ASSERT_TRUE(now >= before) << mean << ' ' << now << ' ' << before;
    before = now;
  }
  EXPECT_GT(expected_improvement({-1, 2}, 0), expected_improvement({-1, 1}, 0));
}

}  // namespace
}  // namespace haqa
