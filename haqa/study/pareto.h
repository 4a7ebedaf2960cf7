#pragma once
#include <span>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// What several goals make of a trial: the less of each value the better; violation is 0 where the trial ran to its
/// end, and more the further it is from that.
struct ParetoPoint {
  std::vector<double> values;  ///< [goals], as many in all points that are compared; not read where violation > 0
  double violation = 0;
};

/// The trials as points, one each: maximized values with their sign turned. A pruned trial violates less than a failed
/// one; one without a finite value for each of the track's goals counts as failed.
std::vector<ParetoPoint> pareto_points(const Track& track, std::span<const Trial> trials);

/// Whether a is better: less of a violation; or, both without, nowhere worse and somewhere better.
/// Source: Deb et al. 2002, A fast and elitist multiobjective genetic algorithm: NSGA-II, definition 1.
bool dominates(const ParetoPoint& a, const ParetoPoint& b);

/// Indices of the points, front by front: each is dominated by none but points of the fronts before.
/// Source: Deb et al. 2002, section III-A.
std::vector<std::vector<size_t>> non_dominated_fronts(std::span<const ParetoPoint> points);

/// How much room each point has between its neighbours, summed over the goals, of which each spans 1; infinite for the
/// outermost of each goal. Source: Deb et al. 2002, section III-B.
std::vector<double> crowding_distances(std::span<const ParetoPoint> front);

/// The complete trials that no other one dominates, by number; with one goal, all that share the best value.
std::vector<const Trial*> pareto_front(const Track& track, std::span<const Trial> trials);
std::vector<const Trial*> pareto_front(const Track& track, std::vector<Trial>&& trials) = delete;  ///< would dangle

}  // namespace haqa
