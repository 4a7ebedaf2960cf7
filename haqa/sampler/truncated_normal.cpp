#include "haqa/sampler/truncated_normal.h"

#include <algorithm>
#include <boost/math/special_functions/erf.hpp>
#include <cmath>
#include <numbers>

namespace haqa {
namespace {

double cumulative(double z) {
  return 0.5 * std::erfc(-z / std::numbers::sqrt2);
}

/// Mass of a standard normal between a <= b, on the side where the two are small and their difference exact.
double between(double a, double b) {
  return a > 0 ? cumulative(-a) - cumulative(-b) : cumulative(b) - cumulative(a);
}

}  // namespace

TruncatedNormal::TruncatedNormal(double mean, double deviation)
    : mean_(mean),
      deviation_(deviation),
      below_(cumulative(-mean / deviation)),
      total_(between(-mean / deviation, (1 - mean) / deviation)) {}

double TruncatedNormal::log_density(double x) const {
  const double z = (x - mean_) / deviation_;
  return -0.5 * z * z - std::log(deviation_ * total_) - 0.5 * std::log(2 * std::numbers::pi);
}

double TruncatedNormal::mass(double low, double high) const {
  return between((low - mean_) / deviation_, (high - mean_) / deviation_) / total_;
}

double TruncatedNormal::quantile(double share) const {
  const double p = std::clamp(below_ + share * total_, 1e-300, 1 - 1e-16);
  return std::clamp(mean_ - deviation_ * std::numbers::sqrt2 * boost::math::erfc_inv(2 * p), 0.0, 1.0);
}

}  // namespace haqa
