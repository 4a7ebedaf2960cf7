#include "haqa/study/pareto.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace haqa {
namespace {

constexpr double kPruned = 1, kFailed = 2;  // violations

ParetoPoint point_of(const Track& track, const Trial& trial) {
  if (trial.state == TrialState::pruned) return {{}, kPruned};
  if (trial.state != TrialState::complete || !trial.value || trial.more_values.size() != track.more_goals.size())
    return {{}, kFailed};
  const auto loss = [](Direction direction, double value) { return direction == Direction::maximize ? -value : value; };
  ParetoPoint point = {{loss(track.direction, *trial.value)}};
  for (size_t i = 0; i < trial.more_values.size(); ++i)
    point.values.push_back(loss(track.more_goals[i].direction, trial.more_values[i]));
  const bool finite = std::all_of(point.values.begin(), point.values.end(), [](double v) { return std::isfinite(v); });
  return finite ? point : ParetoPoint{{}, kFailed};
}

}  // namespace

std::vector<ParetoPoint> pareto_points(const Track& track, std::span<const Trial> trials) {
  std::vector<ParetoPoint> points;
  for (const Trial& t : trials) points.push_back(point_of(track, t));
  return points;
}

bool dominates(const ParetoPoint& a, const ParetoPoint& b) {
  if (a.violation != b.violation) return a.violation < b.violation;
  if (a.violation > 0) return false;
  bool better = false;
  for (size_t i = 0; i < a.values.size(); ++i) {
    if (a.values[i] > b.values[i]) return false;
    better |= a.values[i] < b.values[i];
  }
  return better;
}

std::vector<std::vector<size_t>> non_dominated_fronts(std::span<const ParetoPoint> points) {
  std::vector<std::vector<size_t>> below(points.size());  // whom each dominates
  std::vector<size_t> dominators(points.size(), 0), front;
  for (size_t i = 0; i < points.size(); ++i)
    for (size_t j = 0; j < points.size(); ++j)
      if (dominates(points[i], points[j])) {
        below[i].push_back(j);
        ++dominators[j];
      }
  for (size_t i = 0; i < points.size(); ++i)
    if (dominators[i] == 0) front.push_back(i);
  std::vector<std::vector<size_t>> fronts;
  while (!front.empty()) {
    std::vector<size_t> next;
    for (const size_t i : front)
      for (const size_t j : below[i])
        if (--dominators[j] == 0) next.push_back(j);
    std::sort(next.begin(), next.end());
    fronts.push_back(std::exchange(front, std::move(next)));
  }
  return fronts;
}

std::vector<double> crowding_distances(std::span<const ParetoPoint> front) {
  std::vector<double> distances(front.size(), 0.0);
  if (front.empty() || front[0].violation > 0) return distances;  // nothing to tell them apart by
  std::vector<size_t> order(front.size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t goal = 0; goal < front[0].values.size(); ++goal) {
    const auto value = [&](size_t place) { return front[order[place]].values[goal]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return front[a].values[goal] < front[b].values[goal]; });
    const size_t last = order.size() - 1;
    distances[order[0]] = distances[order[last]] = std::numeric_limits<double>::infinity();
    const double range = value(last) - value(0);
    if (range > 0)
      for (size_t i = 1; i < last; ++i) distances[order[i]] += (value(i + 1) - value(i - 1)) / range;
  }
  return distances;
}

std::vector<const Trial*> pareto_front(const Track& track, std::span<const Trial> trials) {
  const std::vector<ParetoPoint> points = pareto_points(track, trials);
  std::vector<size_t> order, front;
  for (size_t i = 0; i < points.size(); ++i)
    if (points[i].violation == 0) order.push_back(i);
  // In this order none is dominated by a later one, so that the front grows and never shrinks.
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return points[a].values < points[b].values; });
  for (const size_t i : order)
    if (std::none_of(front.begin(), front.end(), [&](size_t f) { return dominates(points[f], points[i]); }))
      front.push_back(i);
  std::sort(front.begin(), front.end());
  std::vector<const Trial*> best;
  for (const size_t i : front) best.push_back(&trials[i]);
  return best;
}

}  // namespace haqa
