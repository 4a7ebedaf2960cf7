#include "haqa/agent/agent_sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "haqa/agent/agent_test_support.h"
#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

using testing::HasSubstr;

/// Says what it is told to, and keeps what it was asked.
struct Scripted : ChatProvider {
  std::vector<std::function<std::string()>> replies;
  std::vector<std::vector<Message>> requests;
  std::vector<Json> schemas;
  std::string name() const override { return "scripted"; }
  ChatReply complete(const ChatRequest& request) override {
    requests.push_back(request.messages);
    schemas.push_back(request.schema);
    ChatReply reply;
    reply.content = replies.at(requests.size() - 1)();
    return reply;
  }
};
std::function<std::string()> say(std::string text) {
  return [text] { return text; };
}

constexpr const char* kGood = "Thought: more.\nAction: {\"threads\": 8, \"flash_attention\": \"on\", \"ubatch\": 128}";

// What the prompt says of earlier studies is no part of the track: the expert behind the protocol has priors, which
// would take it for what is tuned.
TEST(AgentSampler, TellsOfEarlierStudiesInThePromptAlone) {
  struct Listening : ChatProvider {
    std::string name() const override { return "listening"; }
    ChatReply complete(const ChatRequest& request) override {
      for (const Message& m : request.messages) told += m.content;
      brief = request.tracks[0].track->brief;
      ChatReply reply;
      reply.content = "Thought: so.\nAction: {\"threads\": 2, \"flash_attention\": \"on\", \"ubatch\": 64}";
      return reply;
    }
    std::string told, brief;
  } provider;
  AgentOptions options;
  options.earlier = "\n\nThe best of earlier studies: adam";
  AgentSampler(provider, prompts(), options).ask(track(), trials_of(1), 9);
  EXPECT_THAT(provider.told, HasSubstr("BRIEF\n\nThe best of earlier studies: adam\n"));
  EXPECT_EQ(provider.brief, "BRIEF");
}

TEST(AgentSampler, TakesAGoodAnswer) {
  Scripted provider;
  provider.replies = {say(kGood)};
  AgentSampler sampler(provider, prompts(), {});
  const Proposal p = sampler.ask(track(), trials_of(1), 9);
  EXPECT_EQ(p.configuration["threads"], 8);
  EXPECT_EQ(p.proposed_by, "scripted");
  EXPECT_EQ(p.thought, "more.");
  ASSERT_EQ(provider.requests.size(), 1u);
  EXPECT_EQ(provider.schemas[0], track().space.schema());
}

struct CorrectedFault {
  const char* answer;
  const char* kind;
  std::string correction;  ///< what the message that follows says
};
TEST(AgentSampler, EachFaultIsNamedInItsCorrection) {
  const CorrectedFault cases[] = {
      {"", "wrong format", "it holds no JSON object that can be read: it is empty."},
      {"Action: {\"threads\":", "wrong format", "such as {\"threads\":4,\"flash_attention\":\"auto\",\"ubatch\":512}"},
      {"What a day.", "irrelevant text", "it holds no configuration of this task. Nobody"},
      {"{\"flour\": 500}", "irrelevant text", "its JSON object holds none of the parameters"},
      {"{\"threads\": 64, \"flash_attention\": \"on\", \"ubatch\": 128}", "out of range",
       "\"threads\" is 64; it must be a whole number from 1 to 8."},
      {"{\"threads\": 4, \"flash_attention\": \"on\"}", "out of range", "\"ubatch\" is missing"},
      {"{\"threads\": 4, \"flash_attention\": \"auto\", \"ubatch\": 512}", "duplicate", "tried already (round 1)"}};
  for (const CorrectedFault& c : cases) {
    Scripted provider;
    provider.replies = {say(c.answer), say(kGood)};
    std::vector<AgentEvent> events;
    AgentSampler sampler(provider, prompts(), {}, [&](const AgentEvent& e) { events.push_back(e); });
    const Proposal p = sampler.ask(track(), trials_of(1), 9);
    EXPECT_EQ(p.proposed_by, "scripted") << c.answer;
    EXPECT_EQ(p.configuration["threads"], 8);
    ASSERT_EQ(provider.requests.size(), 2u);
    const std::vector<Message>&first = provider.requests[0], second = provider.requests[1];
    ASSERT_EQ(second.size(), first.size() + 2) << "the whole conversation, the answer, the correction";
    EXPECT_EQ(second[first.size()].role, "assistant");
    EXPECT_EQ(second.back().role, "user");
    EXPECT_THAT(second.back().content, HasSubstr(c.correction)) << c.answer;
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].kind, c.kind) << c.answer;
    EXPECT_FALSE(events[0].fallback);
  }
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
  EXPECT_THAT(provider.requests[1].back().content, HasSubstr("it holds no configuration of this task"));
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

