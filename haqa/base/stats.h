#pragma once
#include <random>
#include <span>
#include <vector>

namespace haqa {

/// The middle value; the mean of the middle two of an even number; NaN for none. One NaN makes everything here NaN.
double median(std::span<const double> values);
double mean(std::span<const double> values);
/// Sample standard deviation (divisor n - 1); 0 for fewer than two values.
double standard_deviation(std::span<const double> values);

/// From 0 to below 1.
double uniform(std::mt19937_64& random);

/// A median with an interval that holds the true median with about 95 % confidence.
struct Estimate {
  double median = 0, low = 0, high = 0;
  int samples = 0;
};

/// Distribution-free: the interval lies between order statistics, by the sign test, so that outliers and skew, which
/// timings have, do no harm. With fewer than 6 values not even the extremes reach 95 %: they are given all the same.
/// Source: Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2.
Estimate estimate_median(std::span<const double> values);

}  // namespace haqa
