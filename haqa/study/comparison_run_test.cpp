#include "haqa/study/comparison_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Uniform; "better" only among the upper half.
struct Drawing : Sampler {
  Drawing(std::string name, uint64_t seed) : method(std::move(name)), random(seed) {}
  Proposal ask(const Track&, std::span<const Trial>, int) override {
    return {{{"x", std::uniform_real_distribution<double>(method == "better" ? 0.5 : 0, 1)(random)}}, method, ""};
  }
  std::string method;
  std::mt19937_64 random;
};

std::unique_ptr<Sampler> make(const std::string& method, uint64_t seed) {
  return std::make_unique<Drawing>(method, seed);
}

/// The value is x; fails near 0.4; counts its calls, and ends all of them after `left`.
struct Slope : Objective {
  explicit Slope(int limit = 1'000'000) : left(limit) {}
  Outcome evaluate(const Configuration& c, const Report&) override {
    const std::scoped_lock lock(mutex);
    if (left-- <= 0) throw Interrupted("as at Ctrl-C");
    ++calls;
    Outcome o;
    const double x = c["x"];
    if (x > 0.35 && x < 0.45) {
      o.reason = FailReason::crashed;
      o.message = "bang";
    } else {
      o.value = x;
    }
    return o;
  }
  int left, calls = 0;
  std::mutex mutex;
};

Track track() {
  Track t;
  t.name = "slope";
  t.value_name = "x";
  t.space = SearchSpace({real_parameter("x", 0, 1, 0.1, "")});
  return t;
}

ComparisonPlan plan(std::filesystem::path file = {}) {
  ComparisonPlan p;
  p.methods = {"random", "better"};
  p.seeds = 6;
  p.rounds = 5;
  p.file = std::move(file);
  return p;
}

/// All but the times.
std::string text_of(const std::vector<MethodRun>& runs) {
  std::string text;
  for (const MethodRun& r : runs) {
    text += fmt::format("{} {}:", r.method, r.seed);
    for (const Trial& t : r.trials)
      text += fmt::format(" {} {} {}", t.number, t.configuration.dump(), t.value.value_or(-1));
    text += "\n";
  }
  return text;
}

TEST(ComparisonRun, GivesAllMethodsTheSameStartAndBudget) {
  Slope objective;
  std::vector<std::string> order;
  const auto runs =
      run_comparison(plan(), track(), objective, make, [&](const std::string& m, uint64_t seed, const Trial& t) {
        if (seed == 0) order.push_back(fmt::format("{} {}", m, t.number));
      });
  ASSERT_EQ(runs.size(), 12u);
  for (const MethodRun& r : runs) {
    EXPECT_EQ(r.trials.size(), 5u);
    EXPECT_EQ(r.trials[0].configuration["x"], 0.1);
  }
  EXPECT_EQ(objective.calls, 6 * (1 + 2 * 4)) << "the first trial once a seed";
  EXPECT_THAT(order, ElementsAre("random 0", "better 0", "random 1", "better 1", "random 2", "better 2", "random 3",
                                 "better 3", "random 4", "better 4"));
  const MethodComparison c = compare_methods(runs, Direction::maximize);
  EXPECT_EQ(c.methods[0].method, "better");
  EXPECT_EQ(c.blocks, 6);
}

/// Writes down what it is told.
struct Told : Drawing {
  Told(const std::string& name, uint64_t seed, std::string& all) : Drawing(name, seed), told(all) {}
  void tell(const Track&, const Trial& t) override { told += fmt::format(" {} {},", method, t.number); }
  std::string& told;
};

TEST(ComparisonRun, TellsEachTrialOnce) {
  Slope objective;
  std::string told;
  ComparisonPlan p = plan();
  p.seeds = 1;
  p.rounds = 2;
  run_comparison(p, track(), objective,
                 [&](const std::string& method, uint64_t seed) { return std::make_unique<Told>(method, seed, told); });
  EXPECT_EQ(told, " random 0, better 0, random 1, better 1,");
}

