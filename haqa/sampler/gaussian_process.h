#pragma once
#include <Eigen/Dense>
#include <random>
#include <span>
#include <vector>

namespace haqa {

/// Gaussian process regression on the unit cube: Matérn-5/2 kernel with a length scale per coordinate, constant mean,
/// noise; hyperparameters by marginal likelihood with a weak prior towards half the cube and little noise.
/// Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1 and section 5.4.
class GaussianProcess {
 public:
  struct Hyperparameters {
    Eigen::VectorXd length_scales;
    double noise = 1e-3;  ///< variance, of values scaled to variance 1
  };
  struct Posterior {
    double mean = 0, deviation = 0;
  };

  /// points: [n][d], values: [n], n >= 1; values are standardized inside. Draws its candidates from `random`.
  GaussianProcess(const std::vector<std::vector<double>>& points, std::span<const double> values,
                  std::mt19937_64& random);
  /// With given hyperparameters, for comparison with other implementations.
  GaussianProcess(const std::vector<std::vector<double>>& points, std::span<const double> values,
                  Hyperparameters hyperparameters);

  /// Mean and standard deviation of the noise-free function, in the unit of the values.
  Posterior predict(std::span<const double> point) const;
  /// Of the standardized values, constants included.
  double log_marginal_likelihood() const { return log_likelihood_; }

 private:
  void load(const std::vector<std::vector<double>>& points, std::span<const double> values);
  void fit(Hyperparameters hyperparameters);
  double log_posterior() const;

  Eigen::MatrixXd x_;
  Eigen::VectorXd y_, alpha_;
  Eigen::LLT<Eigen::MatrixXd> cholesky_;
  Hyperparameters hyperparameters_;
  double shift_ = 0, scale_ = 1, log_likelihood_ = 0;
};

/// Expected amount by which a normal variable exceeds `best`. Source: Jones, Schonlau and Welch 1998, equation 15.
double expected_improvement(const GaussianProcess::Posterior& posterior, double best);

}  // namespace haqa
