#include "haqa/study/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
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
  Outcome evaluate(const Configuration& c, const Report&) override {
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

/// One track in memory.
StopReason run(Sampler& sampler, Objective& objective, MemoryStorage& storage, const StudyOptions& options) {
  const Track t = track();
  return run_study(std::array{StudyTrack{t, sampler, objective, storage}}, options);
}

StudyOptions rounds(int n) {
  StudyOptions options;
  options.budget.rounds = n;
  return options;
}

TEST(Study, AsksEvaluatesStoresAndTellsInThatOrder) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  MemoryStorage storage;
  StudyOptions options = rounds(3);
  options.on_trial = [&](const Track&, const Trial& t) {
    EXPECT_NE(storage.trials().back().state, TrialState::running);
    events.push_back(fmt::format("stored {}", t.number));
  };
  EXPECT_EQ(run(sampler, objective, storage, options), StopReason::rounds);
  EXPECT_THAT(events, ElementsAre("evaluate 5", "stored 0", "tell 0", "ask 1 left 2", "evaluate 10", "stored 1",
                                  "tell 1", "ask 2 left 1", "evaluate 20", "stored 2", "tell 2"));
  const std::vector<Trial> trials = storage.trials();
  EXPECT_EQ(trials[0].proposed_by, "default");
  EXPECT_EQ(trials[1].thought, "next");
  EXPECT_EQ(trials[2].state, TrialState::failed);
  EXPECT_EQ(trials[2].reason, FailReason::crashed);
  EXPECT_EQ(trials[2].message, "bang");
}

TEST(Study, ATrackMayBeginInALaterRound) {
  std::vector<std::string> events;
  Counting early(events), late(events);
  Identity objective(events);
  Track first = track(), second = track();
  second.first_round = 2;
  MemoryStorage storages[2];
  run_study(
      std::array{StudyTrack{first, early, objective, storages[0]}, StudyTrack{second, late, objective, storages[1]}},
      rounds(4));
  EXPECT_EQ(storages[0].trials().size(), 4u);
  EXPECT_EQ(storages[1].trials().size(), 2u);
  EXPECT_THAT(std::vector(events.end() - 6, events.end()),
              ElementsAre("ask 3 left 1", "evaluate 30", "tell 3", "ask 1 left 1", "evaluate 10", "tell 1"));
}

TEST(Study, GoesOnAfterEarlierTrials) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  std::vector<Trial> trials(2);
  trials[0].configuration = {{"x", 5}};
  trials[1].configuration = {{"x", 10}};
  trials[1].number = 1;
  MemoryStorage storage(trials);
  run(sampler, objective, storage, rounds(3));
  EXPECT_THAT(events, ElementsAre("tell 0", "tell 1", "ask 2 left 1", "evaluate 20", "tell 2"));
  EXPECT_EQ(storage.trials()[2].number, 2);
}

// Where the process of a configuration dies a second time, it may have taken the machine down; Ctrl-C blames nobody.
TEST(Study, WhatDiedTwiceCountsAsCrashed) {
  for (const bool asked_to_end : {false, true}) {
    std::vector<std::string> events;
    Counting sampler(events);
    Identity objective(events);
    std::vector<Trial> lost(3);
    for (int i = 0; i < 3; ++i) {
      lost[i].number = i;
      lost[i].configuration = {{"x", i == 1 ? 7 : 5}};
      lost[i].state = TrialState::failed;
      lost[i].reason = FailReason::interrupted;
      if (asked_to_end) lost[i].evaluate_s = 0.1;
    }
    MemoryStorage storage(lost);
    EXPECT_EQ(run(sampler, objective, storage, rounds(2)), StopReason::rounds);
    if (asked_to_end)
      EXPECT_THAT(events, ElementsAre("evaluate 5", "tell 3", "ask 1 left 1", "evaluate 10", "tell 4"));
    else
      EXPECT_THAT(events, ElementsAre("tell 2", "ask 1 left 1", "evaluate 10", "tell 3"));
  }
}

