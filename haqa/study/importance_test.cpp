#include "haqa/study/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <random>

#include "haqa/base/temporary_folder.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

using testing::HasSubstr;

SearchSpace space_of(const Json& parameters) {
  const TemporaryFolder folder;
  std::ofstream(folder / "space.json") << parameters.dump();
  return read_space(folder / "space.json");
}

Trial trial_of(Configuration configuration, std::optional<double> value, TrialState state = TrialState::complete) {
  Trial t;
  t.configuration = std::move(configuration);
  t.value = value;
  t.state = state;
  return t;
}

Trial golden_trial(const Json& json) {
  const std::string state = json["state"];
  if (state == "failed") return trial_of(json["configuration"], std::nullopt, TrialState::failed);
  const double value = json["value"].is_null() ? std::numeric_limits<double>::infinity() : json["value"].get<double>();
  return trial_of(json["configuration"], value, state == "pruned" ? TrialState::pruned : TrialState::complete);
}

Direction direction_of(const Json& c) {
  return c["direction"] == "minimize" ? Direction::minimize : Direction::maximize;
}

// PedAnovaImportanceEvaluator of Optuna 5.0.0, as tests/golden/importance.py ran it.
TEST(Importance, AgreesWithOptuna) {
  const Json golden = read_json(HAQA_SOURCE_DIR "/tests/golden/importance.json");
  ASSERT_EQ(golden["cases"].size(), 10u);
  for (const Json& c : golden["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    std::vector<Trial> trials;
    for (const Json& t : c["trials"]) trials.push_back(golden_trial(t));
    const Importance got =
        importance(space_of(c["space"]), trials, direction_of(c), {.target_quantile = c["quantile"], .shuffles = 0});
    ASSERT_EQ(got.parameters.size(), c["values"].size());
    auto want = c["values"].items().begin();  // Optuna's order too
    for (const ParameterImportance& p : got.parameters) {
      const double value = c["values"].at(p.name);
      EXPECT_LE(std::abs(p.divergence - value), 1e-9 * value) << p.name;
      EXPECT_LE(std::abs(p.share - c["shares"].at(p.name).get<double>()), 1e-9) << p.name;
      EXPECT_EQ(p.name, value > 0 ? want.key() : p.name);
      ++want;
    }
  }
}

/// 5 a + 2 b + c, each from 0 to 1, and d, which does nothing.
std::vector<Trial> additive(int n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<Trial> trials;
  for (int i = 0; i < n; ++i) {
    const double a = uniform(random), b = uniform(random), c = uniform(random), d = uniform(random);
    trials.push_back(trial_of({{"d", d}, {"c", c}, {"b", b}, {"a", a}}, 5 * a + 2 * b + c));
  }
  return trials;
}

SearchSpace unit_space() {
  std::vector<Parameter> parameters;
  for (const char* name : {"d", "c", "b", "a"}) parameters.push_back(real_parameter(name, 0, 1, 0.5, ""));
  return SearchSpace(parameters);
}

TEST(Importance, FindsTheKnownOrder) {
  const Importance got = importance(unit_space(), additive(2000, 1), Direction::maximize);
  std::string order;
  for (const ParameterImportance& p : got.parameters) order += p.name;
  EXPECT_EQ(order, "abcd");
  EXPECT_TRUE(got.parameters[0].stands_out() && got.parameters[1].stands_out() && got.parameters[2].stands_out());
  EXPECT_EQ(got.best, 200);
  EXPECT_EQ(got.caution, "");
}

TEST(Importance, TwentyTrialsFindTheFirst) {
  int first = 0, stood_out = 0, by_chance = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const Importance got = importance(unit_space(), additive(20, seed), Direction::maximize, {.shuffles = 100});
    first += got.parameters[0].name == "a";
    for (const ParameterImportance& p : got.parameters) {
      stood_out += p.name == "a" && p.stands_out();
      by_chance += p.name == "d" && p.stands_out();
    }
  }
  EXPECT_GE(first, 92);
  EXPECT_GE(stood_out, 92);
  EXPECT_LE(by_chance, 14) << "about 5 of 100 by chance";
}

