#include "haqa/study/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <thread>

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

TEST(Study, DoesNothingWhereAllRoundsExist) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  std::vector<Trial> trials(3);
  for (int i = 0; i < 3; ++i) trials[static_cast<size_t>(i)].number = i;
  run_study(track(), sampler, objective, trials, {2, {}, {}});
  EXPECT_THAT(events, ElementsAre("tell 0", "tell 1", "tell 2"));
  EXPECT_EQ(trials.size(), 3u);
  events.clear();
  std::vector<Trial> none;
  run_study(track(), sampler, objective, none, {0, {}, {}});
  EXPECT_TRUE(events.empty() && none.empty());
}

TEST(Study, AnnouncesEachProposalBeforeItsMeasurement) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  std::vector<Trial> trials;
  StudyOptions options{
      2, {}, [&](int number, const Proposal& p) {
        events.push_back(fmt::format("propose {} {} {}", number, p.proposed_by, p.configuration.dump()));
      }};
  run_study(track(), sampler, objective, trials, options);
  EXPECT_THAT(events, ElementsAre("propose 0 default {\"x\":5}", "evaluate 5", "tell 0", "ask 1 left 1",
                                  "propose 1 counting {\"x\":10}", "evaluate 10", "tell 1"));
}

/// Gives `values` in turn; throws where they end, as at Ctrl-C.
struct Scripted : Objective {
  explicit Scripted(std::vector<double> script) : values(std::move(script)) {}
  Outcome evaluate(const Configuration&) override {
    if (next == values.size()) throw Interrupted("stopped");
    Outcome o;
    o.value = values[next++];
    o.metrics = {{"tries", next}};
    return o;
  }
  std::vector<double> values;
  size_t next = 0;
};

TEST(Study, AnInterruptKeepsWhatWasFinished) {
  std::vector<std::string> events;
  Counting sampler(events);
  Scripted objective({1, 2});
  std::vector<Trial> trials;
  int stored = 0;
  const auto store = [&](const Trial&) {
    ++stored;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  };
  EXPECT_THROW(run_study(track(), sampler, objective, trials, {5, store, {}}), Interrupted);
  EXPECT_EQ(trials.size(), 2u);
  EXPECT_EQ(stored, 2);
  EXPECT_EQ(trials[1].metrics["tries"], 2);
  EXPECT_GE(trials[1].propose_s, 0.02) << "storing the one before counts";
  EXPECT_LT(trials[1].evaluate_s, 5);
}

TEST(Study, AValueThatIsNoNumberIsAFailure) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  std::vector<std::string> events;
  Counting sampler(events);
  Scripted objective({nan, 1, -inf, inf});
  std::vector<Trial> trials;
  run_study(track(), sampler, objective, trials, {4, {}, {}});
  for (const size_t i : {0, 2, 3}) {
    EXPECT_EQ(trials[i].state, TrialState::failed) << i;
    EXPECT_EQ(trials[i].value, std::nullopt) << i;
    EXPECT_EQ(trials[i].reason, FailReason::wrong_result) << i;
    EXPECT_NO_THROW(trial_from_json(Json::parse(to_json(trials[i]).dump()))) << i;
  }
  EXPECT_EQ(trials[0].message, "measured nan, which is not a finite number");
  EXPECT_EQ(trials[1].state, TrialState::complete);
  EXPECT_EQ(best_trial(trials, Direction::maximize), &trials[1]);
}

TEST(Study, NanIsNeverTheIncumbent) {
  std::vector<Trial> trials(3);
  for (Trial& t : trials) t.value = std::nan("");
  EXPECT_EQ(best_trial(trials, Direction::maximize), nullptr);
  trials[1].value = -4;
  for (const Direction d : {Direction::maximize, Direction::minimize}) EXPECT_EQ(best_trial(trials, d), &trials[1]);
  EXPECT_EQ(best_trial({}, Direction::maximize), nullptr);
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

Trial failed_trial() {
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
  t.evaluate_s = 1e-9;
  return t;
}

Trial complete_trial() {
  Trial t = failed_trial();
  t.state = TrialState::complete;
  t.reason = FailReason::none;
  t.message.clear();
  t.value = 1.0 / 3;
  return t;
}

// The form that logs on disk have: a change of it makes them unreadable.
TEST(Trial, WritesTheDocumentedForm) {
  EXPECT_EQ(to_json(failed_trial()).dump(),
            R"({"number":7,"configuration":{"x":3,"y":"q8_0"},"state":"failed","value":null,"metrics":{"a":[1,2]},)"
            R"("proposed_by":"expert","thought":"try \"it\"","propose_s":0.25,"evaluate_s":1e-09,)"
            R"("reason":"out_of_memory","message":"used 3 GB\nof 2"})");
  EXPECT_FALSE(to_json(complete_trial()).contains("reason"));
}

TEST(Trial, SurvivesItsJson) {
  std::vector<Trial> trials = {failed_trial(), complete_trial()};
  for (const FailReason reason : {FailReason::none, FailReason::out_of_memory, FailReason::timed_out,
                                  FailReason::crashed, FailReason::wrong_result, FailReason::quality_loss}) {
    trials.push_back(failed_trial());
    trials.back().reason = reason;
  }
  for (const double value : {-1e300, 5e-324, 0.1 + 0.2, -0.0}) {
    trials.push_back(complete_trial());
    trials.back().value = value;
  }
  for (const Trial& t : trials) {
    const Trial read = trial_from_json(Json::parse(to_line(to_json(t))));
    EXPECT_EQ(read.number, t.number);
    EXPECT_EQ(read.configuration, t.configuration);
    EXPECT_EQ(read.state, t.state);
    EXPECT_EQ(read.value, t.value);
    EXPECT_EQ(read.reason, t.reason) << to_string(t.reason);
    EXPECT_EQ(read.message, t.message);
    EXPECT_EQ(read.metrics, t.metrics);
    EXPECT_EQ(read.proposed_by, t.proposed_by);
    EXPECT_EQ(read.thought, t.thought);
    EXPECT_EQ(read.propose_s, t.propose_s);
    EXPECT_EQ(read.evaluate_s, t.evaluate_s);
  }
}

void expect_damage(const Json& json, const std::string& named) {
  try {
    trial_from_json(json);
    ADD_FAILURE() << "read: " << json;
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr(named)) << json;
  }
}

TEST(Trial, DamageIsAnErrorThatNamesTheKey) {
  for (const Trial& t : {failed_trial(), complete_trial()}) {
    const Json good = to_json(t);
    for (const auto& [key, value] : good.items()) {
      Json missing = good;
      missing.erase(key);
      expect_damage(missing, "\"" + key + "\"");
      for (const Json& other : {Json(), Json(true), Json(-3), Json(1.5), Json("?"), Json::array(), Json::object()}) {
        if (other.type() == value.type() && other.type() != Json::value_t::string) continue;
        if (value.is_number_float() && other.is_number()) continue;
        if (value.is_string() && other.is_string() && key != "state" && key != "reason") continue;
        Json wrong = good;
        wrong[key] = other;
        expect_damage(wrong, key == "reason" && other == "?" ? "\"?\" is no reason" : "\"" + key + "\"");
      }
    }
  }
  for (const int64_t number : {int64_t{-1}, int64_t{5'000'000'000}}) {
    Json wrong = to_json(complete_trial());
    wrong["number"] = number;
    expect_damage(wrong, "\"number\"");
  }
  for (const Json& no_object : {Json(), Json("x"), Json::array({1}), Json(3)})
    expect_damage(no_object, "not an object");
}

}  // namespace
}  // namespace haqa
