#include "haqa/study/importance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "haqa/base/csv.h"
#include "haqa/study/observed_space.h"

namespace haqa {
namespace {

constexpr double kCells = 50;         // of the grid, at most
constexpr double kPriorWeight = 1;    // a trial's
constexpr double kFloor = 1e-12;      // of a density that is divided by
constexpr int kLeast = 8, kFew = 30;  // trials
constexpr size_t kLeastActive = 2;    // trials in which a parameter had a value

/// A parameter's values in a few cells, as counts.
class Grid {
 public:
  explicit Grid(const Parameter& p) : p_(p) {
    if (is_numeric()) {
      low_ = p.log ? std::log(p.low) : p.low;
      high_ = p.log ? std::log(p.high) : last_step(p);
    }
    size_ = static_cast<size_t>(cells());
  }
  size_t size() const { return size_; }
  bool single() const { return size_ < 2 || (is_numeric() && !(high_ > low_)); }
  bool is_numeric() const { return p_.type == ParameterType::real || p_.type == ParameterType::integer; }

  /// nullopt where the configuration has no value of the parameter, or none that it can have.
  std::optional<size_t> cell(const Configuration& configuration) const {
    const auto found = configuration.find(p_.name);
    if (found == configuration.end()) return std::nullopt;
    if (p_.type == ParameterType::boolean)
      return found->is_boolean() ? std::optional<size_t>(found->get<bool>()) : std::nullopt;
    if (p_.type == ParameterType::text) return *found == p_.default_value ? 0 : 1;  // whether it was changed
    if (p_.type == ParameterType::categorical) {
      const auto at = std::find(p_.choices.begin(), p_.choices.end(), *found);
      return at == p_.choices.end() ? std::nullopt : std::optional(static_cast<size_t>(at - p_.choices.begin()));
    }
    return found->is_number() ? number_cell(found->get<double>()) : std::nullopt;
  }

 private:
  double step() const { return p_.step > 0 ? p_.step : 1; }
  bool stepped() const { return p_.step > 0 || p_.type == ParameterType::integer; }
  double cells() const {
    if (p_.type == ParameterType::boolean || p_.type == ParameterType::text) return 2;
    if (p_.type == ParameterType::categorical) return static_cast<double>(p_.choices.size());
    if (p_.type == ParameterType::integer && p_.log)
      return std::min(kCells, std::ceil(std::log(p_.high - p_.low + 1) / std::log(2.0)) + 1);
    return stepped() && !p_.log ? std::min(kCells, std::round((high_ - low_) / step()) + 1) : kCells;
  }
  std::optional<size_t> number_cell(double value) const {
    const double last = static_cast<double>(size_ - 1), place = (p_.log ? std::log(value) : value) - low_;
    const double cell = std::ceil(place / ((high_ - low_) / last) - 0.5);  // the lower one where it lies between two
    if (std::isnan(cell)) return std::nullopt;
    return static_cast<size_t>(std::clamp(cell, 0.0, last));
  }

