#include "haqa/sampler/tpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/sampler/sampler_test_support.h"

namespace haqa {
namespace {

using testing::HasSubstr;

// At equal strength 0.5 of all pairs, give or take 0.06 (one standard deviation with 20 and 200 seeds).
TEST(TpeSampler, BeatsRandomSearch) {
  for (const Problem& problem : {branin_problem(), mixed_problem(), conditional_problem()}) {
    const double share = share_of_wins(losses<TpeSampler>(problem, 20, 25), losses<RandomSampler>(problem, 200, 25));
    RecordProperty(problem.name, std::to_string(share));
    EXPECT_GT(share, 0.65) << problem.name;
  }
}

// Half of the space fails, and the values grow towards it.
TEST(TpeSampler, LearnsWhereTrialsFail) {
  Problem cliff = {"cliff", {}, [](const Configuration& c) -> std::optional<double> {
                     const double x = c["x"];
                     return x > 0.5 ? std::nullopt : std::optional(x - 0.1 * std::abs(c["y"].get<double>() - 0.5));
                   }};
  cliff.track.space = SearchSpace({real_parameter("x", 0, 1, 0.2, ""), real_parameter("y", 0, 1, 0.5, "")});
  int late_failures = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    TpeSampler sampler(seed);
    const std::vector<Trial> trials = study(cliff, sampler, 30);
    for (size_t i = 20; i < 30; ++i) late_failures += !trials[i].value;
  }
  EXPECT_LE(late_failures, 80) << "of 200; 100 of random search";
}

TEST(TpeSampler, LeavesWhatOnlyFailed) {
  Problem half = {"half", {}, [](const Configuration&) -> std::optional<double> { return std::nullopt; }};
  half.track.space = SearchSpace({real_parameter("x", 0, 1, 0.2, "")});
  std::vector<Trial> trials;
  for (int i = 0; i < 8; ++i) trials.push_back(judged(half, i, {{"x", 0.05 * i}}));
  int far = 0;
  for (uint64_t seed = 0; seed < 20; ++seed)
    far += TpeSampler(seed).ask(half.track, trials, 1).configuration["x"].get<double>() > 0.5;
  EXPECT_GE(far, 19) << "all below 0.35 failed";
}

// Six good values at x near 0.2 and many bad ones at 0.8; what is pruned is worse than what is complete, however good
// its last value.
TEST(TpeSampler, GoesWhereGoodTrialsAre) {
  Track track;
  track.space = SearchSpace({real_parameter("x", 0, 1, 0.5, ""), categorical_parameter("c", {"a", "b"}, "a", "")});
  for (const bool pruned : {false, true}) {
    std::vector<Trial> trials(40);
    for (int i = 0; i < 40; ++i) {
      Trial& t = trials[static_cast<size_t>(i)];
      t.number = i;
      const bool low = i % 7 == 0;
      t.configuration = {{"x", (low ? 0.2 : 0.8) + 0.002 * i}, {"c", low ? "a" : "b"}};
      t.value = low == !pruned ? 5 : 1;
      if (pruned && !low) t.state = TrialState::pruned;
    }
    int near = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const Proposal p = TpeSampler(seed).ask(track, trials, 1);
      near += p.configuration["x"].get<double>() < 0.45 && p.configuration["c"] == "a";
      EXPECT_THAT(p.thought, HasSubstr("Of 24 candidates"));
    }
    EXPECT_GE(near, 18) << (pruned ? "pruned" : "complete");
  }
}

TEST(TpeSampler, IsRandomForTheFirstTrials) {
  const Problem problem = branin_problem();
  TpeSampler sampler(1);
  std::vector<Trial> trials;
  for (int i = 0; i < 5; ++i) {
    const Proposal p = sampler.ask(problem.track, trials, 1);
    EXPECT_EQ(p.thought.find("Too few trials") != std::string::npos, i < 3) << i;
    trials.push_back(judged(problem, i, p.configuration));
  }
}

}  // namespace
}  // namespace haqa
