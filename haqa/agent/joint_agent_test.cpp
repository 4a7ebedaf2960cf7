#include "haqa/agent/joint_agent.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "haqa/agent/agent_test_support.h"
#include "haqa/agent/expert.h"
#include "haqa/agent/hybrid_sampler.h"

namespace haqa {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Two tracks: the run-time options and a fine-tuning.
std::vector<Track> two_tracks() {
  Track finetune;
  finetune.name = "finetune";
  finetune.value_name = "accuracy";
  finetune.brief = "FINETUNE BRIEF";
  finetune.space =
      SearchSpace({integer_parameter("epochs", 1, 20, 5, "Epochs."), real_parameter("rate", 0.001, 1, 0.01, "", true)});
  Track runtime = track();
  runtime.brief = "RUNTIME BRIEF";
  return {finetune, runtime};
}

std::string finetune(int epochs) {
  return fmt::format(R"("finetune": {{"epochs": {}, "rate": 0.1}})", epochs);
}
std::string runtime(int ubatch) {
  return fmt::format(R"("runtime": {{"threads": 8, "flash_attention": "on", "ubatch": {}}})", ubatch);
}
std::string answer(const std::string& entries) {
  return "Thought: both.\nAction: {" + entries + "}";
}

/// Says what it is told to, by the number of the request, and keeps what it was asked.
struct Scripted : ChatProvider {
  std::function<std::string(size_t)> reply;
  std::vector<std::vector<Message>> requests;
  std::vector<Json> schemas;
  std::vector<size_t> asked_for;  ///< tracks
  std::string name() const override { return "scripted"; }
  ChatReply complete(const ChatRequest& request) override {
    requests.push_back(request.messages);
    schemas.push_back(request.schema);
    asked_for.push_back(request.tracks.size());
    ChatReply r;
    r.content = reply(requests.size() - 1);
    return r;
  }
};

/// Whatever was sent is worth its first parameter.
struct Counting : Objective {
  Outcome evaluate(const Configuration& c, const Report&) override {
    Outcome o;
    o.value = c.front().get<double>();
    return o;
  }
};

/// A joint study in memory.
struct Joint {
  explicit Joint(ChatProvider& provider, AgentOptions options = {})
      : agent(provider, prompts(), options, tracks, [this](const AgentEvent& e) { events.push_back(e); }) {
    for (size_t i = 0; i < tracks.size(); ++i) samplers.push_back(agent.sampler(i));
  }
  StopReason run(int rounds, int workers = 1) {
    std::vector<StudyTrack> all;
    for (size_t i = 0; i < tracks.size(); ++i) all.push_back({tracks[i], *samplers[i], objective, storages[i]});
    StudyOptions options;
    options.budget.rounds = rounds;
    options.workers = workers;
    return run_study(all, options);
  }
  Trial trial(size_t track, size_t number) { return storages[track].trials().at(number); }

