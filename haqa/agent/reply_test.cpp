#include "haqa/agent/reply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace haqa {
namespace {

using testing::HasSubstr;

SearchSpace space() {
  return SearchSpace({integer_parameter("threads", 1, 8, 4, ""),
                      categorical_parameter("type", {"f16", "q8_0"}, "f16", ""), real_parameter("rate", 0, 1, 0.5, "")},
                     {Expression("threads % 2 == 0")});
}

Track track() {
  Track t;
  t.space = space();
  return t;
}

constexpr const char* kGood = R"({"threads": 2, "type": "q8_0", "rate": 0.25})";

TEST(ParseReply, FindsTheActionAndTheThought) {
  const std::pair<std::string, const char*> cases[] = {
      {std::string("Thought: fewer threads.\nAction: ") + kGood, "fewer threads."},
      {std::string("**Thought:** fewer threads.\n\n**Action:**\n```json\n") + kGood + "\n```\nGood luck!",
       "fewer threads."},
      {std::string(R"({"thought": "fewer threads.", "action": )") + kGood + "}", "fewer threads."},
      {std::string("fewer threads.\n") + kGood, "fewer threads."},
      {std::string(R"(Thought: {"threads": 4} was slow. Action: )") + kGood, R"({"threads": 4} was slow.)"},
      // Keys as the form of the answer spells them, and a thought that mentions an action.
      {std::string(R"({"Thought": "fewer threads.", "Action": )") + kGood + "}", "fewer threads."},
      {std::string(R"({"thought": "My last Action was slow.", "action": )") + kGood + "}", "My last Action was slow."},
      {std::string(R"({"action": )") + kGood + R"(, "thought": 7})", ""},
      {std::string(R"({"thought": "so", "configuration": )") + kGood + "}", "so"},
      // A model that goes on and makes up what it will be told.
      {std::string("Thought: fewer threads.\nAction: ") + kGood + "\nObservation: {\"speedup\": 1.5}",
       "fewer threads."},
      {std::string("Thought: fewer threads.\nAction: ") + kGood + "\nThis Action should help.", "fewer threads."},
      {R"(Action: {"threads": 4, "type": "f16", "rate": 0.5} Thought: fewer threads. Action: )" + std::string(kGood),
       "fewer threads."},
      {R"(Action: instead of {"threads": 4, "type": "f16", "rate": 0.5} now )" + std::string(kGood), ""},
      {std::string("Thought: {not json} but\nAction: ") + kGood, "{not json} but"},
      {std::string("Thought: fewer threads.\r\nAction:\r\n```\r\n") + kGood + "\r\n```\r\n", "fewer threads."},
      // Cut off, but the configuration is whole.
      {std::string(R"({"thought": "fewer threads.", "action": )") + kGood, ""},
      {R"(Action: {"threads": 99, "threads": 2, "type": "q8_0", "rate": 0.25})", ""},  // as JSON readers do: the last
      {std::string(R"(I had {"threads": 4, "type": "f16", "rate": 0.5} and now I propose )") + kGood, "I had"},
      {R"(Action: {"rate": 0.25, "type": "q8_0", "threads": 2.0})", ""},
  };
  for (const auto& [text, thought] : cases) {
    const auto parsed = parse_reply(text, track(), {});
    ASSERT_TRUE(std::holds_alternative<AgentAction>(parsed)) << text << ": " << std::get<ReplyFault>(parsed).detail;
    EXPECT_EQ(std::get<AgentAction>(parsed).configuration.dump(), R"({"threads":2,"type":"q8_0","rate":0.25})");
    EXPECT_EQ(std::get<AgentAction>(parsed).thought, thought) << text;
  }
}

/// {"threads":{"threads":...{}...}}
std::string nested(int depth) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += "{\"threads\":";
  return text + "2" + std::string(static_cast<size_t>(depth), '}');
}

