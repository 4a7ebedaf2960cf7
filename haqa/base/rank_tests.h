#pragma once
#include <span>
#include <vector>

namespace haqa {

/// Tests that compare methods by ranks alone, so that no scale and no outlier counts. NaN among the values makes every
/// result NaN; infinity is the largest value.

/// Ranks from 1 for the least; equal values share the mean of theirs.
std::vector<double> ranks(std::span<const double> values);

/// The mean rank of each column over the rows: rows: [blocks][methods], all of one length; 1 is the least value.
std::vector<double> mean_ranks(const std::vector<std::vector<double>>& rows);

/// A test's statistic and the chance of one at least as extreme where there is no difference.
struct RankTest {
  double statistic = 0, p = 1;
};

/// Wilcoxon's signed-rank test, two-sided, of paired differences. Zeros are dropped. The statistic is the lesser sum of
/// ranks. p is exact for up to 50 differences, with ties or zeros among them for up to 13, else by the normal
/// approximation, corrected for ties but not for continuity: what scipy.stats.wilcoxon of SciPy 1.17 does by default.
/// Without any difference but zero p is 1 (SciPy: NaN for more than 13 of them); NaN for none at all.
/// Source: Wilcoxon 1945; Conover, Practical Nonparametric Statistics, 3rd ed., section 5.7.
RankTest wilcoxon_signed_rank(std::span<const double> differences);

/// Friedman's test of whether all columns of `rows` ([blocks][methods]) are alike, corrected for ties; p by the
/// chi-square approximation. NaN for fewer than three methods, no block, or ties alone.
/// Source: Conover, section 5.8.
RankTest friedman(const std::vector<std::vector<double>>& rows);

/// Holm's correction: p values that hold for all tests together; NaN stays out of it. Source: Holm 1979.
std::vector<double> holm(std::span<const double> p);

}  // namespace haqa
