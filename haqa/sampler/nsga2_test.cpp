#include "haqa/sampler/nsga2.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "haqa/sampler/sampler_test_support.h"
#include "haqa/study/pareto.h"

namespace haqa {
namespace {

using testing::HasSubstr;

/// ZDT1 of five parameters: both values to be minimized. Source: Zitzler, Deb and Thiele 2000, Comparison of
/// multiobjective evolutionary algorithms, section 4.
Track zdt_track() {
  Track t;
  t.direction = Direction::minimize;
  t.more_goals = {{"second", Direction::minimize}};
  std::vector<Parameter> parameters;
  for (int i = 0; i < 5; ++i) parameters.push_back(real_parameter("x" + std::to_string(i), 0, 1, 0.5, ""));
  t.space = SearchSpace(parameters);
  return t;
}

Trial zdt_trial(int number, const Configuration& c) {
  double sum = 0;
  for (int i = 1; i < 5; ++i) sum += c["x" + std::to_string(i)].get<double>();
  const double first = c["x0"], g = 1 + 9 * sum / 4;
  Trial t;
  t.number = number;
  t.configuration = c;
  t.value = first;
  t.more_values = {g * (1 - std::sqrt(first / g))};
  return t;
}

/// The area between a front of two minimized values and (1.1, 8).
double hypervolume(const std::vector<const Trial*>& front) {
  std::vector<std::pair<double, double>> points;
  for (const Trial* t : front) points.push_back({*t->value, t->more_values[0]});
  std::sort(points.begin(), points.end());
  double area = 0, height = 8;
  for (const auto& [x, y] : points) {
    if (x >= 1.1 || y >= height) continue;
    area += (1.1 - x) * (height - y);
    height = y;
  }
  return area;
}

/// Negative hypervolumes of `seeds` studies.
template <typename S>
std::vector<double> zdt_losses(int seeds, int rounds) {
  const Track track = zdt_track();
  std::vector<double> all;
  for (int seed = 0; seed < seeds; ++seed) {
    S sampler(static_cast<uint64_t>(seed));
    std::vector<Trial> trials = {zdt_trial(0, track.space.defaults())};
    for (int i = 1; i < rounds; ++i)
      trials.push_back(zdt_trial(i, sampler.ask(track, trials, rounds - i).configuration));
    all.push_back(-hypervolume(pareto_front(track, trials)));
  }
  return all;
}

// At equal strength 0.5, give or take 0.06 (one standard deviation with 20 and 200 seeds).
TEST(Nsga2Sampler, CoversMoreOfAFrontThanRandomSearch) {
  const double share = share_of_wins(zdt_losses<Nsga2Sampler>(20, 50), zdt_losses<RandomSampler>(200, 50));
  RecordProperty("share", std::to_string(share));
  EXPECT_GT(share, 0.8);
}

TEST(Nsga2Sampler, WithOneGoalIsNoWorseThanRandomSearch) {
  for (const Problem& problem : {branin_problem(), mixed_problem(), conditional_problem()})
    for (const int rounds : {10, 50}) {
      const double share =
          share_of_wins(losses<Nsga2Sampler>(problem, 40, rounds), losses<RandomSampler>(problem, 200, rounds));
      RecordProperty(problem.name + std::to_string(rounds), std::to_string(share));
      EXPECT_GT(share, rounds == 10 ? 0.33 : 0.5) << problem.name << ' ' << rounds;
    }
}

// Two trials are on the front, three are not: all children are of these two where the population is two.
TEST(Nsga2Sampler, BreedsTheFront) {
  const Track track = zdt_track();
  std::vector<Trial> trials;
  for (int i = 0; i < 6; ++i) {
    const bool good = i == 2 || i == 4;
    Configuration c = {{"x0", i == 2 ? 0.1 : 0.9}};
    for (int k = 1; k < 5; ++k) c["x" + std::to_string(k)] = good ? 0.0 : 0.7 + 0.05 * i;
    trials.push_back(zdt_trial(i, c));
  }
  trials[5].state = TrialState::failed;
  trials[5].value.reset();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Proposal p = Nsga2Sampler(seed, 2).ask(track, trials, 1);
    EXPECT_THAT(p.thought, testing::MatchesRegex("A child of rounds [35] and [35], mutated\\."));
    EXPECT_EQ(p.proposed_by, "nsga2");
  }
}

// All six are on the front: its ends are the parents, and then 0.48, which has all up to 0 to itself.
TEST(Nsga2Sampler, BreedsWhereTheFrontIsThin) {
  const Track track = zdt_track();
  std::vector<Trial> trials;
  for (const double x : {0.48, 1.0, 0.5, 0.0, 0.49, 0.8})
    trials.push_back(
        zdt_trial(static_cast<int>(trials.size()), {{"x0", x}, {"x1", 0.0}, {"x2", 0.0}, {"x3", 0.0}, {"x4", 0.0}}));
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_THAT(Nsga2Sampler(seed, 2).ask(track, trials, 1).thought,
                testing::MatchesRegex("A child of rounds [24] and [24], mutated\\."));
    EXPECT_THAT(Nsga2Sampler(seed, 3).ask(track, trials, 1).thought,
                testing::MatchesRegex("A child of rounds [124] and [124], mutated\\."));
  }
}