/// Throws at x = 10 once all others run.
struct Breaking : Objective {
  explicit Breaking(int workers) : others(workers - 1) {}
  Outcome evaluate(const Configuration& c, const Report&) override {
    if (c["x"] == 10) {
      while (running < others) std::this_thread::yield();
      fails = true;
      throw Error("the disk is full");
    }
    ++running;
    while (others > 0 && !fails) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the failure is heard of first
    Outcome o;
    o.value = c["x"].get<double>();
    return o;
  }
  const int others;
  std::atomic<int> running = 0;
  std::atomic<bool> fails = false;
};

/// What abandon() heard.
struct Hearing : MemoryStorage {
  void abandon(const Trial& t) override { abandoned.push_back(t); }
  std::vector<Trial> abandoned;
};

TEST(Study, AnErrorOfOneWorkerKeepsWhatTheOthersMeasure) {
  for (const int workers : {1, 4}) {
    std::vector<std::string> events;
    Counting sampler(events);
    Breaking objective(workers);
    Hearing storage;
    StudyOptions options = rounds(20);
    options.workers = workers;
    int heard = 0;
    options.on_trial = [&](const Track&, const Trial&) { ++heard; };
    const Track t = track();
    try {
      run_study(std::array{StudyTrack{t, sampler, objective, storage}}, options);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_STREQ(e.what(), "the disk is full");
    }
    const std::vector<Trial> all = storage.trials();
    EXPECT_EQ(all.size(), static_cast<size_t>(std::max(2, workers))) << "it asked for more";
    for (const Trial& trial : all)
      EXPECT_EQ(trial.state, trial.number == 1 ? TrialState::running : TrialState::complete) << trial.number;
    EXPECT_EQ(heard, static_cast<int>(all.size()) - 1);
    ASSERT_EQ(storage.abandoned.size(), 1u);
    EXPECT_EQ(storage.abandoned[0].number, 1);
    EXPECT_EQ(storage.abandoned[0].reason, FailReason::interrupted);
    EXPECT_GT(storage.abandoned[0].evaluate_s, 0);
  }
}

// Not even the first: the defaults are measured after all.
TEST(Study, WhatWasInterruptedCountsForNothing) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  Trial lost;
  lost.configuration = {{"x", 5}};
  lost.state = TrialState::failed;
  lost.reason = FailReason::interrupted;
  MemoryStorage storage({lost});
  EXPECT_EQ(run(sampler, objective, storage, rounds(2)), StopReason::rounds);
  EXPECT_THAT(events, ElementsAre("evaluate 5", "tell 1", "ask 1 left 1", "evaluate 10", "tell 2"));
  EXPECT_EQ(storage.trials().size(), 3u);
}

TEST(Study, DoesNothingWhereAllRoundsExist) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  std::vector<Trial> trials(3);
  for (int i = 0; i < 3; ++i) trials[static_cast<size_t>(i)].number = i;
  MemoryStorage storage(trials), none;
  run(sampler, objective, storage, rounds(2));
  EXPECT_THAT(events, ElementsAre("tell 0", "tell 1", "tell 2"));
  EXPECT_EQ(storage.trials().size(), 3u);
  events.clear();
  run(sampler, objective, none, rounds(0));
  EXPECT_TRUE(events.empty() && none.trials().empty());
}

TEST(Study, AnnouncesEachProposalBeforeItsMeasurement) {
  std::vector<std::string> events;
  Counting sampler(events);
  Identity objective(events);
  MemoryStorage storage;
  StudyOptions options = rounds(2);
  options.on_proposal = [&](const Track&, const Trial& t) {
    EXPECT_EQ(storage.trials().back().state, TrialState::running) << "stored before it is measured";
    events.push_back(fmt::format("propose {} {} {}", t.number, t.proposed_by, t.configuration.dump()));
  };
  run(sampler, objective, storage, options);
  EXPECT_THAT(events, ElementsAre("propose 0 default {\"x\":5}", "evaluate 5", "tell 0", "ask 1 left 1",
                                  "propose 1 counting {\"x\":10}", "evaluate 10", "tell 1"));
}

