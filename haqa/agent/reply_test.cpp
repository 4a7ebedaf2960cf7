#include "haqa/agent/reply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace haqa {
namespace {

using testing::HasSubstr;

SearchSpace space() {
  return SearchSpace({integer_parameter("threads", 1, 8, 4, ""),
                      categorical_parameter("type", {"f16", "q8_0"}, "f16", ""), real_parameter("rate", 0, 1, 0.5, "")},
                     {{"threads is even", [](const Configuration& c) { return c["threads"].get<int>() % 2 == 0; }}});
}

constexpr const char* kGood = R"({"threads": 2, "type": "q8_0", "rate": 0.25})";

TEST(ParseReply, FindsTheActionAndTheThought) {
  const std::pair<std::string, const char*> cases[] = {
      {std::string("Thought: fewer threads.\nAction: ") + kGood, "fewer threads."},
      {std::string("**Thought:** fewer threads.\n\n**Action:**\n```json\n") + kGood + "\n```\nGood luck!",
       "fewer threads."},
      {std::string(R"({"thought": "fewer threads.", "action": )") + kGood + "}", "fewer threads."},
      {std::string("fewer threads.\n") + kGood, "fewer threads."},
      {std::string(R"(Thought: {"threads": 4} was slow. Action: )") + kGood, ""},
      {std::string(R"(I had {"threads": 4, "type": "f16", "rate": 0.5} and now I propose )") + kGood, "I had"},
      {R"(Action: {"rate": 0.25, "type": "q8_0", "threads": 2.0})", ""},
  };
  for (const auto& [text, thought] : cases) {
    const auto parsed = parse_reply(text, space(), {});
    ASSERT_TRUE(std::holds_alternative<AgentAction>(parsed)) << text << ": " << std::get<ReplyFault>(parsed).detail;
    EXPECT_EQ(std::get<AgentAction>(parsed).configuration.dump(), R"({"threads":2,"type":"q8_0","rate":0.25})");
    EXPECT_EQ(std::get<AgentAction>(parsed).thought, thought) << text;
  }
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
      {R"(Action: {"threads": 3, "type": "f16", "rate": 0})", FaultKind::out_of_range, "threads is even"},
      {R"(Action: {"threads": 2, "type": "f16", "rate": NaN})", FaultKind::wrong_format, ""},
      {std::string(200000, '{'), FaultKind::wrong_format, ""},
  };
  for (const BadReply& c : cases) {
    const auto parsed = parse_reply(c.text, space(), {});
    ASSERT_TRUE(std::holds_alternative<ReplyFault>(parsed)) << c.text;
    EXPECT_EQ(std::get<ReplyFault>(parsed).kind, c.kind) << c.text.substr(0, 80);
    EXPECT_THAT(std::get<ReplyFault>(parsed).detail, HasSubstr(c.detail));
  }
}

TEST(ParseReply, RefusesWhatWasTried) {
  std::vector<Trial> trials(2);
  trials[0].configuration = space().defaults();
  trials[1].configuration = Json::parse(kGood);
  trials[1].number = 1;
  const auto parsed = parse_reply(kGood, space(), trials);
  ASSERT_TRUE(std::holds_alternative<ReplyFault>(parsed));
  EXPECT_EQ(std::get<ReplyFault>(parsed).kind, FaultKind::duplicate);
  EXPECT_EQ(std::get<ReplyFault>(parsed).detail, "round 2");
}

}  // namespace
}  // namespace haqa
