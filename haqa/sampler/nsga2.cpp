#include "haqa/sampler/nsga2.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "haqa/base/stats.h"
#include "haqa/sampler/constant_liar.h"
#include "haqa/sampler/untried.h"
#include "haqa/study/pareto.h"

namespace haqa {
namespace {

// Measured on two functions of two goals and six of one, 60 and 80 seeds, at 10 to 100 trials: simulated binary
// crossover instead of swapping, one mutation a child instead of two, and whole generations instead of the best so far
// all do worse, as do finer mutations (20, usual in long runs).
constexpr double kMutations = 2;  ///< a child, on average
constexpr double kFineness = 4;   ///< the index of polynomial mutation
constexpr int kDraws = 200;

using Genes = std::vector<std::optional<double>>;

/// Indices of the trials, the best first: by front, within it by crowding distance.
std::vector<size_t> ranked(const Track& track, std::span<const Trial> trials) {
  const std::vector<ParetoPoint> points = pareto_points(track, trials);
  std::vector<size_t> order;
  for (const std::vector<size_t>& front : non_dominated_fronts(points)) {
    std::vector<ParetoPoint> members;
    for (const size_t i : front) members.push_back(points[i]);
    const std::vector<double> room = crowding_distances(members);
    std::vector<size_t> places(front.size());
    std::iota(places.begin(), places.end(), 0);
    std::stable_sort(places.begin(), places.end(), [&](size_t a, size_t b) { return room[a] > room[b]; });
    for (const size_t i : places) order.push_back(front[i]);
  }
  return order;
}

Genes genes_of(const SearchSpace& space, const Configuration& c) {
  Genes genes;
  for (const Parameter& p : space.parameters())
    genes.push_back(c.contains(p.name) ? std::optional(unit_of(p, c[p.name])) : std::nullopt);
  return genes;
}

/// Polynomial mutation.
double moved(double x, std::mt19937_64& random) {
  const double u = uniform(random), power = 1 / (kFineness + 1);
  const double step = u < 0.5 ? std::pow(2 * u, power) - 1 : 1 - std::pow(2 * (1 - u), power);
  return std::clamp(x + step, 0.0, 1.0);
}

double mutated(const Parameter& p, double x, std::mt19937_64& random) {
  return is_numeric(p) ? moved(x, random) : uniform(random);
}

/// Each gene from either parent; from nowhere where neither has it.
Configuration child(const SearchSpace& space, const Genes& a, const Genes& b, std::mt19937_64& random) {
  const auto& parameters = space.parameters();
  const double rate = kMutations / static_cast<double>(parameters.size());
  std::vector<double> units;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const bool from_a = uniform(random) < 0.5;
    const std::optional<double> gene = (from_a && a[i]) || !b[i] ? a[i] : b[i];
    const double x = gene.value_or(uniform(random));
    units.push_back(uniform(random) < rate ? mutated(parameters[i], x, random) : x);
  }
  return space.at(units);
}

}  // namespace

Proposal Nsga2Sampler::ask(const Track& track, std::span<const Trial> trials, int) {
  const std::vector<Trial> told = with_lies(track, trials);
  const auto random = [&](const char* thought) {
    return Proposal{untried(track.space, trials, [&] { return track.space.sample(random_); }), "nsga2", thought, {}};
  };
  const auto population = static_cast<size_t>(population_);
  if (told.size() < population) return random("The first population: a random valid configuration.");
  std::vector<size_t> parents = ranked(track, told);
  parents.resize(population);
  // A tournament: of two drawn the one that ranks higher.
  const auto parent = [&]() -> const Trial& {
    std::uniform_int_distribution<size_t> any(0, parents.size() - 1);
    const size_t first = any(random_), second = any(random_);
    return told[parents[std::min(first, second)]];
  };
  const std::set<std::string> tried = tried_hashes(track.space, trials);
  for (int draw = 0; draw < kDraws; ++draw) {
    const Trial &a = parent(), &b = parent();
    Configuration c =
        child(track.space, genes_of(track.space, a.configuration), genes_of(track.space, b.configuration), random_);
    if (!track.space.allows(c) || tried.contains(track.space.hash(c))) continue;
    return {
        std::move(c), "nsga2", fmt::format("A child of rounds {} and {}, mutated.", a.number + 1, b.number + 1), {}};
  }
  return random("The parents have no child that is valid and new: a random configuration.");
}

}  // namespace haqa