/// Gives `values` in turn; throws where they end, as at Ctrl-C.
struct Scripted : Objective {
  explicit Scripted(std::vector<double> script) : values(std::move(script)) {}
  Outcome evaluate(const Configuration&, const Report&) override {
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
  MemoryStorage storage;
  StudyOptions options = rounds(5);
  int stored = 0;
  options.on_trial = [&](const Track&, const Trial&) {
    ++stored;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  };
  EXPECT_THROW(run(sampler, objective, storage, options), Interrupted);
  const std::vector<Trial> trials = storage.trials();
  ASSERT_EQ(trials.size(), 3u);
  EXPECT_EQ(stored, 2);
  EXPECT_EQ(trials[1].metrics["tries"], 2);
  EXPECT_EQ(trials[2].state, TrialState::running);
  EXPECT_GE(trials[1].propose_s, 0.02) << "storing the one before counts";
  EXPECT_LT(trials[1].evaluate_s, 5);
}

TEST(Study, AValueThatIsNoNumberIsAFailure) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  std::vector<std::string> events;
  Counting sampler(events);
  Scripted objective({nan, 1, -inf, inf});
  MemoryStorage storage;
  run(sampler, objective, storage, rounds(4));
  const std::vector<Trial> trials = storage.trials();
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

TEST(Study, EveryGoalNeedsAValue) {
  Track t = track();
  t.more_goals = {{"latency", Direction::minimize}};
  struct Pair : Objective {
    Outcome evaluate(const Configuration& c, const Report&) override {
      Outcome o;
      o.value = 1;
      if (c["x"] != 10) o.more_values = {c["x"] == 20 ? NAN : 7.0};
      return o;
    }
  } objective;
  std::vector<std::string> events;
  Counting sampler(events);
  MemoryStorage storage;
  run_study(std::array{StudyTrack{t, sampler, objective, storage}}, rounds(3));
  const std::vector<Trial> trials = storage.trials();
  EXPECT_THAT(trials[0].more_values, ElementsAre(7));
  EXPECT_EQ(trials[1].message, "measured 1 values of 2");
  EXPECT_EQ(trials[2].message, "measured nan, which is not a finite number");
}

TEST(Study, TracksTakeTurns) {
  std::vector<std::string> events;
  Track a = track(), b = track();
  a.name = "a";
  b.name = "b";
  Counting sampler(events);
  Identity objective(events);
  MemoryStorage of_a, of_b(std::vector<Trial>(1));
  StudyOptions options = rounds(2);
  options.on_proposal = [&](const Track& t, const Trial& trial) {
    events.push_back(fmt::format("{}{}", t.name, trial.number));
  };
  events.clear();
  run_study(std::array{StudyTrack{a, sampler, objective, of_a}, StudyTrack{b, sampler, objective, of_b}}, options);
  std::erase_if(events, [](const std::string& e) { return e.size() > 2; });
  EXPECT_THAT(events, ElementsAre("a0", "a1", "b1")) << "the one with fewer rounds first";
}

/// Waits until `together` are inside at once, for at most ten seconds.
struct Meeting : Objective {
  explicit Meeting(int n) : together(n) {}
  Outcome evaluate(const Configuration& c, const Report&) override {
    std::unique_lock lock(mutex);
    most = std::max(most, ++inside);
    arrived.notify_all();
    arrived.wait_for(lock, std::chrono::seconds(10), [&] { return most >= together; });
    --inside;
    if (c["x"] == throws_at) throw Error("the disk is full");
    Outcome o;
    o.value = c["x"].get<double>();
    return o;
  }
  std::mutex mutex;
  std::condition_variable arrived;
  int together, inside = 0, most = 0, throws_at = -1;
};

TEST(Study, WorkersMeasureAtOnce) {
  std::vector<std::string> events;
  Counting sampler(events);
  Meeting objective(3);
  MemoryStorage storage;
  StudyOptions options = rounds(9);
  options.workers = 3;
  run(sampler, objective, storage, options);
  EXPECT_EQ(objective.most, 3);
  const std::vector<Trial> trials = storage.trials();
  ASSERT_EQ(trials.size(), 9u);
  for (const Trial& t : trials) {
    EXPECT_EQ(t.state, TrialState::complete);
    EXPECT_EQ(t.value, t.configuration["x"].get<double>()) << "each result at its own trial";
  }
}

TEST(Study, AnErrorOfOneWorkerEndsTheStudy) {
  std::vector<std::string> events;
  Counting sampler(events);
  Meeting objective(2);
  objective.throws_at = 10;
  MemoryStorage storage;
  StudyOptions options = rounds(9);
  options.workers = 2;
  EXPECT_THROW(run(sampler, objective, storage, options), Error);
  EXPECT_LT(storage.trials().size(), 9u);
}

/// Each trial reports x at steps 1, 2, 3 and stops when told to.
struct Curve : Objective {
  Outcome evaluate(const Configuration& c, const Report& report) override {
    Outcome o;
    for (int step = 1; step <= 3; ++step)
      if (!report(step, c["x"].get<double>() + step)) return o;
    o.value = c["x"].get<double>() + 3;
    return o;
  }
};

// Each would cost a write to a disk, while the program waits.
TEST(Study, StoresManyValuesWithTheTrialsEnd) {
  struct Stream : Objective {
    Outcome evaluate(const Configuration&, const Report& report) override {
      for (int step = 0; step < 1000; ++step) report(step, step);
      return {1.0};
    }
  };
  struct CountingStorage : MemoryStorage {
    void report(int number, const Intermediate& value) override {
      ++reports;
      MemoryStorage::report(number, value);
    }
    int reports = 0;
  };
  std::vector<std::string> events;
  Counting sampler(events);
  Stream objective;
  CountingStorage storage;
  run(sampler, objective, storage, rounds(1));
  EXPECT_GE(storage.reports, 1);
  EXPECT_LE(storage.reports, 100);
  ASSERT_EQ(storage.trials()[0].intermediate.size(), 1000u);
  EXPECT_EQ(storage.trials()[0].intermediate.back().step, 999);
}

// A pruner that compares trials at a step must find every step of those that others measure at this moment.
TEST(Study, PrunersSeeAllThatRunningTrialsReported) {
  /// The first trial reports ten values at once and goes on; the second reports then.
  struct InTurn : Objective {
    Outcome evaluate(const Configuration& c, const Report& report) override {
      if (c["x"] == 5) {
        for (int step = 1; step <= 10; ++step) report(step, step);
        reported = true;
        while (!seen) std::this_thread::yield();
      } else {
        while (!reported) std::this_thread::yield();
        report(1, 0);
        seen = true;
      }
      return {1.0};
    }
    std::atomic<bool> reported = false, seen = false;
  };
  struct Looking : Pruner {
    bool hopeless(Direction, std::span<const Trial> trials, const Trial& t) const override {
      if (t.number == 1) values_of_the_other = trials[0].intermediate.size();
      return false;
    }
    mutable size_t values_of_the_other = 0;
  };
  std::vector<std::string> events;
  Counting sampler(events);
  InTurn objective;
  Looking pruner;
  MemoryStorage storage;
  StudyOptions options = rounds(2);
  options.workers = 2;
  options.pruner = &pruner;
  run(sampler, objective, storage, options);
  EXPECT_EQ(pruner.values_of_the_other, 10u);
}

// Asks follow one another: together they take no longer than the study.
TEST(Study, EachAskIsTimedAlone) {
  struct Slow : Counting {
    using Counting::Counting;
    Proposal ask(const Track& t, std::span<const Trial> trials, int left) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      return Counting::ask(t, trials, left);
    }
  };
  std::vector<std::string> events;
  Slow sampler(events);
  Meeting together(8);
  MemoryStorage storage;
  StudyOptions options = rounds(8);
  options.workers = 8;
  const auto start = std::chrono::steady_clock::now();
  run(sampler, together, storage, options);
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  double proposing = 0;
  for (const Trial& t : storage.trials()) proposing += t.propose_s;
  EXPECT_GE(proposing, 7 * 0.02);
  EXPECT_LE(proposing, took);
}

