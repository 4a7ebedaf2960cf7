#include "haqa/sampler/gaussian_process.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "haqa/base/stats.h"

namespace haqa {
namespace {

constexpr int kCandidates = 80;

double matern52(double squared_distance) {
  const double r = std::sqrt(5 * squared_distance);
  return (1 + r + r * r / 3) * std::exp(-r);
}

double squared_distance(const Eigen::VectorXd& a, const Eigen::VectorXd& b, const Eigen::VectorXd& scales) {
  return ((a - b).array() / scales.array()).square().sum();
}

/// Length scales around 0.5 with a factor of about 3 either way; noise from 1e-4 to 0.3.
GaussianProcess::Hyperparameters draw(Eigen::Index dimensions, std::mt19937_64& random) {
  std::normal_distribution<double> scale(std::log(0.5), 1.0);
  std::uniform_real_distribution<double> noise(std::log(1e-4), std::log(0.3));
  GaussianProcess::Hyperparameters h;
  // One common factor and one for each coordinate: pure independent draws rarely try a smooth or a rough whole.
  const double common = scale(random);
  h.length_scales = Eigen::VectorXd::NullaryExpr(dimensions, [&] { return std::exp(0.5 * (common + scale(random))); });
  h.noise = std::exp(noise(random));
  return h;
}

double log_prior(const GaussianProcess::Hyperparameters& h) {
  double sum = 0;
  for (const double scale : h.length_scales) sum -= 0.5 * std::pow(std::log(scale / 0.5), 2);
  return sum / static_cast<double>(h.length_scales.size()) - 0.1 * std::log(h.noise / 1e-4);
}

}  // namespace

GaussianProcess::GaussianProcess(const std::vector<std::vector<double>>& points, std::span<const double> values,
                                 std::mt19937_64& random) {
  load(points, values);
  Hyperparameters best{Eigen::VectorXd::Constant(x_.cols(), 0.5), 1e-2};
  fit(best);
  double best_score = log_posterior();
  for (int i = 0; i < kCandidates; ++i) {
    const Hyperparameters candidate = draw(x_.cols(), random);
    fit(candidate);
    if (const double score = log_posterior(); score > best_score) {
      best_score = score;
      best = candidate;
    }
  }
  fit(best);
}

GaussianProcess::GaussianProcess(const std::vector<std::vector<double>>& points, std::span<const double> values,
                                 Hyperparameters hyperparameters) {
  load(points, values);
  fit(std::move(hyperparameters));
}

void GaussianProcess::load(const std::vector<std::vector<double>>& points, std::span<const double> values) {
  const Eigen::Index n = static_cast<Eigen::Index>(points.size());
  x_.resize(n, static_cast<Eigen::Index>(points[0].size()));
  for (Eigen::Index i = 0; i < n; ++i)
    x_.row(i) = Eigen::Map<const Eigen::RowVectorXd>(points[static_cast<size_t>(i)].data(), x_.cols());
  shift_ = mean(values);
  const double deviation = standard_deviation(values);
  // Equal values such as three times 0.1 leave a deviation of rounding errors, which is none.
  scale_ = deviation > 1e-14 * std::abs(shift_) ? deviation : 1;
  y_ = (Eigen::Map<const Eigen::VectorXd>(values.data(), n).array() - shift_) / scale_;
}

void GaussianProcess::fit(Hyperparameters hyperparameters) {
  hyperparameters_ = std::move(hyperparameters);
  const Eigen::Index n = x_.rows();
  Eigen::MatrixXd k(n, n);
  for (Eigen::Index i = 0; i < n; ++i)
    for (Eigen::Index j = 0; j <= i; ++j)
      k(i, j) = k(j, i) = matern52(squared_distance(x_.row(i), x_.row(j), hyperparameters_.length_scales));
  k.diagonal().array() += hyperparameters_.noise + 1e-9;  // the same point twice would be singular without noise
  cholesky_.compute(k);
  alpha_ = cholesky_.solve(y_);
  const Eigen::MatrixXd& l = cholesky_.matrixLLT();
  log_likelihood_ = -0.5 * y_.dot(alpha_) - l.diagonal().array().log().sum() -
                    0.5 * static_cast<double>(n) * std::log(2 * std::numbers::pi);
}

double GaussianProcess::log_posterior() const {
  return log_likelihood_ + log_prior(hyperparameters_);
}

GaussianProcess::Posterior GaussianProcess::predict(std::span<const double> point) const {
  const Eigen::VectorXd p = Eigen::Map<const Eigen::VectorXd>(point.data(), static_cast<Eigen::Index>(point.size()));
  Eigen::VectorXd k(x_.rows());
  for (Eigen::Index i = 0; i < x_.rows(); ++i)
    k(i) = matern52(squared_distance(x_.row(i), p, hyperparameters_.length_scales));
  const Eigen::VectorXd v = cholesky_.matrixL().solve(k);
  return {shift_ + scale_ * k.dot(alpha_), scale_ * std::sqrt(std::max(0.0, 1 - v.squaredNorm()))};
}

double expected_improvement(const GaussianProcess::Posterior& posterior, double best) {
  const double gain = posterior.mean - best, s = posterior.deviation;
  if (s <= 0) return std::max(0.0, gain);
  const double z = gain / s;
  const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
  return std::max(0.0, gain * 0.5 * std::erfc(-z / std::numbers::sqrt2) + s * density);  // rounding may go below
}

}  // namespace haqa
