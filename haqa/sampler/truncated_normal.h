#pragma once

namespace haqa {

/// A normal distribution cut off outside [0, 1]. mean: within [0, 1]; deviation: of the normal, above 0.
/// Source: Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions, volume 1, section 10.1.
class TruncatedNormal {
 public:
  TruncatedNormal(double mean, double deviation);
  /// Logarithm of the density at x in [0, 1].
  double log_density(double x) const;
  /// How likely a value in [low, high] is, a part of [0, 1].
  double mass(double low, double high) const;
  /// Where mass(0, x) is `share`, from 0 to 1.
  double quantile(double share) const;

 private:
  double mean_, deviation_, below_, total_;  ///< the normal's mass below 0, and within [0, 1]
};

}  // namespace haqa
