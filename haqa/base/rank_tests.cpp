#include "haqa/base/rank_tests.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace haqa {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

bool has_nan(std::span<const double> values) {
  return std::any_of(values.begin(), values.end(), [](double v) { return std::isnan(v); });
}

std::vector<size_t> order_of(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  return order;
}

/// t^3 - t summed over the groups of equal ranks.
double tie_term(std::span<const double> ranked) {
  std::vector<double> sorted(ranked.begin(), ranked.end());
  std::sort(sorted.begin(), sorted.end());
  double sum = 0;
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    while (end < sorted.size() && sorted[end] == sorted[begin]) ++end;
    const double t = static_cast<double>(end - begin);
    sum += t * t * t - t;
  }
  return sum;
}

/// The chance that the ranks of the positive differences sum to `sum` or less, each sign being as likely.
double exact_lower_tail(std::span<const double> ranked, double sum) {
  // Twice the ranks are whole numbers, with ties too.
  const auto doubled = [](double v) { return static_cast<size_t>(std::llround(2 * v)); };
  std::vector<double> chance(doubled(std::accumulate(ranked.begin(), ranked.end(), 0.0)) + 1, 0.0);
  chance[0] = 1;
  for (const double r : ranked) {
    const size_t step = doubled(r);
    for (size_t s = chance.size(); s-- > 0;) chance[s] = (chance[s] + (s >= step ? chance[s - step] : 0)) / 2;
  }
  const auto end = chance.begin() + static_cast<std::ptrdiff_t>(doubled(sum) + 1);
  return std::accumulate(chance.begin(), end, 0.0);
}

/// Two-sided p of a sum of ranks by the normal approximation.
double normal_p(std::span<const double> ranked, double sum) {
  const double n = static_cast<double>(ranked.size());
  const double variance = (n * (n + 1) * (2 * n + 1) - tie_term(ranked) / 2) / 24;
  return std::erfc(std::abs(sum - n * (n + 1) / 4) / std::sqrt(variance) / std::sqrt(2.0));
}

/// The chance of a chi-square variable of whole degrees of freedom above x >= 0: the finite sums of Abramowitz and
/// Stegun, 26.4.4 and 26.4.5.
double chi_square_above(double x, int degrees) {
  const bool odd = degrees % 2 == 1;
  double sum = odd ? std::erfc(std::sqrt(x / 2)) : 0;
  double term = odd ? std::sqrt(2 * x / M_PI) * std::exp(-x / 2) : std::exp(-x / 2);
  for (int k = odd ? 1 : 0; k < degrees - 1; k += 2) {
    sum += term;
    term *= x / (k + 2);
  }
  return sum;
}

}  // namespace

std::vector<double> ranks(std::span<const double> values) {
  std::vector<double> result(values.size(), kNan);
  if (has_nan(values)) return result;
  const std::vector<size_t> order = order_of(values);
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) result[order[i]] = static_cast<double>(begin + 1 + end) / 2;
  }
  return result;
}

std::vector<double> mean_ranks(const std::vector<std::vector<double>>& rows) {
  std::vector<double> sums(rows.empty() ? 0 : rows[0].size(), 0.0);
  for (const std::vector<double>& row : rows) {
    const std::vector<double> ranked = ranks(row);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += ranked.at(i) / static_cast<double>(rows.size());
  }
  return sums;
}

RankTest wilcoxon_signed_rank(std::span<const double> differences) {
  if (differences.empty() || has_nan(differences)) return {kNan, kNan};
  std::vector<double> sizes, signs;
  for (const double d : differences)
    if (d != 0) {
      sizes.push_back(std::abs(d));
      signs.push_back(d);
    }
  if (sizes.empty()) return {0, 1};
  const std::vector<double> ranked = ranks(sizes);
  double plus = 0, minus = 0;
  for (size_t i = 0; i < ranked.size(); ++i) (signs[i] > 0 ? plus : minus) += ranked[i];
  const double least = std::min(plus, minus);
  const bool plain = sizes.size() == differences.size() && tie_term(ranked) == 0;
  const bool exact = differences.size() <= (plain ? 50u : 13u);
  // The distribution is symmetric, so that either tail will do.
  return {least, exact ? std::min(1.0, 2 * exact_lower_tail(ranked, least)) : normal_p(ranked, least)};
}

RankTest friedman(const std::vector<std::vector<double>>& rows) {
  const std::vector<double> means = mean_ranks(rows);
  const double n = static_cast<double>(rows.size()), k = static_cast<double>(means.size());
  if (k < 3 || has_nan(means)) return {kNan, kNan};
  double spread = 0, ties = 0;
  for (const double m : means) spread += (m - (k + 1) / 2) * (m - (k + 1) / 2);
  for (const std::vector<double>& row : rows) ties += tie_term(ranks(row));
  const double unlike = 1 - ties / (k * (k * k - 1) * n);
  if (unlike <= 0) return {kNan, kNan};
  const double statistic = 12 * n / (k * (k + 1)) * spread / unlike;
  return {statistic, chi_square_above(statistic, static_cast<int>(means.size()) - 1)};
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<double> corrected(p.begin(), p.end()), present;
  for (const double v : p)
    if (!std::isnan(v)) present.push_back(v);
  std::sort(present.begin(), present.end());
  double highest = 0;
  for (size_t i = 0; i < present.size(); ++i) {
    highest = std::max(highest, std::min(1.0, static_cast<double>(present.size() - i) * present[i]));
    for (size_t j = 0; j < p.size(); ++j)
      if (p[j] == present[i] && (i == 0 || present[i] != present[i - 1])) corrected[j] = highest;
  }
  return corrected;
}

}  // namespace haqa
