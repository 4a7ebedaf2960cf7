#include "haqa/study/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// null: failed.
std::vector<Trial> trials_of(const Json& values) {
  std::vector<Trial> trials;
  for (const Json& v : values) {
    Trial t;
    t.number = static_cast<int>(trials.size());
    t.state = v.is_null() ? TrialState::failed : TrialState::complete;
    if (!v.is_null()) t.value = v.get<double>();
    t.propose_s = 0.25;
    t.evaluate_s = 2;
    trials.push_back(t);
  }
  return trials;
}

const MethodSummary& method(const MethodComparison& c, const std::string& name) {
  return *std::find_if(c.methods.begin(), c.methods.end(), [&](const MethodSummary& m) { return m.method == name; });
}

void expect_near(double got, const Json& want, const std::string& what) {
  if (want.is_null()) {
    EXPECT_TRUE(std::isnan(got)) << what;
  } else {
    EXPECT_LE(std::abs(got - want.get<double>()), 1e-12 * std::max(1.0, std::abs(got))) << what;
  }
}

void expect_summary(const MethodSummary& got, const Json& want) {
  expect_near(got.mean, want["mean"], "mean");
  expect_near(got.deviation, want["deviation"], "deviation");
  expect_near(got.median, want["median"], "median");
  expect_near(got.mean_rank, want["mean_rank"], "mean_rank");
  EXPECT_EQ(got.failures, want["failures"].get<int>());
  EXPECT_EQ(got.without_value, want["without_value"].get<int>());
  ASSERT_EQ(got.curve.size(), want["curve_mean"].size());
  for (size_t i = 0; i < got.curve.size(); ++i) {
    EXPECT_EQ(got.curve[i].seeds, want["curve_seeds"][i].get<int>()) << i;
    expect_near(got.curve[i].mean, want["curve_mean"][i], "curve");
  }
  ASSERT_EQ(got.versus.has_value(), want.contains("p"));
  if (!got.versus) return;
  EXPECT_EQ(got.versus->wins, want["wins"].get<int>());
  EXPECT_EQ(got.versus->ties, want["ties"].get<int>());
  EXPECT_EQ(got.versus->losses, want["losses"].get<int>());
  expect_near(got.versus->gain.median, want["gain"], "gain");
  expect_near(got.versus->p, want["p"], "p");
  expect_near(got.versus->p_holm, want["p_holm"], "p_holm");
}

// NumPy, SciPy and statsmodels: tests/golden/comparison.py.
TEST(Comparison, AgreesWithScipy) {
  const Json golden = read_json(HAQA_SOURCE_DIR "/tests/golden/comparison.json");
  ASSERT_EQ(golden["cases"].size(), 4u);
  for (const Json& c : golden["cases"]) {
    std::vector<MethodRun> runs;
    for (const auto& [name, all] : c["runs"].items())
      for (const Json& values : all) runs.push_back({name, runs.size() % all.size(), trials_of(values)});
    const MethodComparison got =
        compare_methods(runs, c["direction"] == "maximize" ? Direction::maximize : Direction::minimize);
    EXPECT_EQ(got.reference, "random");
    expect_near(got.friedman.statistic, c["friedman"][0], "friedman");
    expect_near(got.friedman.p, c["friedman"][1], "friedman");
    for (const auto& [name, want] : c["methods"].items()) {
      SCOPED_TRACE(c["name"].get<std::string>() + ": " + name);
      expect_summary(method(got, name), want);
    }
  }
}

TEST(Comparison, FailedTrialsCarryTheIncumbentOn) {
  const std::vector<Trial> trials = trials_of({nullptr, 3, nullptr, 2, 5, nullptr});
  using Value = std::optional<double>;
  EXPECT_THAT(best_so_far(trials, Direction::maximize), ElementsAre(Value(), 3, 3, 3, 5, 5));
  EXPECT_THAT(best_so_far(trials, Direction::minimize), ElementsAre(Value(), 3, 3, 2, 2, 2));
  EXPECT_TRUE(best_so_far({}, Direction::minimize).empty());
}