TEST(ComparisonRun, IsReproducible) {
  Slope a, b;
  EXPECT_EQ(text_of(run_comparison(plan(), track(), a, make)), text_of(run_comparison(plan(), track(), b, make)));
}

// Killed after every possible number of measurements, it goes on and measures nothing twice.
TEST(ComparisonRun, GoesOnWhereItWasKilled) {
  for (const int calls : {0, 1, 2, 3, 9, 10, 30, 53}) {
    const TemporaryFolder folder;
    Slope killed(calls), rest;
    EXPECT_THROW(run_comparison(plan(folder / "c.jsonl"), track(), killed, make), Interrupted) << calls;
    const auto runs = run_comparison(plan(folder / "c.jsonl"), track(), rest, make);
    EXPECT_EQ(killed.calls + rest.calls, 54) << calls;
    ASSERT_EQ(runs.size(), 12u);
    for (const MethodRun& r : runs) EXPECT_EQ(r.trials.size(), 5u);
    Slope none(0);
    EXPECT_EQ(text_of(run_comparison(plan(folder / "c.jsonl"), track(), none, make)), text_of(runs)) << "all is kept";
    const StoredComparison stored = read_comparison(folder / "c.jsonl");
    EXPECT_EQ(text_of(stored.runs), text_of(runs));
    EXPECT_EQ(stored.value_name, "x");
    EXPECT_EQ(stored.direction, Direction::maximize);
  }
}

TEST(ComparisonRun, GrowsByMethodsSeedsAndRounds) {
  const TemporaryFolder folder;
  ComparisonPlan p = plan(folder / "c.jsonl");
  Slope small, grown, none(0);
  const std::string before = text_of(run_comparison(p, track(), small, make));
  p.methods.push_back("third");
  p.seeds = 7;
  p.rounds = 6;
  const auto runs = run_comparison(p, track(), grown, make);
  EXPECT_EQ(runs.size(), 21u);
  EXPECT_EQ(grown.calls, 6 * (1 + 1 + 5) + 1 + 3 * 5) << "old seeds: a round for each old method, five for the third";
  EXPECT_EQ(text_of(run_comparison(plan(folder / "c.jsonl"), track(), none, make)), before) << "fewer are a part";
}

TEST(ComparisonRun, CutsAnUnfinishedLine) {
  const TemporaryFolder folder;
  Slope killed(10), rest;
  EXPECT_THROW(run_comparison(plan(folder / "c.jsonl"), track(), killed, make), Interrupted);
  std::ofstream(folder / "c.jsonl", std::ios::app) << R"({"method":"random","se)";
  EXPECT_EQ(read_comparison(folder / "c.jsonl").runs.size(), 4u);
  run_comparison(plan(folder / "c.jsonl"), track(), rest, make);
  EXPECT_EQ(killed.calls + rest.calls, 54);
}

TEST(ComparisonRun, ManyWorkersGiveEveryMethodItsRounds) {
  const TemporaryFolder folder;
  ComparisonPlan p = plan(folder / "c.jsonl");
  p.workers = 4;
  Slope killed(20), rest;
  EXPECT_THROW(run_comparison(p, track(), killed, make), Interrupted);
  for (const MethodRun& r : run_comparison(p, track(), rest, make)) {
    ASSERT_EQ(r.trials.size(), 5u);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(r.trials[static_cast<size_t>(i)].number, i);
  }
}

/// As Slope, and slow where the value is low: a later trial ends before an earlier one.
struct Uneven : Slope {
  using Slope::Slope;
  Outcome evaluate(const Configuration& c, const Report& report) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(static_cast<int>(30 * (1 - c["x"].get<double>()))));
    return Slope::evaluate(c, report);
  }
};

