// Functions that samplers are tried on, and races on them.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "haqa/base/stats.h"
#include "haqa/sampler/random.h"

namespace haqa {

/// What a race is run on: nothing where a configuration fails.
struct Problem {
  const char* name;
  Track track;
  std::optional<double> (*value)(const Configuration&);
};

/// Minimum 0.397887. Source: Dixon and Szego, Towards Global Optimisation 2, 1978.
inline Problem branin_problem() {
  Problem p = {"branin", {}, [](const Configuration& c) -> std::optional<double> {
                 const double x = c["x"], y = c["y"], pi = std::numbers::pi;
                 return std::pow(y - 5.1 / (4 * pi * pi) * x * x + 5 / pi * x - 6, 2) +
                        10 * (1 - 1 / (8 * pi)) * std::cos(x) + 10;
               }};
  p.track.direction = Direction::minimize;
  p.track.space = SearchSpace({real_parameter("x", -5, 10, 2.5, ""), real_parameter("y", 0, 15, 7.5, "")});
  return p;
}

/// Maximum 1, at x = 0.8, y = 0.1, n = 6, c = b; x above 0.95 fails.
inline Problem mixed_problem() {
  Problem p = {"mixed", {}, [](const Configuration& c) -> std::optional<double> {
                 const double dx = c["x"].get<double>() - 0.8, dy = std::log10(c["y"].get<double>()) + 1,
                              dn = (c["n"].get<double>() - 6) / 7;
                 if (dx > 0.15) return std::nullopt;
                 return 1 - dx * dx - 0.1 * dy * dy - dn * dn - (c["c"] == "b" ? 0 : 0.2);
               }};
  p.track.space =
      SearchSpace({real_parameter("x", 0, 1, 0.5, ""), real_parameter("y", 1e-4, 1, 0.01, "", true),
                   integer_parameter("n", 1, 8, 4, ""), categorical_parameter("c", {"a", "b", "d"}, "a", "")});
  return p;
}

/// Minimum 0 where the optimizer is sgd, which has a momentum; adam has a beta.
inline Problem conditional_problem() {
  Problem p = {"conditional", {}, [](const Configuration& c) -> std::optional<double> {
                 const double rate = std::log10(c["rate"].get<double>());
                 if (c["optimizer"] == "sgd")
                   return 0.3 * std::pow(rate + 1.5, 2) + 2 * std::pow(c["momentum"].get<double>() - 0.85, 2);
                 if (c["optimizer"] == "adam")
                   return 0.15 + 0.3 * std::pow(rate + 3.2, 2) + 20 * std::pow(c["beta"].get<double>() - 0.97, 2);
                 return 0.3 + 0.3 * std::pow(rate + 2, 2);
               }};
  Parameter momentum = real_parameter("momentum", 0, 1, 0.5, ""), beta = real_parameter("beta", 0.5, 1, 0.75, "");
  momentum.when = Expression("optimizer == 'sgd'");
  beta.when = Expression("optimizer == 'adam'");
  p.track.direction = Direction::minimize;
  p.track.space = SearchSpace({categorical_parameter("optimizer", {"plain", "sgd", "adam"}, "plain", ""),
                               real_parameter("rate", 1e-5, 1, 1e-4, "", true), momentum, beta});
  return p;
}

inline Trial judged(const Problem& problem, int number, Configuration configuration) {
  Trial t;
  t.number = number;
  t.value = problem.value(configuration);
  t.state = t.value ? TrialState::complete : TrialState::failed;
  if (!t.value) t.reason = FailReason::crashed;
  t.configuration = std::move(configuration);
  return t;
}

/// The defaults, then what the sampler proposes.
inline std::vector<Trial> study(const Problem& problem, Sampler& sampler, int rounds) {
  std::vector<Trial> trials = {judged(problem, 0, problem.track.space.defaults())};
  for (int i = 1; i < rounds; ++i)
    trials.push_back(judged(problem, i, sampler.ask(problem.track, trials, rounds - i).configuration));
  return trials;
}

/// Best values of `seeds` studies, as losses.
template <typename S>
std::vector<double> losses(const Problem& problem, int seeds, int rounds) {
  const double sign = problem.track.direction == Direction::minimize ? 1 : -1;
  std::vector<double> all;
  for (int seed = 0; seed < seeds; ++seed) {
    S sampler(static_cast<uint64_t>(seed));
    const std::vector<Trial> trials = study(problem, sampler, rounds);
    all.push_back(sign * *best_trial(trials, problem.track.direction)->value);
  }
  return all;
}

/// How often the first is less than the second, of all pairs; a tie counts half. 0.5: neither is better.
inline double share_of_wins(const std::vector<double>& ours, const std::vector<double>& theirs) {
  double won = 0;
  for (const double a : ours)
    for (const double b : theirs) won += a < b ? 1 : a == b ? 0.5 : 0;
  return won / static_cast<double>(ours.size() * theirs.size());
}

}  // namespace haqa
