#include "haqa/agent/agent_sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "haqa/agent/expert.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

using testing::HasSubstr;

/// Says what it is told to, and keeps what it was asked.
struct Scripted : ChatProvider {
  std::vector<std::function<std::string()>> replies;
  std::vector<std::vector<Message>> requests;
  std::string name() const override { return "scripted"; }
  ChatReply complete(const ChatRequest& request) override {
    requests.push_back(request.messages);
    ChatReply reply;
    reply.content = replies.at(requests.size() - 1)();
    return reply;
  }
};
std::function<std::string()> say(std::string text) {
  return [text] { return text; };
}

Track track() {
  Track t;
  t.name = "runtime";
  t.value_name = "speedup";
  t.brief = "BRIEF";
  t.space = SearchSpace({integer_parameter("threads", 1, 8, 4, "Threads."),
                         categorical_parameter("flash_attention", {"auto", "on"}, "auto", "Attention."),
                         integer_parameter("ubatch", 32, 512, 512, "Micro-batch.", true)});
  return t;
}

std::vector<Trial> trials_of(int n) {
  std::vector<Trial> trials(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    Trial& t = trials[static_cast<size_t>(i)];
    t.number = i;
    t.configuration = {{"threads", 4}, {"flash_attention", "auto"}, {"ubatch", 512 - i}};
    t.value = i == 2 ? 1.5 : 1.0 + 0.001 * i;
    t.thought = fmt::format("thought {}", i);
  }
  return trials;
}

Prompts prompts() {
  return Prompts(std::filesystem::path(HAQA_SOURCE_DIR) / "data/prompts");
}

constexpr const char* kGood = "Thought: more.\nAction: {\"threads\": 8, \"flash_attention\": \"on\", \"ubatch\": 128}";

TEST(AgentSampler, TakesAGoodAnswer) {
  Scripted provider;
  provider.replies = {say(kGood)};
  AgentSampler sampler(provider, prompts(), {});
  const Proposal p = sampler.ask(track(), trials_of(1), 9);
  EXPECT_EQ(p.configuration["threads"], 8);
  EXPECT_EQ(p.proposed_by, "scripted");
  EXPECT_EQ(p.thought, "more.");
}

TEST(AgentSampler, CorrectsTwiceThenFallsBack) {
  Scripted provider;
  provider.replies = {say("What a day."),
                      say("Action: {\"threads\": 64, \"flash_attention\": \"on\", \"ubatch\": 128}"),
                      say("Action: {\"threads\":")};
  std::vector<AgentEvent> events;
  AgentSampler sampler(provider, prompts(), {}, [&](const AgentEvent& e) { events.push_back(e); });
  const Proposal p = sampler.ask(track(), trials_of(1), 9);
  EXPECT_EQ(p.proposed_by, "fallback: bayesian");
  EXPECT_EQ(track().space.problem(p.configuration), std::nullopt);
  ASSERT_EQ(provider.requests.size(), 3u);
  EXPECT_EQ(provider.requests[1].back().role, "user");
  EXPECT_THAT(provider.requests[1].back().content, HasSubstr("it is not about this task"));
  EXPECT_EQ(provider.requests[1][provider.requests[1].size() - 2].content, "What a day.");
  EXPECT_THAT(provider.requests[2].back().content,
              HasSubstr("\"threads\" is 64; it must be a whole number from 1 to 8"));
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].kind, "irrelevant text");
  EXPECT_EQ(events[1].kind, "out of range");
  EXPECT_EQ(events[2].kind, "wrong format");
  EXPECT_FALSE(events[1].fallback);
  EXPECT_TRUE(events[2].fallback);
}

TEST(AgentSampler, APassingFailureFallsBackAndAWrongSetUpEnds) {
  Scripted provider;
  provider.replies = {[]() -> std::string { throw ProviderError(true, "overloaded"); },
                      []() -> std::string { throw ProviderError(false, "wrong key"); }};
  AgentSampler sampler(provider, prompts(), {});
  EXPECT_EQ(sampler.ask(track(), trials_of(1), 9).proposed_by, "fallback: bayesian");
  EXPECT_THROW(sampler.ask(track(), trials_of(1), 9), ProviderError);
}

TEST(Prompt, HasThePapersStructure) {
  const auto messages = build_conversation(prompts(), track(), trials_of(3), 7, {});
  ASSERT_EQ(messages.size(), 6u);
  const char* roles[] = {"system", "user", "assistant", "user", "assistant", "user"};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(messages[i].role, roles[i]);
  EXPECT_THAT(messages[1].content, HasSubstr("BRIEF"));
  EXPECT_THAT(messages[1].content, HasSubstr("'threads': Threads. Type: UniformInteger, Range: [1, 8], Default: 4."));
  EXPECT_THAT(messages[1].content, HasSubstr("Note that there are 9 rounds left"));
  EXPECT_THAT(messages[2].content, HasSubstr("Thought: thought 1\nAction: {\"threads\":4"));
  EXPECT_THAT(messages[5].content, HasSubstr("Note that there are 7 rounds left"));
  EXPECT_THAT(messages[5].content, HasSubstr("speedup: 1.5"));
}

TEST(Prompt, NeverExceedsTheBudgetAndKeepsTheIncumbent) {
  int summarized = 0;
  for (int n = 0; n <= 50; n += 5)
    for (const int budget : {1200, 1500, 2500, 6000, 100000})
      for (const int rounds : {1, 3, 10}) {
        const auto messages = build_conversation(prompts(), track(), trials_of(n), 3, {rounds, budget});
        int tokens = 0;
        for (size_t i = 0; i < messages.size(); ++i) {
          tokens += estimate_tokens(messages[i].content);
          if (i > 1) {
            EXPECT_NE(messages[i].role, messages[i - 1].role);
          }
        }
        EXPECT_LE(tokens, budget);
        EXPECT_EQ(messages.back().role, "user");
        EXPECT_LE(messages.size(), static_cast<size_t>(2 * rounds + 2));
        if (n > 3) {
          EXPECT_THAT(messages.back().content, HasSubstr("speedup: 1.5 (round 3)"));
        }
        summarized += messages[1].content.find("Earlier rounds in short") != std::string::npos;
      }
  EXPECT_GT(summarized, 10);
  EXPECT_THROW(build_conversation(prompts(), track(), trials_of(2), 3, {10, 100}), Error);
}

TEST(Prompt, SlotsAndValuesMustMatch) {
  EXPECT_THROW(prompts().render("dynamic_first", {}), Error);
  EXPECT_THROW(prompts().render("system", {{"more", "x"}}), Error);
  EXPECT_THROW(prompts().render("no-such-prompt", {}), Error);
  EXPECT_THAT(prompts().render("dynamic_first", {{"rounds_left", "{{4}}"}}), HasSubstr("{{4}} rounds left"));
}

TEST(Expert, ProposesValidNewConfigurationsByRuleThenSurrogate) {
  const Track t = track();
  const auto expert = make_expert(std::filesystem::path(HAQA_SOURCE_DIR) / "data/priors/runtime.json", 1);
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
  EXPECT_THAT(thoughts.back(), HasSubstr("surrogate"));
}

TEST(Expert, EveryShippedRuleNamesItsSource) {
  const Json priors = read_json(std::filesystem::path(HAQA_SOURCE_DIR) / "data/priors/runtime.json");
  for (const Json& rule : priors["rules"]) EXPECT_GT(rule["source"].get<std::string>().size(), 10u) << rule;
}

}  // namespace
}  // namespace haqa