struct BadReply {
  std::string text;
  FaultKind kind;
  const char* detail;
};
TEST(ParseReply, NamesEachFault) {
  const BadReply cases[] = {
      {"", FaultKind::wrong_format, "it is empty"},
      {" \n ", FaultKind::wrong_format, "it is empty"},
      {"The weather is lovely today.", FaultKind::irrelevant, ""},
      {"I would set threads to 2.", FaultKind::wrong_format, ""},
      {R"(Action: {"threads": 2, "type":)", FaultKind::wrong_format, ""},
      {"Action: [2, 3]", FaultKind::irrelevant, ""},
      {R"(Action: {"flour": 500, "water": 320})", FaultKind::irrelevant, "none of the parameters"},
      {R"(Action: {"threads": 99, "type": "f16", "rate": 0})", FaultKind::out_of_range,
       "\"threads\" is 99; it must be a whole number from 1 to 8"},
      {R"(Action: {"threads": "two", "type": "f16", "rate": 0})", FaultKind::out_of_range, "\"threads\" is \"two\""},
      {R"(Action: {"threads": 2, "type": "f16"})", FaultKind::out_of_range, "\"rate\" is missing"},
      {R"(Action: {"threads": 2, "type": "f16", "rate": 0, "more": 1})", FaultKind::out_of_range,
       "\"more\" is no parameter"},
      {R"(Action: {"threads": 3, "type": "f16", "rate": 0})", FaultKind::out_of_range, "threads % 2 == 0"},
      {R"(Action: {"threads": 2, "type": "f16", "rate": NaN})", FaultKind::wrong_format, ""},
      {std::string(200000, '{'), FaultKind::wrong_format, ""},
      {std::string(200000, '['), FaultKind::irrelevant, ""},
      {nested(100000), FaultKind::wrong_format, ""},
      {nested(60), FaultKind::out_of_range, "\"type\" is missing"},
      {R"(Action: {"threads": 2, "type": "f16", "rate": Infinity})", FaultKind::wrong_format, ""},
      {R"(Action: {"threads": 2, "type": "f16", "rate": 1e999})", FaultKind::wrong_format, ""},
      {R"(Action: {"threads": 2, "type": "f16", "rate": "NaN"})", FaultKind::out_of_range, "\"rate\" is \"NaN\""},
      {R"(Action: {"threads": 2, "type": "f16", "rate": 1.0000001})", FaultKind::out_of_range, "\"rate\""},
      {R"(Action: {"threads": 2.5, "type": "f16", "rate": 0})", FaultKind::out_of_range, "\"threads\" is 2.5"},
      {R"(Action: {"threads": 1e300, "type": "f16", "rate": 0})", FaultKind::out_of_range, "\"threads\""},
      {R"(Action: {"threads": 99999999999999999999, "type": "f16", "rate": 0})", FaultKind::out_of_range,
       "\"threads\""},
      {R"(Action: {"threads": -2, "type": "f16", "rate": 0})", FaultKind::out_of_range, "\"threads\" is -2"},
      {R"(Action: {"threads": true, "type": "f16", "rate": 0})", FaultKind::out_of_range, "\"threads\" is true"},
      {R"(Action: {"threads": null, "type": "f16", "rate": 0})", FaultKind::out_of_range, "\"threads\" is null"},
      {R"(Action: {"threads": [2], "type": "f16", "rate": 0})", FaultKind::out_of_range, "\"threads\" is [2]"},
      {R"(Action: {"threads": 2, "type": "F16", "rate": 0})", FaultKind::out_of_range, "one of [\"f16\",\"q8_0\"]"},
      {R"(Action: {"threads": 99, "type": "f16"})", FaultKind::out_of_range, "\"rate\" is missing"},  // all of them
      {R"(Action: {"threads": 99, "type": "f16"})", FaultKind::out_of_range, "\"threads\" is 99"},
      {R"({"thought": "so", "action": {"flour": 500}})", FaultKind::irrelevant, "none of the parameters"},
      {R"({"thought": "so", "action": {"threads": 4}})", FaultKind::out_of_range, "is missing"},
      {R"(Action: {})", FaultKind::irrelevant, "none of the parameters"},
      // Cut off within the action: what the thought quotes is not the decision.
      {R"(Thought: {"threads": 4, "type": "f16", "rate": 0.5} was slow. Action: {"threads": 2, "type":)",
       FaultKind::wrong_format, ""},
      {std::string("Action: {\"threads\": 2, \"type\": \"\xff\xfe\", \"rate\": 0}"), FaultKind::wrong_format, ""},
  };
  for (const BadReply& c : cases) {
    const auto parsed = parse_reply(c.text, track(), {});
    ASSERT_TRUE(std::holds_alternative<ReplyFault>(parsed)) << c.text;
    EXPECT_EQ(std::get<ReplyFault>(parsed).kind, c.kind) << c.text.substr(0, 80);
    EXPECT_THAT(std::get<ReplyFault>(parsed).detail, HasSubstr(c.detail)) << c.text.substr(0, 80);
  }
}

TEST(ParseReply, RefusesWhatWasTried) {
  std::vector<Trial> trials(2);
  trials[0].configuration = space().defaults();
  trials[1].configuration = Json::parse(kGood);
  trials[1].number = 1;
  const auto parsed = parse_reply(kGood, track(), trials);
  ASSERT_TRUE(std::holds_alternative<ReplyFault>(parsed));
  EXPECT_EQ(std::get<ReplyFault>(parsed).kind, FaultKind::duplicate);
  EXPECT_EQ(std::get<ReplyFault>(parsed).detail, "round 2");
}