  const Parameter& p_;
  double low_ = 0, high_ = 0;
  size_t size_ = 0;
};

double normal_between(double a, double b) {
  if (a > 0) return normal_between(-b, -a);  // in the lower tail differences keep their digits
  return (std::erfc(-b / std::sqrt(2.0)) - std::erfc(-a / std::sqrt(2.0))) / 2;
}

/// Scott's rule for values in cells, not below what keeps a window within its cell.
double window_width(const std::vector<double>& counts, double n) {
  double mean = 0, squares = 0, reached = 0;
  for (size_t i = 0; i < counts.size(); ++i) mean += static_cast<double>(i) * counts[i] / n;
  std::optional<double> first, third;  // quartiles
  double last = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double at = static_cast<double>(i);
    if (counts[i] == 0) continue;
    squares += (at - mean) * (at - mean) * counts[i];
    reached += counts[i];
    last = at;
    if (!first && reached >= std::floor(n / 4)) first = at;
    if (!third && reached > std::floor(n * 3 / 4)) third = at;
  }
  const double deviation = std::sqrt(squares / std::max(1.0, n - 1));
  const double quartiles = (third.value_or(last) - first.value_or(last)) / 1.34;
  return std::max(1.059 * std::min(quartiles, deviation) * std::pow(n, -0.2), 0.5 / 1.64);
}

void add_window(std::vector<double>& density, double weight, double centre, double width) {
  const double last = static_cast<double>(density.size() - 1);
  const double whole = normal_between((-0.5 - centre) / width, (last + 0.5 - centre) / width);
  for (size_t i = 0; i < density.size(); ++i) {
    const double from = static_cast<double>(i) - 0.5 - centre;
    density[i] += weight * normal_between(from / width, (from + 1) / width) / whole;
  }
}

/// The share of each cell, smoothed.
std::vector<double> density_of(const std::vector<double>& counts, bool numeric) {
  const double n = std::accumulate(counts.begin(), counts.end(), 0.0), total = n + kPriorWeight;
  const double cells = static_cast<double>(counts.size());
  std::vector<double> density(counts.size(), 0.0);
  if (numeric) {
    const double width = window_width(counts, n);
    for (size_t i = 0; i < counts.size(); ++i)
      if (counts[i] > 0) add_window(density, counts[i] / total, static_cast<double>(i), width);
    add_window(density, kPriorWeight / total, (cells - 1) / 2, cells);
  } else {
    // Each choice that occurs is a kernel, of its own and a little of all others; the prior is one of all alike.
    const double kernels =
        1 + static_cast<double>(std::count_if(counts.begin(), counts.end(), [](double c) { return c > 0; }));
    const double little = kPriorWeight / kernels, sum = 1 + little * cells;
    for (size_t i = 0; i < counts.size(); ++i)
      density[i] = (counts[i] + n * little) / sum / total + kPriorWeight / total / cells;
  }
  for (double& d : density) d += kFloor;
  return density;
}

/// One parameter's values in all trials that count.
class Values {
 public:
  Values(const Parameter& p, const std::vector<const Trial*>& trials) : grid_(p) {
    for (const Trial* t : trials) cells_.push_back(grid_.cell(t->configuration));
    const std::vector<bool> all(trials.size(), true);
    active_ = counted(all);
    usable_ = !grid_.single() && sum(active_) >= static_cast<double>(kLeastActive);
    if (usable_) density_ = density_of(active_, grid_.is_numeric());
  }

  /// How far the values of the best lie from all, weighed by how many of either had one (theorem 4.2 of
  /// arXiv:2601.20800).
  double divergence(const std::vector<bool>& best) const {
    const double n = static_cast<double>(best.size()),
                 n_best = static_cast<double>(std::count(best.begin(), best.end(), true));
    const std::vector<double> counts = counted(best);
    if (!usable_ || sum(counts) == 0) return 0;
    const std::vector<double> top = density_of(counts, grid_.is_numeric());
    double pearson = 0;
    for (size_t i = 0; i < top.size(); ++i)
      pearson += density_[i] * (top[i] / density_[i] - 1) * (top[i] / density_[i] - 1);
    const double active_best = sum(counts) / n_best, active = sum(active_) / n, quantile = n_best / n;
    return active_best * active_best / active * pearson * quantile * quantile;
  }

 private:
  static double sum(const std::vector<double>& counts) { return std::accumulate(counts.begin(), counts.end(), 0.0); }
  std::vector<double> counted(const std::vector<bool>& which) const {
    std::vector<double> counts(grid_.size(), 0.0);
    for (size_t i = 0; i < cells_.size(); ++i)
      if (which[i] && cells_[i]) ++counts[*cells_[i]];
    return counts;
  }