TEST(Nsga2Sampler, BreedsEachParameterFromEitherParent) {
  Track track;
  Parameter momentum = real_parameter("momentum", 0, 1, 0.5, "");
  momentum.when = Expression("optimizer == 'sgd'");
  std::vector<Parameter> parameters = {categorical_parameter("optimizer", {"adam", "sgd"}, "adam", ""), momentum};
  for (int i = 0; i < 8; ++i) parameters.push_back(real_parameter("x" + std::to_string(i), 0, 1, 0.5, ""));
  track.space = SearchSpace(parameters);
  std::vector<Trial> trials(2);
  trials[0].configuration = {{"optimizer", "adam"}};
  trials[1].configuration = {{"optimizer", "sgd"}, {"momentum", 0.9}};
  for (int i = 0; i < 8; ++i)
    for (size_t t : {0u, 1u}) trials[t].configuration["x" + std::to_string(i)] = t == 0 ? 0.25 : 0.75;
  for (Trial& t : trials) t.value = 1;
  int first = 0, second = 0, both = 0, with_momentum = 0, kept = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const Configuration c = Nsga2Sampler(seed, 2).ask(track, trials, 1).configuration;
    int of_first = 0, of_second = 0;
    for (int i = 0; i < 8; ++i) {
      of_first += c["x" + std::to_string(i)] == 0.25;
      of_second += c["x" + std::to_string(i)] == 0.75;
    }
    first += of_first;
    second += of_second;
    both += of_first > 0 && of_second > 0;
    with_momentum += c.contains("momentum");
    if (c.contains("momentum")) kept += c["momentum"] == 0.9;
  }
  // Of 3200 genes 640 are mutated; 9 of 16 children have the first parent twice, for it ranks higher.
  EXPECT_GT(first, 1200);
  EXPECT_GT(second, 400);
  EXPECT_GT(both, 100) << "children of two parents take after either";
  EXPECT_NEAR(first + second, 2560, 120);
  EXPECT_GT(with_momentum, 70);
  EXPECT_GT(kept, with_momentum / 2) << "the only parent that knows of it hands it on";
}

TEST(Nsga2Sampler, BeginsWithAPopulation) {
  const Problem problem = branin_problem();
  Nsga2Sampler sampler(1);
  std::vector<Trial> trials;
  for (int i = 0; i < 8; ++i) {
    const Proposal p = sampler.ask(problem.track, trials, 1);
    EXPECT_EQ(p.thought.find("first population") != std::string::npos, i < 5) << i;
    trials.push_back(judged(problem, i, p.configuration));
  }
}

}  // namespace
}  // namespace haqa
