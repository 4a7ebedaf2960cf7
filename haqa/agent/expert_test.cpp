#include "haqa/agent/expert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <random>

#include "haqa/agent/agent_sampler.h"
#include "haqa/agent/agent_test_support.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

using testing::HasSubstr;

TEST(Expert, ProposesValidNewConfigurationsByRuleThenSurrogate) {
  const Track t = track();
  const auto expert = make_expert(std::filesystem::path(HAQA_SOURCE_DIR) / "data/priors", 1);
  EXPECT_EQ(expert->name(), "expert");
  AgentSampler sampler(*expert, prompts(), {});
  std::vector<Trial> trials;
  std::vector<std::string> thoughts;
  for (int i = 0; i < 25; ++i) {
    Trial trial;
    trial.number = i;
    const Proposal p = i == 0 ? Proposal{t.space.defaults(), "", ""} : sampler.ask(t, trials, 25 - i);
    if (i > 0) {
      EXPECT_EQ(p.proposed_by, "expert");
    }
    EXPECT_EQ(t.space.problem(p.configuration), std::nullopt);
    EXPECT_FALSE(tried_hashes(t.space, trials).contains(t.space.hash(p.configuration)));
    trial.configuration = p.configuration;
    if (trial.configuration["threads"] != 8) trial.value = trial.configuration["flash_attention"] == "on" ? 1.2 : 1.0;
    thoughts.push_back(p.thought);
    trials.push_back(trial);
  }
  EXPECT_EQ(trials[1].configuration["threads"], 8) << "the first rule that this space has";
  EXPECT_THAT(thoughts[2], HasSubstr("failed"));
  EXPECT_EQ(trials[2].configuration["threads"], 4) << "what failed is not the base of the next";
  EXPECT_EQ(trials[2].configuration["flash_attention"], "on");
  EXPECT_EQ(trials[3].configuration["flash_attention"], "on") << "the incumbent is";
  EXPECT_THAT(thoughts.back(), HasSubstr("Gaussian process"));
}

TEST(Expert, EveryShippedRuleNamesItsSource) {
  int rules = 0;
  for (const std::filesystem::path& file : json_files(std::filesystem::path(HAQA_SOURCE_DIR) / "data/priors"))
    for (const Json& rule : read_json(file).value("rules", Json::array())) {
      EXPECT_GT(rule["source"].get<std::string>().size(), 10u) << rule;
      ++rules;
    }
  EXPECT_GE(rules, 12);
}

std::filesystem::path priors() {
  return std::filesystem::path(HAQA_SOURCE_DIR) / "data/priors";
}

/// The run-time space of haqa/deploy, which the agent does not link.
Track runtime_track() {
  Track t;
  t.name = "runtime";
  t.value_name = "speedup";
  t.space = SearchSpace(
      {integer_parameter("threads", 1, 8, 4, ""), integer_parameter("threads_batch", 1, 8, 4, ""),
       categorical_parameter("affinity", {"none", "pinned"}, "none", ""),
       categorical_parameter("polling", {"default", "active", "passive"}, "default", ""),
       integer_parameter("batch", 32, 4096, 2048, "", true), integer_parameter("ubatch", 32, 2048, 512, "", true),
       categorical_parameter("flash_attention", {"auto", "on", "off"}, "auto", ""),
       categorical_parameter("cache_type_k", {"f16", "bf16", "q8_0", "q4_0"}, "f16", ""),
       categorical_parameter("cache_type_v", {"f16", "bf16", "q8_0", "q4_0"}, "f16", ""),
       categorical_parameter("load_mode", {"auto", "none", "mmap+mlock"}, "auto", ""),
       boolean_parameter("repack", true, ""), categorical_parameter("gguf_type", {"Q4_0", "IQ4_NL"}, "Q4_0", "")},
      {Expression("ubatch <= batch"), Expression("flash_attention != 'off' or cache_type_v in ['f16', 'bf16']")});
  return t;
}

