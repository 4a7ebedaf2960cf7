#pragma once
#include <Eigen/Dense>
#include <random>
#include <span>
#include <vector>

namespace haqa {

/// Gaussian process regression on the unit cube: Matérn-5/2 kernel with a length scale per parameter, whose coordinates
/// may be several (a category's), constant mean, noise; hyperparameters by marginal likelihood with a weak prior
/// towards long length scales and little noise. Source: Rasmussen and Williams, Gaussian Processes for Machine
/// Learning, algorithm 2.1 and section 5.4.
class GaussianProcess {
 public:
  struct Hyperparameters {
    Eigen::VectorXd length_scales;  ///< [parameters]
    double noise = 1e-3;            ///< variance, of values scaled to variance 1
    double variance = 1;            ///< of the function, likewise
  };
  struct Posterior {
    double mean = 0, deviation = 0;
  };
  using Points = std::vector<std::vector<double>>;

  /// points: [n][d]; values: [n], n >= 1, standardized inside; owners: [d], for each coordinate its parameter from 0,
  /// or nothing where each is one. Draws starting points from `random`.
  GaussianProcess(const Points& points, std::span<const double> values, std::span<const size_t> owners,
                  std::mt19937_64& random);
  /// With given hyperparameters, for comparison with other implementations.
  GaussianProcess(const Points& points, std::span<const double> values, std::span<const size_t> owners,
                  Hyperparameters hyperparameters);

  /// Mean and standard deviation of the noise-free function, in the unit of the values.
  Posterior predict(std::span<const double> point) const;
  std::vector<Posterior> predict(const Points& points) const;
  const Hyperparameters& hyperparameters() const { return hyperparameters_; }
  /// Of the standardized values, constants included.
  double log_marginal_likelihood() const { return log_likelihood_; }
  /// The log posterior of hyperparameters, up to a constant, and its derivatives by the logarithms of the length
  /// scales, of the noise and of the variance: what the fit climbs.
  double log_posterior(const Hyperparameters& hyperparameters, Eigen::VectorXd* gradient) const;

 private:
  void load(const Points& points, std::span<const double> values, std::span<const size_t> owners);
  Hyperparameters climb(const Hyperparameters& start) const;
  void fit(Hyperparameters hyperparameters);
  Eigen::MatrixXd squared_distances(const Hyperparameters& h) const;
  Eigen::MatrixXd scaled(const Eigen::MatrixXd& points) const;

  Eigen::MatrixXd x_;                       ///< [n, d]
  std::vector<Eigen::Index> owners_;        ///< [d]
  std::vector<Eigen::MatrixXd> distances_;  ///< for each parameter the squared distances of all points, [n, n]
  Eigen::VectorXd y_, alpha_;
  Eigen::MatrixXd scaled_x_;
  Eigen::LLT<Eigen::MatrixXd> cholesky_;
  Hyperparameters hyperparameters_;
  double shift_ = 0, scale_ = 1, log_likelihood_ = 0;
};

/// Expected amount by which a normal variable exceeds `best`. Source: Jones, Schonlau and Welch 1998, equation 15.
double expected_improvement(const GaussianProcess::Posterior& posterior, double best);
/// Its logarithm, to 12 digits also where the amount itself is too small for a number; -infinity for no deviation and
/// no gain. Source: Ament et al. 2023, Unexpected improvements to expected improvement, section 4.1.
double log_expected_improvement(const GaussianProcess::Posterior& posterior, double best);

}  // namespace haqa
