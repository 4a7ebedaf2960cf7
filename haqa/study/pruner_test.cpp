#include "haqa/study/pruner.h"

#include <gtest/gtest.h>

#include "haqa/base/error.h"

namespace haqa {
namespace {

Trial curve(int number, std::vector<double> values, TrialState state = TrialState::complete) {
  Trial t;
  t.number = number;
  t.state = state;
  for (const double v : values) t.intermediate.push_back({static_cast<int>(t.intermediate.size()) + 1, v});
  return t;
}

TEST(MedianPruner, ComparesTheBestSoFarWithTheMedianAtThatStep) {
  const std::vector<Trial> trials = {curve(0, {1, 5, 9}), curve(1, {2, 6, 9}), curve(2, {3, 7, 9}),
                                     curve(3, {0, 0}, TrialState::pruned)};
  const MedianPruner pruner(3, 0);
  struct Case {
    std::vector<double> values;
    bool maximize, minimize;
  };
  for (const Case& c : {Case{{}, false, false}, Case{{2}, false, false}, Case{{1.9}, true, false},
                        Case{{2.1}, false, true}, Case{{8, 0}, false, false}, Case{{1.9, 5.9}, true, false},
                        Case{{7, 7}, false, true}, Case{{1, 1, 1, 1}, false, false}}) {
    const Trial t = curve(4, c.values, TrialState::running);
    EXPECT_EQ(pruner.hopeless(Direction::maximize, trials, t), c.maximize) << testing::PrintToString(c.values);
    EXPECT_EQ(pruner.hopeless(Direction::minimize, trials, t), c.minimize) << testing::PrintToString(c.values);
  }
  EXPECT_FALSE(MedianPruner(4, 0).hopeless(Direction::maximize, trials, curve(4, {0})));
  EXPECT_FALSE(MedianPruner(3, 2).hopeless(Direction::maximize, trials, curve(4, {0})));
  EXPECT_TRUE(MedianPruner(3, 2).hopeless(Direction::maximize, trials, curve(4, {0, 0})));
}

TEST(AshaPruner, KeepsTheBestThirdAtEachRung) {
  std::vector<Trial> trials;
  for (int i = 0; i < 8; ++i) trials.push_back(curve(i, {10.0 * i, 10.0 * i, 10.0 * i}));
  const AshaPruner pruner(1, 3);  // rungs at steps 1, 3, 9
  EXPECT_FALSE(pruner.hopeless(Direction::maximize, trials, curve(8, {65}))) << "second of nine, three go on";
  EXPECT_FALSE(pruner.hopeless(Direction::maximize, trials, curve(8, {55})));
  EXPECT_TRUE(pruner.hopeless(Direction::maximize, trials, curve(8, {45})));
  EXPECT_TRUE(pruner.hopeless(Direction::minimize, trials, curve(8, {25})));
  EXPECT_FALSE(pruner.hopeless(Direction::minimize, trials, curve(8, {15})));
  EXPECT_FALSE(pruner.hopeless(Direction::maximize, trials, curve(8, {45, 1}))) << "step 2 is no rung";
  EXPECT_TRUE(pruner.hopeless(Direction::maximize, trials, curve(8, {45, 1, 45})));
  EXPECT_FALSE(pruner.hopeless(Direction::maximize, {}, curve(0, {1}))) << "the first goes on";
  const std::vector<Trial> one = {curve(0, {2})};
  EXPECT_TRUE(pruner.hopeless(Direction::maximize, one, curve(1, {1}))) << "of two only the best";
}

TEST(Pruner, IsMadeByName) {
  EXPECT_EQ(make_pruner("none"), nullptr);
  EXPECT_NE(dynamic_cast<MedianPruner*>(make_pruner("median").get()), nullptr);
  EXPECT_NE(dynamic_cast<AshaPruner*>(make_pruner("asha").get()), nullptr);
  EXPECT_THROW(make_pruner("hyperband"), UsageError);
}

}  // namespace
}  // namespace haqa
