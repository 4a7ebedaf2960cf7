#include "haqa/sampler/constant_liar.h"

#include <gtest/gtest.h>

namespace haqa {
namespace {

Trial trial(TrialState state, std::optional<double> value) {
  Trial t;
  t.state = state;
  t.value = value;
  return t;
}

TEST(WithLies, GivesARunningTrialTheWorstValueSoFar) {
  const std::vector<Trial> trials = {trial(TrialState::complete, 3), trial(TrialState::running, {}),
                                     trial(TrialState::failed, {}), trial(TrialState::complete, 1)};
  for (const auto& [direction, worst] : {std::pair(Direction::maximize, 1.0), std::pair(Direction::minimize, 3.0)}) {
    Track track;
    track.direction = direction;
    const std::vector<Trial> lied = with_lies(track, trials);
    ASSERT_EQ(lied.size(), 4u);
    EXPECT_EQ(lied[1].value, worst);
    EXPECT_EQ(lied[1].state, TrialState::complete);
    EXPECT_EQ(lied[2].value, std::nullopt) << "a failed trial stays one";
    EXPECT_EQ(lied[3].value, 1.0);
  }
}

// It would be read as a failure, and the lie would teach that the place fails.
TEST(WithLies, LiesNoValueThatDiverged) {
  const std::vector<Trial> trials = {trial(TrialState::complete, 3), trial(TrialState::running, {}),
                                     trial(TrialState::complete, -1e300), trial(TrialState::complete, 1e200)};
  for (const Direction direction : {Direction::maximize, Direction::minimize}) {
    Track track;
    track.direction = direction;
    EXPECT_EQ(with_lies(track, trials)[1].value, 3.0);
  }
  EXPECT_EQ(with_lies({}, std::span(trials).subspan(1, 2)).size(), 1u) << "nothing but what diverged";
}

TEST(WithLies, LeavesRunningTrialsOutWhereNothingIsComplete) {
  const std::vector<Trial> trials = {trial(TrialState::running, {}), trial(TrialState::failed, {})};
  const std::vector<Trial> lied = with_lies({}, trials);
  ASSERT_EQ(lied.size(), 1u);
  EXPECT_EQ(lied[0].state, TrialState::failed);
}

}  // namespace
}  // namespace haqa
