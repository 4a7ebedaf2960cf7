#include "haqa/sampler/gaussian_process.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace haqa {
namespace {

const std::vector<std::vector<double>> kPoints = {{0.1, 0.9}, {0.4, 0.2}, {0.5, 0.5}, {0.8, 0.7}, {0.95, 0.05}};
const std::vector<double> kValues = {1.2, 0.7, 1.9, 1.1, 0.3};
const std::vector<std::vector<double>> kQueries = {{0.1, 0.9}, {0.45, 0.4}, {0.0, 0.0}, {1.0, 1.0}};

struct Golden {
  double noise, log_likelihood;
  std::vector<std::pair<double, double>> posterior;  ///< mean and deviation at kQueries
};

// Made by tests/golden/gaussian_process.py with scikit-learn 1.9.1.
const Golden kGolden[] = {{1e-3,
                           -10.639750156338458,
                           {{1.199940654012, 0.018910271967},
                            {1.482924587245, 0.072194616306},
                            {0.660702195529, 0.530713575090},
                            {0.808434722322, 0.443088287309}}},
                          {0.1,
                           -8.839476190193654,
                           {{1.193623421256, 0.179461412532},
                            {1.393493817673, 0.156167399273},
                            {0.830124097202, 0.540716702588},
                            {0.910238932162, 0.463228184613}}}};

TEST(GaussianProcess, AgreesWithScikitLearn) {
  for (const Golden& golden : kGolden) {
    Eigen::VectorXd scales(2);
    scales << 0.3, 0.7;
    const GaussianProcess process(kPoints, kValues, {scales, golden.noise});
    EXPECT_NEAR(process.log_marginal_likelihood(), golden.log_likelihood, 1e-9);
    for (size_t i = 0; i < kQueries.size(); ++i) {
      const auto p = process.predict(kQueries[i]);
      EXPECT_NEAR(p.mean, golden.posterior[i].first, 1e-9);
      EXPECT_NEAR(p.deviation, golden.posterior[i].second, 1e-9);
    }
  }
}

TEST(GaussianProcess, FittingBeatsTheStartingPoint) {
  std::mt19937_64 random(1);
  const GaussianProcess fitted(kPoints, kValues, random);
  const GaussianProcess start(kPoints, kValues, {Eigen::VectorXd::Constant(2, 0.5), 1e-2});
  EXPECT_GE(fitted.log_marginal_likelihood() + 1.0, start.log_marginal_likelihood());
}

TEST(GaussianProcess, ToleratesEqualPointsAndEqualValues) {
  std::mt19937_64 random(1);
  const GaussianProcess same({{0.5}, {0.5}, {0.5}}, std::vector<double>{1, 1, 1}, random);
  EXPECT_NEAR(same.predict(std::vector<double>{0.5}).mean, 1, 1e-6);
  const GaussianProcess one({{0.2}}, std::vector<double>{3}, random);
  EXPECT_NEAR(one.predict(std::vector<double>{0.9}).mean, 3, 1e-6);
}

TEST(ExpectedImprovement, MatchesNumericalIntegration) {
  const std::pair<double, double> cases[] = {{1, 0.5}, {0, 1}, {-2, 1}, {3, 0.1}, {0.5, 2}};
  for (const auto& [mu, sigma] : cases) {
    const double best = 0.7, step = 1e-4;
    double sum = 0;
    for (double z = -9; z < 9; z += step)
      sum += std::max(0.0, mu + sigma * z - best) * std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi) * step;
    EXPECT_NEAR(expected_improvement({mu, sigma}, best), sum, 1e-5) << mu << ' ' << sigma;
  }
  EXPECT_EQ(expected_improvement({1, 0}, 0.25), 0.75);
  EXPECT_EQ(expected_improvement({0, 0}, 0.25), 0);
}

}  // namespace
}  // namespace haqa