/// Runs the expert for `rounds` on an objective: nothing is a failure.
std::vector<Trial> study(const Track& track, uint64_t seed, int rounds,
                         const std::function<std::optional<double>(const Configuration&)>& objective) {
  const auto expert = make_expert(priors(), seed);
  AgentSampler sampler(*expert, prompts(), {}, [](const AgentEvent& e) { ADD_FAILURE() << e.kind << e.detail; });
  std::vector<Trial> trials;
  for (int i = 0; i < rounds; ++i) {
    Trial t;
    t.number = i;
    const Proposal p = i == 0 ? Proposal{track.space.defaults(), "expert", ""} : sampler.ask(track, trials, rounds - i);
    EXPECT_EQ(p.proposed_by, "expert");
    EXPECT_EQ(track.space.problem(p.configuration), std::nullopt) << p.configuration;
    EXPECT_FALSE(tried_hashes(track.space, trials).contains(track.space.hash(p.configuration))) << p.configuration;
    t.configuration = p.configuration;
    t.thought = p.thought;
    t.value = objective(t.configuration);
    if (!t.value) t.reason = FailReason::crashed;
    t.state = t.value ? TrialState::complete : TrialState::failed;
    trials.push_back(std::move(t));
  }
  return trials;
}

// The names of what differs.
std::vector<std::string> changes(const Configuration& a, const Configuration& b) {
  std::vector<std::string> names;
  for (const auto& [name, value] : a.items())
    if (b.at(name) != value) names.push_back(name);
  return names;
}

TEST(Expert, NeverProposesAnInvalidOrTriedConfiguration) {
  for (const uint64_t seed : {1, 2, 3}) {
    std::mt19937_64 noise(seed);
    study(runtime_track(), seed, 30, [&](const Configuration& c) -> std::optional<double> {
      if (c["flash_attention"] == "off" || c["ubatch"] > 1024) return std::nullopt;
      return 1 + 0.05 * c["threads"].get<int>() + std::uniform_real_distribution<double>(0, 0.1)(noise);
    });
  }
}

TEST(Expert, EachRuleIsTriedOnTheIncumbentInOrder) {
  const auto trials = study(runtime_track(), 1, 13, [](const Configuration& c) {
    double value = 1;
    if (c["threads"] == 8) value -= 0.3;  // the rule that does harm is taken back
    if (c["flash_attention"] == "on") value += 0.2;
    if (c["affinity"] == "pinned") value += 0.1;
    return value;
  });
  // By hand from data/priors/runtime.json; "Q4_0" is the default here, so that its rule has been judged by round 1.
  const std::pair<const char*, Json> rules[] = {
      {"threads_batch", 8},     {"threads", 8},         {"gguf_type", "IQ4_NL"}, {"flash_attention", "on"},
      {"polling", "active"},    {"affinity", "pinned"}, {"ubatch", 128},         {"threads", 2},
      {"cache_type_k", "q8_0"}, {"load_mode", "none"},  {"repack", false}};
  size_t round = 1;
  for (const auto& [parameter, value] : rules) {
    const Trial& t = trials[round];
    const Trial* best = best_trial(std::span(trials).first(round), Direction::maximize);
    EXPECT_EQ(t.configuration[parameter], value) << round;
    EXPECT_THAT(changes(t.configuration, best->configuration), testing::ElementsAre(parameter)) << round;
    EXPECT_THAT(t.thought, HasSubstr(fmt::format("I change {} from {} to {}", parameter,
                                                 best->configuration[parameter].dump(), value.dump())));
    ++round;
  }
  EXPECT_THAT(trials[round].thought, Not(HasSubstr("Next I change")));
  EXPECT_THAT(trials[1].thought, HasSubstr("The defaults give 1.000."));
  EXPECT_THAT(trials[3].thought, HasSubstr("The last change gave 0.700, no better than 1.000 in round 1."));
  EXPECT_THAT(trials[5].thought, HasSubstr("The last change helped: 1.200 is the best so far."));
}

TEST(Expert, AFailedValueIsNotTriedAgain) {
  const auto fails = [](const Configuration& c) { return c["affinity"] == "pinned" || c["ubatch"] == 128; };
  const auto trials = study(runtime_track(), 1, 12, [&](const Configuration& c) -> std::optional<double> {
    if (fails(c)) return std::nullopt;
    return 1.0;
  });
  EXPECT_EQ(std::count_if(trials.begin(), trials.end(), [&](const Trial& t) { return fails(t.configuration); }), 2);
}