TEST(Importance, SaysWhereTrialsAreTooFew) {
  const std::pair<int, const char*> cases[] = {{0, "too few"}, {1, "too few"}, {7, "too few"},
                                               {8, "a hint"},  {29, "a hint"}, {30, ""}};
  for (const auto& [n, caution] : cases) {
    const Importance got = importance(unit_space(), additive(n, 3), Direction::maximize);
    EXPECT_THAT(got.caution, HasSubstr(caution)) << n;
    EXPECT_EQ(got.caution.empty(), n >= 30) << n;
    EXPECT_EQ(got.parameters.size(), n < 8 ? 0u : 4u) << n;
  }
}

// Of a text it counts whether it was changed.
TEST(Importance, ATextThatWasChanged) {
  const SearchSpace space({text_parameter("code", 100, ""), boolean_parameter("flag", false, "")});
  std::vector<Trial> trials;
  for (int i = 0; i < 40; ++i)
    trials.push_back(trial_of({{"code", i % 4 ? "" : "version " + std::to_string(i)}, {"flag", i % 3 == 0}},
                              (i % 4 ? 0 : 10) + 0.001 * i));
  const Importance got = importance(space, trials, Direction::maximize);
  ASSERT_EQ(got.parameters.size(), 2u);
  EXPECT_EQ(got.parameters[0].name, "code");
  EXPECT_TRUE(got.parameters[0].stands_out());
}

TEST(Importance, FailedTrialsDoNotCount) {
  std::vector<Trial> trials = additive(40, 5);
  const Json clean = to_json(importance(unit_space(), trials, Direction::maximize));
  for (const TrialState state : {TrialState::failed, TrialState::running, TrialState::pruned})
    trials.push_back(trial_of({{"a", 0.0}, {"b", 0.0}, {"c", 0.0}, {"d", 0.0}}, 99.0, state));
  trials.push_back(trial_of({{"a", 0.0}}, std::nan("")));
  trials.push_back(trial_of({{"a", 0.0}}, std::nullopt));
  EXPECT_EQ(to_json(importance(unit_space(), trials, Direction::maximize)), clean);
}

// Of another space or a damaged log: a value of another type is none, a number out of range counts at its end.
TEST(Importance, StandsConfigurationsOfAnotherSpace) {
  std::vector<Trial> trials = additive(20, 5);
  trials[0].configuration = {{"a", "rubbish"}, {"b", nullptr}, {"c", 1e300}, {"d", -1e300}};
  trials[1].configuration = Json::object();
  trials[2].configuration = {{"a", std::nan("")}, {"e", 3}};
  for (const ParameterImportance& p : importance(unit_space(), trials, Direction::maximize).parameters)
    EXPECT_TRUE(std::isfinite(p.divergence) && std::isfinite(p.chance)) << p.name;
}

TEST(Importance, EqualValuesLeaveNothingImportant) {
  std::vector<Trial> trials = additive(20, 5);
  for (Trial& t : trials) t.value = 1;
  for (const ParameterImportance& p : importance(unit_space(), trials, Direction::maximize).parameters) {
    EXPECT_NEAR(p.divergence, 0, 1e-12);
    EXPECT_FALSE(p.stands_out());
  }
}

TEST(Importance, WritesCsvAndJson) {
  const Importance some{{{"a,b", 0.5, 1, 0.25}, {"c", 0, 0, 0.125}}, 20, 10, "few"};
  EXPECT_EQ(to_csv(some), "parameter,divergence,share,chance\n\"a,b\",0.5,1,0.25\nc,0,0,0.125\n");
  EXPECT_EQ(to_json(some).dump(),
            R"({"trials":20,"best":10,"caution":"few","parameters":[{"name":"a,b","divergence":0.5,"share":1.0,)"
            R"("chance":0.25,"stands_out":true},{"name":"c","divergence":0.0,"share":0.0,"chance":0.125,)"
            R"("stands_out":false}]})");
}

}  // namespace
}  // namespace haqa
