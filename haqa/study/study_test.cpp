#include "haqa/study/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::ElementsAre;

Track track() {
  Track t;
  t.space = SearchSpace({integer_parameter("x", 0, 100, 5, "")});
  return t;
}

/// Proposes 10, 20, ... and writes down what happens.
struct Counting : Sampler {
  explicit Counting(std::vector<std::string>& seen) : events(seen) {}
  Proposal ask(const Track&, std::span<const Trial> trials, int left) override {
    events.push_back(fmt::format("ask {} left {}", trials.size(), left));
    return {{{"x", 10 * static_cast<int>(trials.size())}}, "counting", "next"};
  }
  void tell(const Track&, const Trial& t) override { events.push_back(fmt::format("tell {}", t.number)); }
  std::vector<std::string>& events;
};

/// The value is x; 20 fails.
struct Identity : Objective {
  explicit Identity(std::vector<std::string>& seen) : events(seen) {}
  Outcome evaluate(const Configuration& c) override {
    events.push_back(fmt::format("evaluate {}", c["x"].get<int>()));
    Outcome o;
    if (c["x"] == 20) {
      o.reason = FailReason::crashed;
      o.message = "bang";
    } else {
      o.value = c["x"].get<double>();
    }
    return o;
  }
  std::vector<std::string>& events;
};

TEST(Study, AsksEvaluatesStoresAndTellsInThatOrder) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  std::vector<Trial> trials;
  StudyOptions options;
  options.rounds = 3;
  options.on_trial = [&](const Trial& t) { events.push_back(fmt::format("store {}", t.number)); };
  run_study(track(), sampler, objective, trials, options);
  EXPECT_THAT(events, ElementsAre("evaluate 5", "store 0", "tell 0", "ask 1 left 2", "evaluate 10", "store 1", "tell 1",
                                  "ask 2 left 1", "evaluate 20", "store 2", "tell 2"));
  EXPECT_EQ(trials[0].proposed_by, "default");
  EXPECT_EQ(trials[1].thought, "next");
  EXPECT_EQ(trials[2].state, TrialState::failed);
  EXPECT_EQ(trials[2].reason, FailReason::crashed);
  EXPECT_EQ(trials[2].message, "bang");
}

TEST(Study, GoesOnAfterEarlierTrials) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  std::vector<Trial> trials(2);
  trials[0].configuration = {{"x", 5}};
  trials[1].configuration = {{"x", 10}};
  trials[1].number = 1;
  run_study(track(), sampler, objective, trials, {3, {}, {}});
  EXPECT_THAT(events, ElementsAre("tell 0", "tell 1", "ask 2 left 1", "evaluate 20", "tell 2"));
  EXPECT_EQ(trials[2].number, 2);
}

TEST(Study, FindsTheIncumbent) {
  std::vector<Trial> trials(4);
  EXPECT_EQ(best_trial(trials, Direction::maximize), nullptr);
  trials[1].value = 2;
  trials[2].value = 3;
  trials[3].value = 3;
  EXPECT_EQ(best_trial(trials, Direction::maximize), &trials[2]) << "the first of equals";
  EXPECT_EQ(best_trial(trials, Direction::minimize), &trials[1]);
}

TEST(Trial, SurvivesItsJson) {
  Trial t;
  t.number = 7;
  t.configuration = {{"x", 3}, {"y", "q8_0"}};
  t.state = TrialState::failed;
  t.reason = FailReason::out_of_memory;
  t.message = "used 3 GB\nof 2";
  t.metrics = {{"a", {1, 2}}};
  t.proposed_by = "expert";
  t.thought = "try \"it\"";
  t.propose_s = 0.25;
  EXPECT_EQ(to_json(trial_from_json(to_json(t))), to_json(t));
  t.state = TrialState::complete;
  t.value = 1.0 / 3;
  EXPECT_EQ(trial_from_json(to_json(t)).value, 1.0 / 3);
}

TEST(Trial, DamageIsAnError) {
  const Json good = to_json(Trial{});
  for (const auto& [key, value] : good.items()) {
    Json missing = good, wrong = good;
    missing.erase(key);
    EXPECT_THROW(trial_from_json(missing), Error) << key;
    if (key == "configuration" || key == "metrics" || key == "state") continue;  // any JSON may stand there
    wrong[key] = Json::array();
    EXPECT_THROW(trial_from_json(wrong), Error) << key;
  }
  EXPECT_THROW(trial_from_json("x"), Error);
  EXPECT_THROW(trial_from_json({{"number", 1}}), Error);
}

}  // namespace
}  // namespace haqa