TEST(Comparison, IsQuickWithManyTrials) {
  std::vector<Trial> trials(100'000);
  for (size_t i = 0; i < trials.size(); ++i) trials[i].value = std::sin(static_cast<double>(i));
  const auto start = std::chrono::steady_clock::now();
  const auto best = best_so_far(trials, Direction::minimize);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_EQ(best[0], 0.0);
  EXPECT_EQ(best.back(), best_trial(trials, Direction::minimize)->value);
}

TEST(Comparison, ChecksMethodsBeforeTheyRun) {
  EXPECT_NO_THROW(check_methods({"a", "random"}, ""));
  EXPECT_NO_THROW(check_methods({"a", "b"}, "b"));
  EXPECT_THROW(check_methods({"a", "b"}, "c"), UsageError);
  EXPECT_THROW(check_methods({"a", "b", "a"}, ""), UsageError);
}

// a ran three seeds, b two of them and one of its own; only the two that both ran are compared.
TEST(Comparison, ComparesTheSeedsThatBothRan) {
  const std::vector<MethodRun> runs = {{"a", 0, trials_of({1, 4})},    {"a", 1, trials_of({2})},
                                       {"a", 2, trials_of({9, 9})},    {"b", 0, trials_of({5, 1})},
                                       {"b", 1, trials_of({nullptr})}, {"b", 3, trials_of({0, 0, 0})}};
  const MethodComparison c = compare_methods(runs, Direction::maximize);
  EXPECT_EQ(c.reference, "a") << "without random the first";
  EXPECT_EQ(c.blocks, 2);
  EXPECT_EQ(c.rounds, 3);
  EXPECT_EQ(c.left_out, 0);
  EXPECT_EQ(method(c, "a").mean_rank, 1.5);
  EXPECT_EQ(method(c, "a").mean, 5) << "of 4, 2 and 9: a short run counts with its last";
  EXPECT_EQ(method(c, "b").mean, 2.5) << "of 5 and 0";
  EXPECT_EQ(method(c, "b").without_value, 1);
  EXPECT_EQ(method(c, "b").failures, 1);
  EXPECT_EQ(method(c, "b").versus->wins, 1);
  EXPECT_EQ(method(c, "b").versus->losses, 1) << "a seed without a value loses";
  EXPECT_EQ(method(c, "a").evaluations, 5);
  EXPECT_EQ(method(c, "a").propose_s, 1.25);
  EXPECT_EQ(method(c, "a").evaluate_s, 10);
  EXPECT_TRUE(std::isnan(c.friedman.p));
}

// Forty trials against five would say nothing of the methods.
TEST(Comparison, ComparesEqualBudgetsAlone) {
  const std::vector<MethodRun> runs = {{"random", 0, trials_of({1, 4})},    {"random", 1, trials_of({3, 3})},
                                       {"random", 2, trials_of({2, 2, 2})}, {"sobol", 0, trials_of({1, 2, 9, 9})},
                                       {"sobol", 1, trials_of({5})},        {"sobol", 2, trials_of({2, 2, 2})}};
  const MethodComparison c = compare_methods(runs, Direction::maximize);
  EXPECT_EQ(c.rounds, 3);
  EXPECT_EQ(c.left_out, 3) << "two of sobol's with seed 0, one of random's with seed 1";
  EXPECT_EQ(method(c, "sobol").versus->wins, 1) << "5 against 3";
  EXPECT_EQ(method(c, "sobol").versus->losses, 1) << "2 against 4";
  EXPECT_EQ(method(c, "sobol").versus->ties, 1);
  EXPECT_EQ(method(c, "sobol").mean, 3) << "of 2, 5 and 2";
  EXPECT_EQ(method(c, "random").evaluations, 6);
  EXPECT_EQ(method(c, "sobol").evaluations, 6);
  EXPECT_EQ(to_json(c)["left_out"], 3);
}

TEST(Comparison, SumsTokensAndCostWhereTheTrialsTell) {
  std::vector<MethodRun> runs = {{"agent", 0, trials_of({1, 2})}, {"random", 0, trials_of({1, 2})}};
  runs[0].trials[0].metrics = {{"prompt_tokens", 100}, {"completion_tokens", 20}, {"cost_usd", 0.5}};
  runs[0].trials[1].metrics = {{"prompt_tokens", 200}, {"cost_usd", "rubbish"}};
  const MethodComparison c = compare_methods(runs, Direction::maximize);
  EXPECT_EQ(method(c, "agent").tokens, 320);
  EXPECT_EQ(method(c, "agent").cost_usd, 0.5);
  EXPECT_EQ(method(c, "random").tokens, std::nullopt);
}

std::string fault(const std::vector<MethodRun>& runs, const std::string& reference) {
  try {
    compare_methods(runs, Direction::maximize, reference);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "none";
}

TEST(Comparison, NamesWhatCannotBeCompared) {
  const MethodRun a{"a", 0, trials_of({1})}, b{"b", 0, trials_of({1})};
  EXPECT_THAT(fault({}, ""), HasSubstr("no run"));
  EXPECT_THAT(fault({a, b}, "c"), HasSubstr("choose one of a, b"));
  EXPECT_THAT(fault({a, b, a}, ""), HasSubstr("two runs of a have the seed 0"));
  EXPECT_EQ(fault({a}, ""), "none");
  EXPECT_EQ(fault({{"a", 0, {}}, {"b", 0, {}}}, ""), "none") << "runs that have not begun";
}

TEST(Comparison, WritesCsv) {
  const std::vector<MethodRun> runs = {{"a,b", 7, trials_of({nullptr, 2.5})}, {"random", 7, trials_of({1, nullptr})}};
  EXPECT_EQ(curves_csv(runs, Direction::minimize),
            "method,seed,round,value,best\n\"a,b\",7,1,,\n\"a,b\",7,2,2.5,2.5\nrandom,7,1,1,1\nrandom,7,2,,1\n");
  EXPECT_EQ(summary_csv(compare_methods(runs, Direction::minimize)),
            "method,seeds,mean,sd,median,mean_rank,wins,ties,losses,gain,gain_low,gain_high,p,p_holm,evaluations,"
            "failures,seeds_without_value,propose_s,evaluate_s,tokens,cost_usd\n"
            "random,1,1,0,1,1,,,,,,,,,2,1,0,0.5,4,,\n"
            "\"a,b\",1,2.5,0,2.5,2,0,0,1,-1.5,-1.5,-1.5,1,1,2,1,0,0.5,4,,\n");
}

TEST(Comparison, WritesJsonWithoutNan) {
  const std::vector<MethodRun> runs = {{"a", 0, trials_of({nullptr})}, {"b", 1, trials_of({1})}};
  const Json json = to_json(compare_methods(runs, Direction::minimize));
  EXPECT_TRUE(json["methods"][0]["mean"].is_null());
  EXPECT_TRUE(json["methods"][1]["versus"]["p"].is_null()) << "no seed in common";
  EXPECT_EQ(Json::parse(json.dump()), json);
}

}  // namespace
}  // namespace haqa