TEST(Study, GivesUpHopelessTrials) {
  struct Below : Pruner {
    bool hopeless(Direction, std::span<const Trial> trials, const Trial& t) const override {
      EXPECT_GE(trials[static_cast<size_t>(t.number)].intermediate.size(), 1u);
      return t.intermediate.back().value < 13 && t.intermediate.back().step == 2 && t.number > 0;
    }
  } pruner;
  std::vector<std::string> events;
  Counting sampler(events);
  Curve objective;
  MemoryStorage storage;
  StudyOptions options = rounds(3);
  options.pruner = &pruner;
  run(sampler, objective, storage, options);
  const std::vector<Trial> trials = storage.trials();
  EXPECT_EQ(trials[0].state, TrialState::complete);
  EXPECT_EQ(trials[1].state, TrialState::pruned);
  EXPECT_EQ(trials[1].value, 12) << "the last that it reported";
  EXPECT_EQ(trials[1].intermediate.size(), 2u);
  EXPECT_EQ(trials[2].state, TrialState::complete);
  EXPECT_EQ(best_trial(std::span(trials).subspan(1, 1), Direction::maximize), nullptr) << "pruned is not complete";
}

/// Two configurations that somebody left in the storage of a study that has a trial.
struct WithWaiting : MemoryStorage {
  std::optional<Trial> claim_waiting() override {
    if (waiting.empty()) return {};
    Proposal next{{{"x", waiting.back()}}, "enqueued", "", {}};
    waiting.pop_back();
    return running_trial(start(next), next);
  }
  std::vector<int> waiting = {7, 3};
};

