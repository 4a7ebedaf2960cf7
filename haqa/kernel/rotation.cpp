#include "haqa/kernel/rotation.h"

#include <algorithm>
#include <cmath>

namespace haqa {
namespace {

using Rotation = std::vector<const Round*>;

/// How many times the time that was given is waited for rounds that nothing else disturbed.
constexpr double kPatience = 4;

std::vector<Rotation> rotations_of(std::span<const Round> rounds, bool all) {
  std::vector<Rotation> orders(rounds.front().us.size());
  for (const Round& r : rounds)
    if (all || !r.disturbed) orders[r.first].push_back(&r);
  size_t whole = rounds.size();
  for (const Rotation& order : orders) whole = std::min(whole, order.size());
  std::vector<Rotation> rotations(whole);
  for (size_t k = 0; k < whole; ++k)
    for (const Rotation& order : orders) rotations[k].push_back(order[k]);
  return rotations;
}

/// A launch of a contestant, the geometric mean of a rotation.
double microseconds_of(size_t contestant, const Rotation& rotation) {
  double sum = 0;
  for (const Round* r : rotation) sum += std::log(r->us[contestant]);
  return std::exp(sum / static_cast<double>(rotation.size()));
}

}  // namespace

size_t whole_rotations(std::span<const Round> rounds) {
  return rounds.empty() ? 0 : rotations_of(rounds, /*all=*/false).size();
}

std::vector<Paired> summarized(std::span<const Round> rounds, bool all) {
  const std::vector<Rotation> rotations = rotations_of(rounds, all);
  const auto disturbed = std::count_if(rounds.begin(), rounds.end(), [](const Round& r) { return r.disturbed; });
  std::vector<Paired> results(rounds.front().us.size());
  for (size_t i = 0; i < results.size(); ++i) {
    std::vector<double> ratios;
    for (const Rotation& rotation : rotations) {
      results[i].samples_us.push_back(microseconds_of(i, rotation));
      ratios.push_back(microseconds_of(0, rotation) / results[i].samples_us.back());
    }
    results[i].ratio = estimate_median(ratios);
    results[i].microseconds = median(results[i].samples_us);
    results[i].disturbed = static_cast<double>(disturbed) / static_cast<double>(rounds.size());
  }
  return results;
}

std::optional<std::vector<Paired>> enough(std::span<const Round> rounds, const StopRule& rule, double seconds) {
  if (rounds.empty() || rounds.size() < rule.least_rotations * rounds.front().us.size()) return std::nullopt;
  const size_t quiet = whole_rotations(rounds);
  const bool all = quiet < rule.least_rotations;
  if (all && seconds < kPatience * rule.seconds) return std::nullopt;
  std::vector<Paired> results = summarized(rounds, all);
  const bool tight = std::all_of(results.begin(), results.end(),
                                 [&](const Paired& r) { return r.ratio.high / r.ratio.low - 1 < rule.tight; });
  if (tight || seconds > rule.seconds || quiet >= rule.most_rotations) return results;
  return std::nullopt;
}

double drift(std::span<const double> samples) {
  const size_t half = samples.size() / 2;
  return half == 0 ? 1 : median(samples.subspan(half)) / median(samples.first(half));
}

}  // namespace haqa