TEST(Expert, MinimizesToo) {
  Track t = runtime_track();
  t.direction = Direction::minimize;
  const auto trials = study(t, 1, 4, [](const Configuration& c) { return 1.0 / c["threads_batch"].get<int>(); });
  EXPECT_EQ(trials[2].configuration["threads_batch"], 8) << "0.125 is better than 0.25";
}

TEST(Expert, RulesThatDoNotFitTheSpaceArePassedOver) {
  Track t;
  t.space = SearchSpace({integer_parameter("threads", 1, 1, 1, ""), integer_parameter("ubatch", 32, 64, 64, ""),
                         categorical_parameter("polling", {"default", "passive"}, "default", ""),
                         real_parameter("rate", 0, 1, 0.5, "")});
  const auto trials = study(t, 1, 3, [](const Configuration&) { return 1.0; });
  EXPECT_THAT(trials[1].thought, Not(HasSubstr("Next I change")));
}

// A parameter may share its name with a rule's and take other values; another may have no value before the rule.
TEST(Expert, RulesKeepToTheSpaceThatIsThere) {
  Track t;
  Parameter rows = integer_parameter("rows", 1, 8, 3, "");
  rows.when = Expression("not repack");
  t.space = SearchSpace({integer_parameter("polling", 0, 100, 50, ""), integer_parameter("threads", 1, 8, 8, ""),
                         boolean_parameter("flash_attention", false, ""), boolean_parameter("repack", true, ""), rows});
  const auto trials = study(t, 1, 5, [](const Configuration&) { return 1.0; });
  EXPECT_EQ(trials[1].configuration["threads"], 4) << "half; polling is no choice here";
  const Configuration opened = {
      {"polling", 50}, {"threads", 8}, {"flash_attention", false}, {"repack", false}, {"rows", 3}};
  EXPECT_EQ(trials[2].configuration, opened) << "what becomes active has its default";
  EXPECT_THAT(trials[3].thought, Not(HasSubstr("Next I change")));
}

// The last trial that ended, not one that another worker measures at this moment.
TEST(Expert, SaysNothingOfWhatIsStillMeasured) {
  Track t;
  t.space = SearchSpace({real_parameter("x", 0, 1, 0.5, "")});
  std::vector<Trial> trials(2);
  trials[0].configuration = {{"x", 0.5}};
  trials[0].value = 2;
  trials[1] = running_trial(1, {{{"x", 0.25}}, "expert", "", {}});
  EXPECT_THAT(ExpertSampler(priors(), 1).ask(t, trials, 5).thought, HasSubstr("The defaults give 2.000."));
  trials[0] = running_trial(0, {{{"x", 0.5}}, "default", "", {}});
  EXPECT_THAT(ExpertSampler(priors(), 1).ask(t, trials, 5).thought, HasSubstr("Nothing has been measured yet."));
}

TEST(Expert, ARuleAboutSomethingWaitsForABriefThatSaysIt) {
  Track t;
  t.space = SearchSpace({categorical_parameter("nontemporal", {0, 4, 8}, 0, "")});
  for (const bool large : {false, true}) {
    t.brief = large ? "read and written: 11 MB, more than the second-level caches hold" : "which the caches hold";
    std::vector<Trial> trials(1);
    trials[0].configuration = t.space.defaults();
    trials[0].value = 1;
    const Proposal p = ExpertSampler(priors(), 1).ask(t, trials, 9);
    EXPECT_EQ(p.thought.find("Next I change nontemporal from 0 to 8") != std::string::npos, large) << p.thought;
  }
}

TEST(Expert, FaultyRulesAreSentences) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "priors.json";
  for (const char* text :
       {"[]", R"({"rules": [{"parameter": "threads", "value": 1, "why": "so"}]})",
        R"({"rules": [{"parameter": 1, "value": 1, "why": "so", "source": "x"}]})", "{",
        R"({"rules": [{"parameter": "threads", "value": 1, "why": "so", "source": "x", "about": "["}]})"}) {
    std::ofstream(file) << text;
    try {
      make_expert(folder.path(), 1);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("priors.json")) << text;
    }
  }
  EXPECT_THROW(make_expert(folder / "missing", 1), Error);
}

}  // namespace
}  // namespace haqa
