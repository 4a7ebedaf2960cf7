#include "haqa/sampler/gaussian_process.h"

#include <nlopt.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>

#include "haqa/base/stats.h"

namespace haqa {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr double kJitter = 1e-9;  // the same point twice would be singular without noise
constexpr double kTypicalScale = 0.5, kScaleSpread = 1.0, kTypicalNoise = 1e-3, kNoiseSpread = 2.0;
constexpr double kVarianceSpread = 0.7;

double square(double x) {
  return x * x;
}

/// What a length scale is likely to be: longer where there are more parameters, as else all points would be far from
/// all others. Source: Hvarfner, Hellsten and Nardi 2024, Vanilla Bayesian optimization performs great in high
/// dimensions, section 4.
double log_typical_scale(Index parameters) {
  return std::log(kTypicalScale) + 0.5 * std::log(static_cast<double>(parameters));
}

/// Logarithms, as the fit sees them: [length scales..., noise, variance].
VectorXd to_logs(const GaussianProcess::Hyperparameters& h) {
  VectorXd logs(h.length_scales.size() + 2);
  logs << h.length_scales.array().log().matrix(), std::log(h.noise), std::log(h.variance);
  return logs;
}

GaussianProcess::Hyperparameters from_logs(const VectorXd& logs) {
  const Index n = logs.size() - 2;
  return {logs.head(n).array().exp(), std::exp(logs(n)), std::exp(logs(n + 1))};
}

/// Matérn-5/2 of squared distances.
MatrixXd matern52(const MatrixXd& squared) {
  const Eigen::ArrayXXd r = (5 * squared.array().max(0)).sqrt();
  return (1 + r + r.square() / 3) * (-r).exp();
}

/// Its derivative by the squared distance.
MatrixXd matern52_slope(const MatrixXd& squared) {
  const Eigen::ArrayXXd r = (5 * squared.array().max(0)).sqrt();
  return -5.0 / 6 * (1 + r) * (-r).exp();
}

}  // namespace

GaussianProcess::GaussianProcess(const Points& points, std::span<const double> values, std::span<const size_t> owners,
                                 std::mt19937_64& random) {
  load(points, values, owners);
  const Index parameters = static_cast<Index>(distances_.size());
  const double typical = log_typical_scale(parameters);
  std::normal_distribution<double> normal(0, kScaleSpread);
  Hyperparameters best{VectorXd::Constant(parameters, std::exp(typical)), 1e-2, 1};
  double best_score = -std::numeric_limits<double>::infinity();
  const int starts = x_.rows() <= 60 ? 4 : 2;
  Hyperparameters start = best;
  for (int i = 0; i < starts; ++i) {
    const Hyperparameters climbed = climb(start);
    if (const double score = log_posterior(climbed, nullptr); score > best_score) {
      best_score = score;
      best = climbed;
    }
    start.length_scales = VectorXd::NullaryExpr(parameters, [&] { return std::exp(typical + normal(random)); });
    start.noise = i % 2 ? 1e-4 : 0.1;  // a smooth function and noise explain the same few points: both are climbed from
  }
  fit(best);
}

GaussianProcess::GaussianProcess(const Points& points, std::span<const double> values, std::span<const size_t> owners,
                                 Hyperparameters hyperparameters) {
  load(points, values, owners);
  fit(std::move(hyperparameters));
}