TEST(Study, RunsFirstWhatWaits) {
  for (const int rounds : {4, 1}) {
    std::vector<std::string> events;
    Counting sampler(events);
    Identity objective(events);
    WithWaiting storage;
    StudyOptions options;
    options.budget.rounds = rounds;
    EXPECT_EQ(run(sampler, objective, storage, options), StopReason::rounds);
    const std::vector<Trial> trials = storage.trials();
    ASSERT_EQ(trials.size(), rounds == 4 ? 4u : 2u) << "what was asked for is run beyond the rounds";
    EXPECT_EQ(trials[0].value, 3);
    EXPECT_EQ(trials[1].value, 7);
    EXPECT_EQ(trials[1].proposed_by, "enqueued");
    EXPECT_EQ(std::count_if(events.begin(), events.end(), [](auto& e) { return e.starts_with("ask"); }),
              rounds == 4 ? 2 : 0);
    EXPECT_THAT(events, testing::Contains("tell 0"));
  }
}

TEST(Study, EndsWhereTheBudgetEnds) {
  const std::pair<Budget, StopReason> cases[] = {
      {{50, 2.5}, StopReason::seconds}, {{50, 0, 2.5}, StopReason::tokens}, {{50, 0, 0, 2.5}, StopReason::money}};
  for (const auto& [budget, reason] : cases) {
    std::vector<std::string> events;
    Counting sampler(events);
    Identity objective(events);
    MemoryStorage storage;
    StudyOptions options;
    options.budget = budget;
    const auto n = [&] { return static_cast<double>(storage.trials().size()); };
    options.spent = [&] { return Budget{0, n(), n(), n()}; };
    EXPECT_EQ(run(sampler, objective, storage, options), reason);
    EXPECT_EQ(storage.trials().size(), 3u) << to_string(reason);
  }
}

TEST(Study, CountsItsOwnSecondsWithoutOtherWord) {
  struct Slow : Objective {
    Outcome evaluate(const Configuration&, const Report&) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      Outcome o;
      o.value = 1;
      return o;
    }
  } objective;
  std::vector<std::string> events;
  Counting sampler(events);
  MemoryStorage storage;
  StudyOptions options;
  options.budget = {1000, 0.1};
  EXPECT_EQ(run(sampler, objective, storage, options), StopReason::seconds);
  EXPECT_LE(storage.trials().size(), 4u);
}