  Grid grid_;
  std::vector<std::optional<size_t>> cells_;  ///< by trial
  std::vector<double> active_, density_;      ///< counts and density of all
  bool usable_ = false;
};

/// Where equal values straddle the quantile, all of them are among the best.
std::vector<bool> best_of(const std::vector<double>& losses, double quantile) {
  std::vector<double> sorted = losses;
  std::sort(sorted.begin(), sorted.end());
  const double cutoff = sorted[static_cast<size_t>(std::ceil(quantile * static_cast<double>(losses.size()))) - 1];
  std::vector<bool> best;
  for (const double l : losses) best.push_back(l <= cutoff);
  return best;
}

double chosen_quantile(double asked, size_t trials) {
  return asked > 0 ? asked : std::clamp(10.0 / static_cast<double>(trials), 0.1, 0.5);
}

/// For each parameter, what 95 % of the shuffles of the values stay below.
std::vector<double> by_chance(const std::vector<Values>& values, std::vector<bool> best,
                              const ImportanceOptions& options) {
  std::vector<double> chances;
  std::mt19937_64 random(options.seed);
  std::vector<std::vector<double>> drawn(values.size());
  for (int i = 0; i < options.shuffles; ++i) {
    std::shuffle(best.begin(), best.end(), random);
    for (size_t p = 0; p < values.size(); ++p) drawn[p].push_back(values[p].divergence(best));
  }
  for (std::vector<double>& d : drawn) {
    std::sort(d.begin(), d.end());
    chances.push_back(d.empty() ? 0 : d[d.size() * 95 / 100]);
  }
  return chances;
}

std::string caution_for(size_t trials) {
  if (trials < kLeast)
    return fmt::format(
        "{} complete trials are too few to tell parameters apart; {} are the least, {} make it reliable.", trials,
        kLeast, kFew);
  if (trials < kFew)
    return fmt::format("{} complete trials give a hint only; from {} on the order is reliable.", trials, kFew);
  return "";
}

}  // namespace

Importance importance(const SearchSpace& space, std::span<const Trial> trials, Direction direction,
                      const ImportanceOptions& options) {
  std::vector<const Trial*> complete;
  std::vector<double> losses;
  for (const Trial& t : trials)
    if (has_finite_value(t)) {
      complete.push_back(&t);
      losses.push_back(direction == Direction::minimize ? *t.value : -*t.value);
    }
  Importance result;
  result.trials = static_cast<int>(complete.size());
  result.caution = caution_for(complete.size());
  if (complete.size() < kLeast) return result;
  const std::vector<bool> best = best_of(losses, chosen_quantile(options.target_quantile, complete.size()));
  result.best = static_cast<int>(std::count(best.begin(), best.end(), true));

  std::vector<Values> values;
  double sum = 0;
  for (const Parameter& p : space.parameters()) {
    values.emplace_back(p, complete);
    result.parameters.push_back({p.name, values.back().divergence(best)});
    sum += result.parameters.back().divergence;
  }
  const std::vector<double> chances = by_chance(values, best, options);
  for (size_t i = 0; i < values.size(); ++i) {
    result.parameters[i].share = sum > 0 ? result.parameters[i].divergence / sum : 0;
    result.parameters[i].chance = chances[i];
  }
  std::stable_sort(result.parameters.begin(), result.parameters.end(),
                   [](const auto& a, const auto& b) { return a.divergence > b.divergence; });
  return result;
}

Json to_json(const Importance& importance) {
  Json json = {{"trials", importance.trials},
               {"best", importance.best},
               {"caution", importance.caution},
               {"parameters", Json::array()}};
  for (const ParameterImportance& p : importance.parameters)
    json["parameters"].push_back({{"name", p.name},
                                  {"divergence", p.divergence},
                                  {"share", p.share},
                                  {"chance", p.chance},
                                  {"stands_out", p.stands_out()}});
  return json;
}

std::string to_csv(const Importance& importance) {
  std::string csv = "parameter,divergence,share,chance\n";
  for (const ParameterImportance& p : importance.parameters)
    csv += fmt::format("{},{},{},{}\n", csv_field(p.name), p.divergence, p.share, p.chance);
  return csv;
}

}  // namespace haqa