void GaussianProcess::load(const Points& points, std::span<const double> values, std::span<const size_t> owners) {
  const Index n = static_cast<Index>(points.size()), d = static_cast<Index>(points[0].size());
  x_.resize(n, d);
  for (Index i = 0; i < n; ++i)
    x_.row(i) = Eigen::Map<const Eigen::RowVectorXd>(points[static_cast<size_t>(i)].data(), d);
  Index parameters = 0;
  for (Index c = 0; c < d; ++c) {
    owners_.push_back(owners.empty() ? c : static_cast<Index>(owners[static_cast<size_t>(c)]));
    parameters = std::max(parameters, owners_.back() + 1);
  }
  distances_.assign(static_cast<size_t>(parameters), MatrixXd::Zero(n, n));
  for (Index c = 0; c < d; ++c)
    distances_[static_cast<size_t>(owners_[static_cast<size_t>(c)])].array() +=
        (x_.col(c).replicate(1, n) - x_.col(c).transpose().replicate(n, 1)).array().square();
  shift_ = mean(values);
  const double deviation = standard_deviation(values);
  // Equal values such as three times 0.1 leave a deviation of rounding errors, which is none.
  scale_ = deviation > 1e-14 * std::abs(shift_) ? deviation : 1;
  y_ = (Eigen::Map<const VectorXd>(values.data(), n).array() - shift_) / scale_;
}

MatrixXd GaussianProcess::squared_distances(const Hyperparameters& h) const {
  MatrixXd squared = MatrixXd::Zero(x_.rows(), x_.rows());
  for (size_t p = 0; p < distances_.size(); ++p)
    squared += distances_[p] / square(h.length_scales(static_cast<Index>(p)));
  return squared;
}

double GaussianProcess::log_posterior(const Hyperparameters& h, VectorXd* gradient) const {
  const Index n = x_.rows(), parameters = h.length_scales.size();
  const MatrixXd squared = squared_distances(h), matern = matern52(squared);
  MatrixXd k = h.variance * matern;
  k.diagonal().array() += h.noise + kJitter;
  const Eigen::LLT<MatrixXd> cholesky(k);
  if (cholesky.info() != Eigen::Success) return -std::numeric_limits<double>::infinity();
  const VectorXd alpha = cholesky.solve(y_);
  double score = -0.5 * y_.dot(alpha) - cholesky.matrixLLT().diagonal().array().log().sum() -
                 0.5 * static_cast<double>(n) * std::log(2 * std::numbers::pi);
  const VectorXd logs = to_logs(h);
  VectorXd centre(logs.size()), spread(logs.size());
  centre << VectorXd::Constant(parameters, log_typical_scale(parameters)), std::log(kTypicalNoise), 0;
  spread << VectorXd::Constant(parameters, kScaleSpread), kNoiseSpread, kVarianceSpread;
  const VectorXd off = (logs - centre).cwiseQuotient(spread);
  score -= 0.5 * off.squaredNorm();
  if (!gradient) return score;

  const MatrixXd w = alpha * alpha.transpose() - cholesky.solve(MatrixXd::Identity(n, n));
  const MatrixXd slope = h.variance * w.cwiseProduct(matern52_slope(squared));
  gradient->resize(logs.size());
  for (Index p = 0; p < parameters; ++p)
    (*gradient)(p) = -slope.cwiseProduct(distances_[static_cast<size_t>(p)]).sum() / square(h.length_scales(p));
  (*gradient)(parameters) = 0.5 * h.noise * w.trace();
  (*gradient)(parameters + 1) = 0.5 * h.variance * w.cwiseProduct(matern).sum();
  *gradient -= off.cwiseQuotient(spread);
  return score;
}

/// The next maximum of the posterior, by L-BFGS in the logarithms.
GaussianProcess::Hyperparameters GaussianProcess::climb(const Hyperparameters& start) const {
  VectorXd logs = to_logs(start);
  const unsigned n = static_cast<unsigned>(logs.size());
  const std::unique_ptr<nlopt_opt_s, void (*)(nlopt_opt)> search(nlopt_create(NLOPT_LD_LBFGS, n), nlopt_destroy);
  const auto objective = [](unsigned size, const double* at, double* gradient, void* self) {
    VectorXd slopes;
    const double score = static_cast<const GaussianProcess*>(self)->log_posterior(
        from_logs(Eigen::Map<const VectorXd>(at, static_cast<Index>(size))), gradient ? &slopes : nullptr);
    if (gradient) std::fill_n(gradient, size, 0.0);
    if (!std::isfinite(score)) return -1e100;
    if (gradient) std::copy(slopes.begin(), slopes.end(), gradient);
    return score;
  };
  nlopt_set_max_objective(search.get(), objective, const_cast<GaussianProcess*>(this));
  nlopt_set_lower_bounds1(search.get(), std::log(1e-5));
  nlopt_set_upper_bounds1(search.get(), std::log(1e3));
  nlopt_set_ftol_abs(search.get(), 1e-3);
  nlopt_set_maxeval(search.get(), x_.rows() <= 60 ? 60 : 30);
  double score = 0;
  nlopt_optimize(search.get(), logs.data(), &score);  // what it reached counts, whatever ended it
  return from_logs(logs);
}