  std::vector<Track> tracks = two_tracks();
  std::vector<AgentEvent> events;
  JointAgent agent;
  std::vector<std::unique_ptr<Sampler>> samplers;
  Counting objective;
  MemoryStorage storages[2];
};

TEST(JointAgent, OneExchangeARoundServesAllTracks) {
  Scripted provider;
  provider.reply = [](size_t i) {
    const int n = static_cast<int>(i);
    return answer(finetune(10 + n) + ", " + runtime(100 + n));
  };
  Joint joint(provider);
  EXPECT_EQ(joint.run(4), StopReason::rounds);
  ASSERT_EQ(provider.requests.size(), 3u) << "the first round runs the defaults";
  for (size_t round = 1; round < 4; ++round) {
    const Trial f = joint.trial(0, round), r = joint.trial(1, round);
    EXPECT_EQ(f.configuration["epochs"], 9 + round);
    EXPECT_EQ(r.configuration["ubatch"], 99 + round);
    EXPECT_EQ(f.proposed_by, "scripted");
    EXPECT_EQ(r.thought, "both.");
  }
  const std::vector<Message>& last = provider.requests.back();
  for (const char* part : {"FINETUNE BRIEF", "RUNTIME BRIEF", "Track \"finetune\":", "'epochs'", "'threads'",
                           "Rounds in all: 4.", R"({"finetune":{"epochs":5,"rate":0.01},"runtime":{"threads":4,)"})
    EXPECT_THAT(last[1].content, HasSubstr(part));
  EXPECT_EQ(last[2].content,
            "Thought: both.\nAction: {\"finetune\":{\"epochs\":10,\"rate\":0.1},\"runtime\":{\"threads\":8,"
            "\"flash_attention\":\"on\",\"ubatch\":100}}");
  EXPECT_THAT(last.back().content, HasSubstr("there are 1 rounds left"));
  EXPECT_THAT(last.back().content, HasSubstr("Track \"finetune\":\nThe configuration just tried: {\"epochs\":11"));
  EXPECT_THAT(last.back().content, HasSubstr("Track \"runtime\":\nThe configuration just tried: {\"threads\":8"));
  EXPECT_THAT(last.back().content, HasSubstr("accuracy: 11 (round 3)"));
  EXPECT_THAT(last.back().content, Not(HasSubstr("still being measured"))) << "the other track's result was told";
  EXPECT_EQ(provider.schemas[0]["properties"]["runtime"], two_tracks()[1].space.schema());
  EXPECT_EQ(provider.schemas[0]["required"], Json({"finetune", "runtime"}));
  EXPECT_TRUE(joint.events.empty());
}

struct OneFault {
  std::string entry;  ///< of the run-time options
  const char* kind;
  std::string correction;
};
/// A kernel, say, that comes when the others have had two rounds.
TEST(JointAgent, ATrackMayBeginInALaterRound) {
  Scripted provider;
  provider.reply = [](size_t i) {
    const int n = static_cast<int>(i);
    return answer(finetune(10 + n) + ", " + runtime(100 + n));
  };
  std::vector<Track> tracks = two_tracks();
  tracks[1].first_round = 2;
  JointAgent agent(provider, prompts(), {}, tracks);
  const auto first = agent.sampler(0), second = agent.sampler(1);
  Counting objective;
  std::vector<Trial> earlier(3);
  for (int i = 0; i < 3; ++i) {
    earlier[static_cast<size_t>(i)].number = i;
    earlier[static_cast<size_t>(i)].configuration = {{"epochs", 5 + i}, {"rate", 0.01}};
    earlier[static_cast<size_t>(i)].value = 5 + i;
  }
  MemoryStorage storages[] = {MemoryStorage(earlier), MemoryStorage()};
  StudyOptions options;
  options.budget.rounds = 5;
  run_study(std::vector<StudyTrack>{{tracks[0], *first, objective, storages[0]},
                                    {tracks[1], *second, objective, storages[1]}},
            options);
  EXPECT_EQ(storages[0].trials().size(), 5u);
  ASSERT_EQ(storages[1].trials().size(), 3u);
  EXPECT_EQ(storages[1].trials()[2].configuration["ubatch"], 101);
  ASSERT_EQ(provider.requests.size(), 2u) << "its defaults alone were asked of nobody";
  const std::string told = provider.requests[0].back().content;
  EXPECT_THAT(told, HasSubstr("2 rounds left"));
  EXPECT_THAT(told, HasSubstr("speedup: 4")) << "what its defaults came to stands in the round in which they ran";
  EXPECT_THAT(provider.requests[0][1].content, HasSubstr("not measured in this round")) << "nor had it a first one";
}

TEST(JointAgent, AFaultInOneEntryLosesNoOther) {
  const OneFault cases[] = {
      {R"("runtime": {"threads": 64, "flash_attention": "on", "ubatch": 128})", "out of range",
       R"(Track "runtime": Your answer could not be used: "threads" is 64; it must be a whole number from 1 to 8.)"},
      {R"("runtime": {"flour": 500})", "irrelevant text", "its JSON object holds none of the parameters"},
      {R"("runtime": "as before")", "irrelevant text", "its JSON object holds none of the parameters"},
      {R"("other": {})", "out of range", R"(it holds no entry "runtime")"},
      {R"("runtime": {"threads": 4, "flash_attention": "auto", "ubatch": 512})", "duplicate",
       "tried already (round 1)"},
  };
  // The second answer: as it was asked for, with more, and without the track's name.
  const std::string seconds[] = {answer(runtime(64)), answer(finetune(19) + ", " + runtime(64)),
                                 R"({"threads": 8, "flash_attention": "on", "ubatch": 64})"};
  for (const OneFault& c : cases)
    for (const std::string& second : seconds) {
      Scripted provider;
      provider.reply = [&](size_t i) { return i == 0 ? answer(finetune(7) + ", " + c.entry) : second; };
      Joint joint(provider);
      joint.run(2);
      ASSERT_EQ(provider.requests.size(), 2u) << c.entry;
      EXPECT_EQ(joint.trial(0, 1).configuration["epochs"], 7) << "the first answer's";
      EXPECT_EQ(joint.trial(1, 1).configuration["ubatch"], 64) << second;
      const std::vector<Message>&first = provider.requests[0], corrected = provider.requests[1];
      ASSERT_EQ(corrected.size(), first.size() + 2);
      EXPECT_TRUE(extends(corrected, first));
      EXPECT_THAT(corrected.back().content, HasSubstr(c.correction));
      EXPECT_THAT(corrected.back().content, HasSubstr("such as {\"runtime\":{\"threads\":4"));
      EXPECT_THAT(corrected.back().content, Not(HasSubstr("finetune")));
      EXPECT_FALSE(provider.schemas[1]["properties"].contains("finetune"));
      EXPECT_EQ(provider.asked_for, (std::vector<size_t>{2, 1}));
      ASSERT_EQ(joint.events.size(), 1u);
      EXPECT_EQ(joint.events[0].kind, c.kind) << c.entry;
      EXPECT_THAT(joint.events[0].detail, testing::StartsWith("runtime: "));
    }
}

TEST(JointAgent, AnAnswerWithoutAnyEntryIsCorrectedForAll) {
  const std::pair<const char*, const char*> cases[] = {{"What a day.", "irrelevant text"},
                                                       {"", "wrong format"},
                                                       {"Action: {\"finetune\": {", "wrong format"},
                                                       {"{\"flour\": 500}", "irrelevant text"}};
  for (const auto& [first, kind] : cases) {
    Scripted provider;
    provider.reply = [&](size_t i) { return i == 0 ? first : answer(finetune(7) + ", " + runtime(64)); };
    Joint joint(provider);
    joint.run(2);
    ASSERT_EQ(provider.requests.size(), 2u) << first;
    EXPECT_THAT(provider.requests[1].back().content, HasSubstr("such as {\"finetune\":{\"epochs\":5"));
    EXPECT_EQ(joint.trial(0, 1).configuration["epochs"], 7);
    EXPECT_EQ(joint.trial(1, 1).configuration["ubatch"], 64);
    ASSERT_EQ(joint.events.size(), 2u);
    EXPECT_EQ(joint.events[0].kind, kind);
    EXPECT_EQ(joint.events[1].kind, kind);
  }
}

TEST(JointAgent, OneTrackFallsBackAlone) {
  Scripted provider;
  provider.reply = [](size_t i) {
    return answer(finetune(7 + static_cast<int>(i)) + R"(, "runtime": {"threads": 64})");
  };
  Joint joint(provider);
  joint.run(3);
  EXPECT_EQ(provider.requests.size(), 6u) << "an answer and two corrections, in each of two rounds";
  for (const size_t round : {1, 2}) {
    EXPECT_EQ(joint.trial(0, round).proposed_by, "scripted");
    EXPECT_EQ(joint.trial(1, round).proposed_by, "fallback: bayesian");
    EXPECT_EQ(joint.tracks[1].space.problem(joint.trial(1, round).configuration), std::nullopt);
  }
  EXPECT_EQ(joint.trial(0, 1).configuration["epochs"], 7);
  EXPECT_EQ(joint.trial(0, 2).configuration["epochs"], 10);
  ASSERT_EQ(joint.events.size(), 6u);
  EXPECT_FALSE(joint.events[1].fallback);
  EXPECT_TRUE(joint.events[2].fallback);
  // Their thoughts differ, so the history tells them apart.
  EXPECT_THAT(provider.requests[3].back().content, HasSubstr("Track \"runtime\""));
}

TEST(JointAgent, APassingFailureKeepsWhatWasDecidedAndAWrongSetUpEnds) {
  for (const bool passing : {true, false}) {
    Scripted provider;
    provider.reply = [&](size_t i) -> std::string {
      if (i == 0) return answer(finetune(7));
      throw ProviderError(passing, "HTTP 503");
    };
    Joint joint(provider);
    if (!passing) {
      EXPECT_THROW(joint.run(2), ProviderError);
      continue;
    }
    joint.run(2);
    EXPECT_EQ(provider.requests.size(), 2u) << "the other track does not ask anew in the same round";
    EXPECT_EQ(joint.trial(0, 1).proposed_by, "scripted");
    EXPECT_EQ(joint.trial(1, 1).proposed_by, "fallback: bayesian");
    EXPECT_EQ(joint.events.back().kind, "provider");
  }
}

// After an interruption every earlier trial is told before the first ask; one track may be a round ahead.
TEST(JointAgent, GoesOnAfterAnInterruption) {
  Scripted provider;
  provider.reply = [](size_t i) {
    const int n = static_cast<int>(i);
    return answer(finetune(10 + n) + ", " + runtime(100 + n));
  };
  for (const int ahead : {0, 1}) {
    provider.requests.clear();
    Joint joint(provider);
    const auto earlier = [](Configuration c, int number, double value) {
      Trial t = running_trial(number, {std::move(c), "scripted", "earlier thought", {}});
      t.state = TrialState::complete;
      t.value = value;
      return t;
    };
    std::vector<Trial> f = {earlier({{"epochs", 5}, {"rate", 0.01}}, 0, 5)}, r;
    for (int i = 0; i < 2; ++i)
      r.push_back(earlier({{"threads", 4 + i}, {"flash_attention", "on"}, {"ubatch", 77}}, i, i));
    for (int i = 1; i < 2 + ahead; ++i) f.push_back(earlier({{"epochs", 5 + i}, {"rate", 0.01}}, i, 0.5));
    joint.storages[0] = MemoryStorage(f);
    joint.storages[1] = MemoryStorage(r);
    joint.run(4);
    ASSERT_EQ(provider.requests.size(), 2u) << ahead;
    std::string all;
    for (const Message& m : provider.requests[0]) all += m.content;
    for (const char* told : {"\"epochs\":6", "\"threads\":5", "\"ubatch\":77", "earlier thought", "Rounds in all: 4."})
      EXPECT_THAT(all, HasSubstr(told)) << ahead;
    EXPECT_THAT(provider.requests[0].back().content, HasSubstr("there are 2 rounds left"));
    EXPECT_THAT(provider.requests[1].back().content, HasSubstr("there are 1 rounds left"));
    EXPECT_EQ(joint.storages[0].trials().size(), 4u);
    EXPECT_EQ(joint.storages[1].trials().size(), 4u);
    for (const Trial& t : joint.storages[1].trials()) EXPECT_EQ(t.proposed_by, "scripted");
  }
}

// The study leaves such trials out, so that numbers of trials are no longer their places.
TEST(JointAgent, AnInterruptedTrialCostsNoExchange) {
  Scripted provider;
  provider.reply = [](size_t i) {
    const int n = static_cast<int>(i);
    return answer(finetune(10 + n) + ", " + runtime(100 + n));
  };
  Joint joint(provider);
  std::vector<Trial> trials = {running_trial(0, {{{"epochs", 5}, {"rate", 0.01}}, "default", "", {}}),
                               running_trial(1, {{{"epochs", 6}, {"rate", 0.01}}, "scripted", "", {}})};
  trials[0].state = TrialState::complete;
  trials[0].value = 1;
  trials[1].state = TrialState::failed;
  trials[1].reason = FailReason::interrupted;
  joint.storages[0] = MemoryStorage(trials);
  joint.run(4);
  EXPECT_EQ(provider.requests.size(), 3u);
  for (const auto& messages : provider.requests)
    for (const Message& m : messages) EXPECT_THAT(m.content, testing::Not(HasSubstr("still being measured")));
}

TEST(JointAgent, StaysWithinTheHistorysLimits) {
  for (const int budget : {1800, 2500, 16000}) {
    Scripted provider;
    provider.reply = [](size_t i) {
      const int n = static_cast<int>(i);
      return answer(finetune(1 + n % 20) +
                    fmt::format(R"(, "runtime": {{"threads": 8, "flash_attention": "on", "ubatch": {}}})", 40 + n));
    };
    AgentOptions options;
    options.history = {3, budget};
    options.corrections = 0;
    Joint joint(provider, options);
    joint.run(30);
    EXPECT_EQ(provider.requests.size(), 29u);
    for (const auto& request : provider.requests) {
      EXPECT_LE(total_tokens(request), budget);
      EXPECT_LE(std::count_if(request.begin(), request.end(), [](const Message& m) { return m.role == "assistant"; }),
                2);
      EXPECT_THAT(request.back().content, HasSubstr("The best so far: {\"epochs\""));
      for (size_t i = 0; i < request.size(); ++i)
        EXPECT_EQ(request[i].role, i == 0 ? "system" : i % 2 ? "user" : "assistant");
    }
    if (budget == 16000) {
      EXPECT_THAT(provider.requests.back()[1].content,
                  HasSubstr("Round 1: finetune {\"epochs\":5,\"rate\":0.01} -> 5; runtime {\"threads\":4"));
    }
  }
  Scripted provider;
  AgentOptions options;
  options.history.token_budget = 100;
  Joint joint(provider, options);
  EXPECT_THROW(joint.run(2), Error);
}

TEST(JointAgent, ServesSeveralWorkers) {
  Scripted provider;
  provider.reply = [](size_t i) {
    const int n = static_cast<int>(i);
    return answer(finetune(1 + n) + ", " + runtime(100 + n));
  };
  Joint joint(provider);
  joint.run(6, 2);
  EXPECT_LE(provider.requests.size(), 8u) << "hardly more than one exchange a round";
  for (const size_t track : {0, 1})
    for (size_t i = 1; i < 6; ++i) EXPECT_EQ(joint.trial(track, i).proposed_by, "scripted");
}

TEST(JointAgent, TheExpertAnswersForAllTracks) {
  const auto expert = make_expert(std::filesystem::path(HAQA_SOURCE_DIR) / "data/priors", 1);
  Joint joint(*expert);
  joint.run(8);
  EXPECT_TRUE(joint.events.empty()) << joint.events.front().detail;
  for (const size_t track : {0, 1})
    for (size_t i = 1; i < 8; ++i) EXPECT_EQ(joint.trial(track, i).proposed_by, "expert");
  EXPECT_THAT(joint.trial(0, 3).thought, HasSubstr("runtime: "));
}

TEST(JointAgent, FeedsHybridSamplersToo) {
  Scripted provider;
  provider.reply = [](size_t i) {
    const int n = static_cast<int>(i);
    return answer(finetune(1 + n) + ", " + runtime(100 + n));
  };
  Joint joint(provider);
  for (size_t i = 0; i < 2; ++i) joint.samplers[i] = std::make_unique<HybridSampler>(joint.agent.sampler(i), i);
  joint.run(12);
  for (const size_t track : {0, 1})
    for (size_t i = 1; i < 12; ++i) EXPECT_THAT(joint.trial(track, i).proposed_by, HasSubstr("hybrid: "));
  EXPECT_LT(provider.requests.size(), 16u);
}

TEST(JointAgent, WantsTracksThatCanBeTold) {
  Scripted provider;
  EXPECT_THROW(JointAgent(provider, prompts(), {}, {track(), track()}), std::invalid_argument);
  EXPECT_THROW(JointAgent(provider, prompts(), {}, {Track()}), std::invalid_argument);
}

}  // namespace
}  // namespace haqa