// The best so far after a round must not depend on who ended first, or a file and its run would differ.
TEST(ComparisonRun, AFileHasTheTrialsInTheOrderOfTheirStart) {
  const TemporaryFolder folder;
  ComparisonPlan p = plan(folder / "c.jsonl");
  p.workers = 4;
  p.seeds = 2;
  p.rounds = 12;
  Uneven killed(20), rest;
  EXPECT_THROW(run_comparison(p, track(), killed, make), Interrupted);
  const auto runs = run_comparison(p, track(), rest, make);
  EXPECT_EQ(text_of(read_comparison(p.file).runs), text_of(runs));
  p.rounds = 16;  // further ones come after all those that were kept
  const auto more = run_comparison(p, track(), rest, make);
  EXPECT_EQ(text_of(read_comparison(p.file).runs), text_of(more));
  for (size_t i = 0; i < runs.size(); ++i)
    for (size_t j = 0; j < 12; ++j) EXPECT_EQ(more[i].trials[j].configuration, runs[i].trials[j].configuration);
}

// What a method's results depend on: of one file all that it made must be of the same kind.
TEST(ComparisonRun, BindsAMethodToItsSettings) {
  const TemporaryFolder folder;
  Slope objective;
  ComparisonPlan p = plan(folder / "c.jsonl");
  p.seeds = 1;
  run_comparison(p, track(), objective, make);
  p.methods.push_back("agent");
  p.settings_of["agent"] = {{"provider", "expert"}};
  EXPECT_EQ(run_comparison(p, track(), objective, make).size(), 3u) << "a method may come later";
  const int calls = objective.calls;
  EXPECT_EQ(text_of(run_comparison(p, track(), objective, make)), text_of(read_comparison(p.file).runs));
  EXPECT_EQ(objective.calls, calls);
  p.seeds = 2;
  p.settings_of["agent"] = {{"provider", "openai"}, {"model", "X"}};
  try {
    run_comparison(p, track(), objective, make);
    ADD_FAILURE() << "both would be one agent";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::AllOf(HasSubstr("agent"), HasSubstr("expert"), HasSubstr("name another file")));
  }
  p.methods.pop_back();
  EXPECT_EQ(run_comparison(p, track(), objective, make).size(), 4u) << "the others do not mind";
}

std::string fault(const std::filesystem::path& file, const std::string& content, const ComparisonPlan& p) {
  std::ofstream(file) << content;
  try {
    Slope objective;
    run_comparison(p, track(), objective, make);
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

TEST(ComparisonRun, RefusesAFileOfSomethingElse) {
  const TemporaryFolder folder;
  const auto file = folder / "c.jsonl";
  ComparisonPlan p = plan(file), other = plan(file);
  other.settings = {{"command", "./other"}};
  EXPECT_EQ(fault(file, "", p), "none");
  const std::string good = read_file(file), head = good.substr(0, good.find('\n') + 1);
  EXPECT_THAT(fault(file, good, other), HasSubstr("another search space, goal or setting"));
  EXPECT_THAT(fault(file, "{}\n", p), HasSubstr("c.jsonl:1: is damaged (it does not begin"));
  EXPECT_THAT(fault(file, head + "rubbish\n", p), HasSubstr("c.jsonl:2: is damaged"));
  EXPECT_THAT(fault(file,
                    head + R"({"method":"random","seed":0,"trial":{}})"
                           "\n",
                    p),
              HasSubstr("has no \"number\""));
  EXPECT_THAT(fault(file,
                    head + R"({"method":"random","seed":"x","trial":{}})"
                           "\n",
                    p),
              HasSubstr("c.jsonl:2"));
  EXPECT_EQ(fault(file, head + "{\"method\":", p), "none");
  std::ofstream(file) << "";
  EXPECT_THROW(read_comparison(file), Error);
  EXPECT_THROW(read_comparison(folder / "none"), Error);
}

}  // namespace
}  // namespace haqa