TEST(AgentSampler, FailuresAfterAFaultAreTreatedAlike) {
  for (const bool passing : {true, false}) {
    Scripted provider;
    provider.replies = {say("What a day."), [passing]() -> std::string { throw ProviderError(passing, "HTTP 503"); }};
    std::vector<AgentEvent> events;
    AgentSampler sampler(provider, prompts(), {}, [&](const AgentEvent& e) { events.push_back(e); });
    if (!passing) {
      EXPECT_THROW(sampler.ask(track(), trials_of(1), 9), ProviderError);
      continue;
    }
    EXPECT_EQ(sampler.ask(track(), trials_of(1), 9).proposed_by, "fallback: bayesian");
    ASSERT_EQ(events.size(), 2u);
    EXPECT_FALSE(events[0].fallback);
    EXPECT_EQ(events[1].kind, "provider");
    EXPECT_EQ(events[1].detail, "HTTP 503");
    EXPECT_TRUE(events[1].fallback);
  }
}

TEST(AgentSampler, CtrlCIsNoFault) {
  Scripted provider;
  provider.replies = {[]() -> std::string { throw Interrupted("interrupted"); }};
  AgentSampler sampler(provider, prompts(), {});
  EXPECT_THROW(sampler.ask(track(), trials_of(1), 9), Interrupted);
}

TEST(AgentSampler, TheNumberOfCorrectionsIsAnOption) {
  for (const int corrections : {0, 1, 4}) {
    Scripted provider;
    provider.replies.assign(10, say("What a day."));
    AgentOptions options;
    options.corrections = corrections;
    AgentSampler sampler(provider, prompts(), options);
    EXPECT_EQ(sampler.ask(track(), trials_of(1), 9).proposed_by, "fallback: bayesian");
    EXPECT_EQ(provider.requests.size(), static_cast<size_t>(corrections + 1));
  }
}

TEST(AgentSampler, TheFallbackProposesNothingThatWasTried) {
  std::vector<Trial> trials = trials_of(4);
  for (int i = 4; i < 24; ++i) {
    Scripted provider;
    provider.replies.assign(3, say("What a day."));
    AgentSampler sampler(provider, prompts(), {});
    Trial t;
    t.number = i;
    t.configuration = sampler.ask(track(), trials, 30 - i).configuration;
    t.value = 1.0;
    EXPECT_EQ(track().space.problem(t.configuration), std::nullopt);
    EXPECT_FALSE(tried_hashes(track().space, trials).contains(track().space.hash(t.configuration)));
    trials.push_back(std::move(t));
  }
}

// Paper: the history must never overflow the model's input. A model that babbles fills its context by itself.
TEST(AgentSampler, CorrectionsStayWithinTheBudget) {
  std::string babble, keys = "{\"threads\": 2";
  for (int i = 0; i < 20000; ++i) {
    babble += "\u00fcber ";
    keys += ", \"key " + std::to_string(i) + "\": 1";
  }
  for (const int budget : {1400, 2000, 4000, 16000}) {
    Scripted provider;
    provider.replies = {say(babble), say(keys + "}"), say(kGood)};
    AgentOptions options;
    options.history.token_budget = budget;
    AgentSampler sampler(provider, prompts(), options);
    sampler.ask(track(), trials_of(40), 9);
    for (const auto& request : provider.requests) {
      int tokens = 0;
      for (const Message& m : request) {
        tokens += estimate_tokens(m.content);
        EXPECT_NO_THROW(Json(m.content).dump()) << "cut within a character";
      }
      EXPECT_LE(tokens, budget);
      EXPECT_EQ(request.back().role, "user");
    }
    if (budget >= 4000) {
      ASSERT_EQ(provider.requests.size(), 3u);
      EXPECT_THAT(provider.requests[1].back().content, HasSubstr("it holds no configuration of this task"));
      EXPECT_THAT(provider.requests[2].back().content, HasSubstr("\"ubatch\" is missing"));
    }
  }
}

TEST(AgentSampler, APromptAboveTheBudgetEndsTheStudy) {
  Scripted provider;
  AgentOptions options;
  options.history.token_budget = 100;
  AgentSampler sampler(provider, prompts(), options);
  EXPECT_THROW(sampler.ask(track(), trials_of(1), 9), Error);
}

}  // namespace
}  // namespace haqa