TEST(ParseReply, RefusesWhatFailedAndWhatIsWrittenAnotherWay) {
  std::vector<Trial> trials(1);
  trials[0].configuration = Json::parse(kGood);
  trials[0].state = TrialState::failed;
  for (const char* text :
       {R"({"rate": 0.25, "threads": 2.0, "type": "q8_0"})", R"({"type":"q8_0","rate":25e-2,"threads":2})"}) {
    const auto parsed = parse_reply(text, track(), trials);
    ASSERT_TRUE(std::holds_alternative<ReplyFault>(parsed)) << text;
    EXPECT_EQ(std::get<ReplyFault>(parsed).kind, FaultKind::duplicate);
    EXPECT_EQ(std::get<ReplyFault>(parsed).detail, "round 1");
  }
}

// An integer stays one in the log and on llama.cpp's command line.
TEST(ParseReply, WritesWholeNumbersAsIntegers) {
  const auto parsed = parse_reply(R"({"threads": 4.0, "type": "f16", "rate": 1})", track(), {});
  ASSERT_TRUE(std::holds_alternative<AgentAction>(parsed));
  EXPECT_EQ(std::get<AgentAction>(parsed).configuration.dump(), R"({"threads":4,"type":"f16","rate":1.0})");
}

// A correction is a message to the model: a fault must not flood it.
TEST(ParseReply, KeepsTheDetailShort) {
  std::string text = R"({"threads": 2)";
  for (int i = 0; i < 5000; ++i) text += ", \"unknown_key_" + std::to_string(i) + "\": 1";
  const auto parsed = parse_reply(text + "}", track(), {});
  ASSERT_TRUE(std::holds_alternative<ReplyFault>(parsed));
  EXPECT_EQ(std::get<ReplyFault>(parsed).kind, FaultKind::out_of_range);
  EXPECT_LE(std::get<ReplyFault>(parsed).detail.size(), 1503u);
  EXPECT_THAT(std::get<ReplyFault>(parsed).detail, HasSubstr("\"type\" is missing"));
}

TEST(ParseReply, FindsAnEntryForEachTrack) {
  Track one, other;
  one.name = "runtime";
  other.name = "finetune";
  one.space = space();
  other.space = SearchSpace({integer_parameter("epochs", 1, 8, 4, "")});
  const TrackHistory tracks[] = {{&one, {}, 1}, {&other, {}, 1}};
  const std::string entries = std::string(R"({"finetune": {"epochs": 3}, "runtime": )") + kGood + "}";
  const std::string cases[] = {"Thought: both.\nAction: " + entries,
                               R"({"thought": "both.", "action": )" + entries + "}",
                               "Thought: both.\nAction:\n```json\n" + entries + "\n```",
                               "Thought: both.\nAction: " + entries + "\nObservation: {\"accuracy\": 0.9}",
                               R"(Action: {"finetune": {"epochs": 1}} Thought: both. Action: )" + entries};
  for (const std::string& text : cases) {
    const auto parsed = parse_joint_reply(text, tracks);
    ASSERT_EQ(parsed.size(), 2u);
    const auto *runtime = std::get_if<AgentAction>(&parsed[0]), *finetune = std::get_if<AgentAction>(&parsed[1]);
    ASSERT_TRUE(runtime && finetune) << text;
    EXPECT_EQ(runtime->configuration.dump(), R"({"threads":2,"type":"q8_0","rate":0.25})");
    EXPECT_EQ(finetune->configuration["epochs"], 3);
    EXPECT_EQ(finetune->thought, "both.");
  }
  // The bare configuration of one of two tracks is no answer for both.
  for (const auto& parsed : parse_joint_reply(kGood, tracks))
    EXPECT_EQ(std::get<ReplyFault>(parsed).kind, FaultKind::irrelevant);
  EXPECT_TRUE(std::holds_alternative<AgentAction>(parse_joint_reply(kGood, std::span(tracks).first(1))[0]));
}

TEST(FaultKind, HasAName) {
  EXPECT_EQ(to_string(FaultKind::wrong_format), "wrong format");
  EXPECT_EQ(to_string(FaultKind::out_of_range), "out of range");
  EXPECT_EQ(to_string(FaultKind::irrelevant), "irrelevant text");
  EXPECT_EQ(to_string(FaultKind::duplicate), "duplicate");
}

}  // namespace
}  // namespace haqa
