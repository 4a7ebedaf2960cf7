#include "haqa/sampler/warm_start.h"

#include <gtest/gtest.h>

#include "haqa/sampler/registry.h"

namespace haqa {
namespace {

SearchSpace space() {
  return SearchSpace({integer_parameter("x", 0, 10, 5, ""), boolean_parameter("b", false, "")},
                     {Expression("x != 4 or b")});
}

Trial trial(Json configuration, std::optional<double> value, TrialState state = TrialState::complete) {
  Trial t;
  t.configuration = std::move(configuration);
  t.value = value;
  t.state = state;
  return t;
}

// By hand: 20 is clipped to 10, and so is 30, which is the same then; x = 4 breaks the constraint; y is not of this
// space; what is not complete does not count.
TEST(WarmStart, TakesTheBestThatFit) {
  const std::vector<Trial> all = {trial({{"x", 1}, {"b", true}}, 3),
                                  trial({{"x", 20}}, 1),
                                  trial({{"x", 30}}, 2),
                                  trial({{"x", 4}}, 0),
                                  trial({{"y", 1}}, 0),
                                  trial({{"x", 3}}, 0, TrialState::pruned),
                                  trial({{"x", 7}}, {}, TrialState::failed),
                                  trial({{"x", 2}, {"y", 1}}, 9)};
  std::vector<int> least, most;
  for (const EarlierTrial& e : best_earlier_trials(space(), "s", all, Direction::minimize))
    least.push_back(e.configuration["x"]);
  EXPECT_EQ(least, (std::vector<int>{10, 1, 2}));
  for (const EarlierTrial& e : best_earlier_trials(space(), "s", all, Direction::maximize, 2))
    most.push_back(e.configuration["x"]);
  EXPECT_EQ(most, (std::vector<int>{2, 1}));
}

TEST(WarmStart, ProposesThemOnceBeforeItsSampler) {
  Track track;
  track.space = space();
  const std::vector<EarlierTrial> earlier = {
      {"old", {{"x", 5}, {"b", false}}, 1}, {"old", {{"x", 7}, {"b", true}}, 2}, {"other", {{"x", 8}, {"b", true}}, 3}};
  WarmStartSampler sampler(make_sampler("random", 1), earlier);
  std::vector<Trial> trials = {trial(track.space.defaults(), 1)};
  std::vector<std::string> who;
  for (int left = 4; left > 0; --left) {
    const Proposal p = sampler.ask(track, trials, left);
    who.push_back(p.proposed_by);
    trials.push_back(trial(p.configuration, 1));
  }
  EXPECT_EQ(who, (std::vector<std::string>{"warm start: old", "warm start: other", "random", "random"}))
      << "x = 5 are the defaults, which were tried";
  EXPECT_EQ(trials[1].configuration["x"], 7);
}

}  // namespace
}  // namespace haqa
