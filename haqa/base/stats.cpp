#include "haqa/base/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace haqa {
namespace {

/// How many of the lowest and highest values may be left out: the largest k with P(Binomial(n, 1/2) < k) <= 2.5 %.
size_t trimmed(size_t n) {
  // By logarithms: from n = 1075 on 2^-n is no double any more, and every sum of its multiples is 0.
  double log_term = static_cast<double>(n) * std::log(0.5), tail = 0;
  size_t k = 0;
  while (k < n && tail + std::exp(log_term) <= 0.025) {
    tail += std::exp(log_term);
    log_term += std::log(static_cast<double>(n - k) / static_cast<double>(k + 1));
    ++k;
  }
  return k == 0 ? 0 : k - 1;
}

double middle(const std::vector<double>& sorted) {
  const size_t n = sorted.size();
  return n % 2 ? sorted[n / 2] : std::midpoint(sorted[n / 2 - 1], sorted[n / 2]);
}

}  // namespace

double median(std::span<const double> values) {
  return estimate_median(values).median;
}

double mean(std::span<const double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double m = mean(values);
  double sum = 0;
  for (const double v : values) sum += (v - m) * (v - m);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double uniform(std::mt19937_64& random) {
  return std::uniform_real_distribution<double>(0, 1)(random);
}

Estimate estimate_median(std::span<const double> values) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  // NaN first: sorting with it is undefined.
  if (values.empty() || std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); }))
    return {kNan, kNan, kNan, static_cast<int>(values.size())};
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const size_t k = trimmed(sorted.size());
  return {middle(sorted), sorted[k], sorted[sorted.size() - 1 - k], static_cast<int>(sorted.size())};
}

}  // namespace haqa