MatrixXd GaussianProcess::scaled(const MatrixXd& points) const {
  MatrixXd s = points;
  for (Index c = 0; c < s.cols(); ++c) s.col(c) /= hyperparameters_.length_scales(owners_[static_cast<size_t>(c)]);
  return s;
}

void GaussianProcess::fit(Hyperparameters hyperparameters) {
  hyperparameters_ = std::move(hyperparameters);
  MatrixXd k = hyperparameters_.variance * matern52(squared_distances(hyperparameters_));
  k.diagonal().array() += hyperparameters_.noise + kJitter;
  cholesky_.compute(k);
  alpha_ = cholesky_.solve(y_);
  log_likelihood_ = -0.5 * y_.dot(alpha_) - cholesky_.matrixLLT().diagonal().array().log().sum() -
                    0.5 * static_cast<double>(x_.rows()) * std::log(2 * std::numbers::pi);
  scaled_x_ = scaled(x_);
}

GaussianProcess::Posterior GaussianProcess::predict(std::span<const double> point) const {
  return predict(Points{{point.begin(), point.end()}}).front();
}

std::vector<GaussianProcess::Posterior> GaussianProcess::predict(const Points& points) const {
  const Index n = x_.rows(), m = static_cast<Index>(points.size());
  MatrixXd at(m, x_.cols());
  for (Index j = 0; j < m; ++j)
    at.row(j) = Eigen::Map<const Eigen::RowVectorXd>(points[static_cast<size_t>(j)].data(), x_.cols());
  at = scaled(at);
  const MatrixXd squared = scaled_x_.rowwise().squaredNorm().replicate(1, m) +
                           at.rowwise().squaredNorm().transpose().replicate(n, 1) - 2 * scaled_x_ * at.transpose();
  const MatrixXd k = hyperparameters_.variance * matern52(squared);
  const VectorXd means = k.transpose() * alpha_;
  const Eigen::RowVectorXd known = cholesky_.matrixL().solve(k).colwise().squaredNorm();
  std::vector<Posterior> all;
  for (Index j = 0; j < m; ++j)
    all.push_back(
        {shift_ + scale_ * means(j), scale_ * std::sqrt(std::max(0.0, hyperparameters_.variance - known(j)))});
  return all;
}

double expected_improvement(const GaussianProcess::Posterior& posterior, double best) {
  const double gain = posterior.mean - best, s = posterior.deviation;
  if (s <= 0) return std::max(0.0, gain);
  const double z = gain / s;
  const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
  return std::max(0.0, gain * 0.5 * std::erfc(-z / std::numbers::sqrt2) + s * density);  // rounding may go below
}

double log_expected_improvement(const GaussianProcess::Posterior& posterior, double best) {
  const double s = posterior.deviation, z = (posterior.mean - best) / s;
  if (s <= 0 || z > -12) return std::log(expected_improvement(posterior, best));
  // phi(z) (1 - 3 / z^2 + 15 / z^4 - ...) / z^2: of the asymptotic series enough for 1e-3 where it is used.
  const double q = 1 / (z * z);
  return std::log(s) - 0.5 * z * z - 0.5 * std::log(2 * std::numbers::pi) + std::log(q) +
         std::log1p(-3 * q + 15 * q * q - 105 * q * q * q);
}

}  // namespace haqa