TEST(Study, StopsWhereHardlyAnyGainIsExpected) {
  struct Modest : Counting {
    using Counting::Counting;
    Proposal ask(const Track& t, std::span<const Trial> trials, int left) override {
      Proposal p = Counting::ask(t, trials, left);
      if (trials.size() >= 4) p.expected_gain = 0.015;
      return p;
    }
  };
  for (const auto& [share, n] : {std::pair(0.001, 4u), std::pair(0.0001, 8u), std::pair(0.0, 8u)}) {
    std::vector<std::string> events;
    Modest sampler(events);
    Identity objective(events);
    MemoryStorage storage;
    StudyOptions options = rounds(8);
    options.negligible_gain = share;
    const StopReason reason = run(sampler, objective, storage, options);
    EXPECT_EQ(reason, n == 4 ? StopReason::no_gain : StopReason::rounds) << share;
    EXPECT_EQ(storage.trials().size(), n) << "5, 10 and 30 so far: 0.015 is under a thousandth of 20";
  }
}

TEST(Study, ATrackOfWhichAllWasTriedEndsBeforeTheOthers) {
  struct Ending : Counting {
    using Counting::Counting;
    Proposal ask(const Track& t, std::span<const Trial> trials, int left) override {
      Proposal p = Counting::ask(t, trials, left);
      p.exhausted = trials.size() >= 3;
      return p;
    }
  };
  for (const int workers : {1, 4}) {
    struct Same : Objective {
      Outcome evaluate(const Configuration&, const Report&) override { return {1.0}; }
    } objective;
    std::vector<std::string> events;
    Ending ending(events);
    MemoryStorage storage;
    StudyOptions options = rounds(8);
    options.workers = workers;
    EXPECT_EQ(run(ending, objective, storage, options), StopReason::exhausted);
    EXPECT_EQ(storage.trials().size(), 3u);
    Counting other(events);
    MemoryStorage first, second;
    const Track one = track(), two = track();
    const StudyTrack tracks[] = {{one, ending, objective, first}, {two, other, objective, second}};
    EXPECT_EQ(run_study(tracks, options), StopReason::rounds);
    EXPECT_EQ(first.trials().size(), 3u);
    EXPECT_EQ(second.trials().size(), 8u);
  }
  EXPECT_EQ(to_string(StopReason::exhausted), "all configurations are tried");
}

TEST(Study, WhatIsNotFiniteIsNeverTheIncumbent) {
  std::vector<Trial> trials(3);
  for (Trial& t : trials) t.value = std::nan("");
  EXPECT_EQ(best_trial(trials, Direction::maximize), nullptr);
  trials[1].value = -4;
  for (const Direction d : {Direction::maximize, Direction::minimize}) EXPECT_EQ(best_trial(trials, d), &trials[1]);
  EXPECT_EQ(best_trial(std::span<const Trial>(), Direction::maximize), nullptr);
  trials[0].value = std::numeric_limits<double>::infinity();
  trials[2].value = -std::numeric_limits<double>::infinity();
  for (const Direction d : {Direction::maximize, Direction::minimize}) EXPECT_EQ(best_trial(trials, d), &trials[1]);
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

Trial pruned_trial() {
  Trial t = failed_trial();
  t.state = TrialState::pruned;
  t.reason = FailReason::none;
  t.message.clear();
  t.value = 0.5;
  t.intermediate = {{1, 0.25}, {10, 0.5}};
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
  std::vector<Trial> trials = {failed_trial(), complete_trial(), pruned_trial(), complete_trial()};
  trials.back().more_values = {2, 3.5};
  trials.push_back(running_trial(3, {{{"x", 1}}, "agent", "why", {}}));
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
    EXPECT_EQ(read.more_values, t.more_values);
    EXPECT_EQ(to_json(read), to_json(t));
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
