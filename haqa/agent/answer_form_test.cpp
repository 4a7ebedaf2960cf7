#include "haqa/agent/answer_form.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "haqa/agent/agent_test_support.h"
#include "haqa/agent/reply.h"

namespace haqa {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kRest = R"("blockdim": [64, 2, 1], "tiling size": 16, "prefetch": true)";
constexpr const char* kCode = "#include \"kernel.h\"\nint f() { return '\\0'; }\n";

std::string action(const std::string& code) {
  return fmt::format("Thought: t\nAction: {{{}, {}}}", kRest, code);
}

TEST(AnswerForm, IsThePapers) {
  const Track track = kernel_track();
  Configuration c = track.space.defaults();
  EXPECT_EQ(to_answer(track, c).dump(),
            R"({"blockdim":[32,1,1],"tiling size":8,"code changed":false,"code":"","prefetch":false})");
  c["code"] = "x";
  EXPECT_EQ(to_answer(track, c)["code changed"], true);
  std::vector<std::string> none;
  EXPECT_EQ(track.space.normalized(std::get<Configuration>(from_answer(track, to_answer(track, c), none))), c);
  EXPECT_EQ(example_action(track), to_answer(track, track.space.defaults()).dump());
  EXPECT_EQ(describe_answer(track),
            "In an answer \"blockdim\" is the list ['block_x', 'block_y', 1].\n"
            "In an answer \"tiling size\" is 'tiling_size'.\n"
            "In an answer \"code changed\" says whether 'code' is changed. Where it is true, \"code\" is the complete "
            "text, as a JSON string, or left empty and given in one fenced block right after the JSON object.\n");
  const Json schema = answer_schema(track);
  EXPECT_EQ(schema["properties"]["blockdim"].dump(),
            R"({"type":"array","items":{"type":"integer"},"minItems":3,"maxItems":3})");
  EXPECT_EQ(schema["properties"]["code"]["type"], "string");
  EXPECT_EQ(schema["required"].dump(), R"(["blockdim","tiling size","code changed","prefetch"])");
  EXPECT_EQ(schema["additionalProperties"], false);
}

TEST(AnswerForm, WithoutNamesOfItsOwnIsTheConfiguration) {
  Track track = kernel_track();
  track.answer_names.clear();
  std::vector<std::string> none;
  EXPECT_EQ(to_answer(track, track.space.defaults()), track.space.defaults());
  EXPECT_EQ(std::get<Configuration>(from_answer(track, track.space.defaults(), none)), track.space.defaults());
  EXPECT_EQ(answer_schema(track), track.space.schema());
  EXPECT_EQ(describe_answer(track), "");
}

TEST(AnswerForm, OfWhatIsNotActiveAListHasTheDefault) {
  Track track = kernel_track();
  std::vector<Parameter> parameters = track.space.parameters();
  parameters[1].when = Expression("block_x > 8");
  track.space = SearchSpace(parameters);
  Configuration c = track.space.defaults();
  c["block_x"] = 4;
  c = track.space.normalized(c);
  EXPECT_FALSE(c.contains("block_y"));
  EXPECT_EQ(to_answer(track, c)["blockdim"].dump(), "[4,1,1]");
  std::vector<std::string> none;
  EXPECT_EQ(track.space.normalized(std::get<Configuration>(from_answer(track, to_answer(track, c), none))), c);
}

TEST(KernelReply, IsReadInEveryFormThatModelsUse) {
  const std::string string = Json(kCode).dump(), fence = fmt::format("```cpp\n{}```\n", kCode);
  std::string raw = string;  // line breaks as they are
  for (size_t at; (at = raw.find("\\n")) != std::string::npos;) raw.replace(at, 2, "\n");
  const std::pair<std::string, std::string> cases[] = {
      {action(R"("code changed": false, "code": "")"), ""},
      {action(R"("code changed": false)"), ""},
      {action(R"("code changed": false, "code": null)"), ""},
      {action(R"("code changed": false, "code": "int f();")"), ""},
      {action(R"("code changed": false)") + "\n" + fence, ""},
      {action(R"("code changed": true, "code": )" + string), kCode},
      {action(R"("code changed": true, "code": )" + raw), kCode},
      {action(R"("code": )" + string), kCode},
      {action(R"("code": "")"), ""},
      // In a fenced block: behind the object, behind a JSON block, before another block, without a word "Action".
      {action(R"("code changed": true)") + "\n" + fence, kCode},
      {action(R"("code changed": true, "code": "")") + "\n\nThe code:\n\n" + fence + "It is faster.", kCode},
      {fmt::format("Thought: t\nAction:\n```json\n{{{}, \"code changed\": true}}\n```\n\n{}", kRest, fence), kCode},
      {fmt::format("Thought: t\nAction: ```json\n{{{}, \"code changed\": true}}\n``` {}", kRest, fence), kCode},
      {action(R"("code changed": true)") + "\n" + fence + "As before:\n```\nmake\n```", kCode},
      {fmt::format("{{{}, \"code changed\": true}}\n{}", kRest, fence), kCode},
      {fmt::format("Thought: instead of\n```\nwhile (1) {{}}\n```\nAction: {{{}, \"code changed\": true}}\n{}", kRest,
                   fence),
       kCode},
      {fmt::format("Thought: this\n{}Action: {{{}, \"code changed\": true}}", fence, kRest), kCode},
      {fmt::format("{}This Action should help.", action(R"("code changed": true)") + "\n" + fence), kCode},
      // A block within the string, and braces and the word in the code.
      {action(R"("code changed": true, "code": )" + Json("```c\n" + std::string(kCode) + "```").dump()), kCode},
      {action("\"code changed\": true, \"code\": \"\n```c\nint a[2] = {};\n```\n\""), "int a[2] = {};\n"},
      {action(R"("code changed": true)") + "\n```c\n// Action {}\nint a[2] = {};\n```",
       "// Action {}\nint a[2] = {};\n"},
      {fmt::format(R"({{"thought": "t", "action": {{{}, "code changed": true}}}})", kRest) + "\n" + fence, kCode},
      // Names of their own.
      {R"(Action: {"block_x": 64, "block_y": 2, "tiling_size": 16, "prefetch": true, "code": ""})", ""},
      {R"(Action: {"blockdim": [1, 2, 1], "block_x": 64, "tiling size": 16, "prefetch": true, "code": ""})", ""},
  };
  for (const auto& [text, code] : cases) {
    const auto parsed = parse_reply(text, kernel_track(), {});
    ASSERT_TRUE(std::holds_alternative<AgentAction>(parsed)) << text << "\n" << std::get<ReplyFault>(parsed).detail;
    const Configuration wanted = {
        {"block_x", 64}, {"block_y", 2}, {"tiling_size", 16}, {"prefetch", true}, {"code", code}};
    EXPECT_EQ(std::get<AgentAction>(parsed).configuration, wanted) << text;
  }
}

TEST(KernelReply, NamesEachFault) {
  const std::string ok = R"("code changed": false})";
  const std::pair<std::string, const char*> cases[] = {
      {R"({"blockdim": [64, 2], "tiling size": 16, "prefetch": true, )" + ok,
       "\"blockdim\" is [64,2]; it must be a list of 3: \"block_x\", \"block_y\", 1"},
      {R"({"blockdim": [64, 2, 1, 1], "tiling size": 16, "prefetch": true, )" + ok, "it must be a list of 3"},
      {R"({"blockdim": 64, "tiling size": 16, "prefetch": true, )" + ok, "\"blockdim\" is 64; it must be a list of 3"},
      {R"({"blockdim": [64, "2", 1], "tiling size": 16, "prefetch": true, )" + ok, "\"block_y\" is \"2\""},
      {R"({"blockdim": [640, 2, 1], "tiling size": 16, "prefetch": true, )" + ok, "\"block_x\" is 640"},
      {R"({"tiling size": 16, "prefetch": true, )" + ok, "\"blockdim\" is missing; it must be a list of 3"},
      {R"({"block_x": 64, "tiling size": 16, "prefetch": true, )" + ok, "\"blockdim\" is missing"},
      {R"({"blockdim": [64, 2, 1], "prefetch": true, )" + ok, "\"tiling size\" is missing"},
      {R"({"blockdim": [64, 2, 1], "tiling size": [16], "prefetch": true, )" + ok, "\"tiling_size\" is [16]"},
      {R"({"blockdim": [64, 2, 1], "tiling size": 16, )" + ok, "\"prefetch\" is missing"},
      {R"({"blockdim": [64, 2, 1], "tiling size": 16, "prefetch": true, "unroll size": 4, )" + ok,
       "\"unroll size\" is no parameter"},
      {action(""), ""},
      {R"({"blockdim": [64, 2, 1], "tiling size": 16, "prefetch": true})", "\"code changed\" is missing"},
      {action(R"("code changed": "yes", "code": "x")"), "\"code changed\" is \"yes\"; it must be true or false"},
      {action(R"("code changed": true, "code": 7)"), "\"code\" is 7; it must be a text of at most 1000 bytes"},
      {action(R"("code changed": true, "code": ")" + std::string(1001, 'x') + "\""), "of 1003 bytes"},
      {action(R"("code changed": true, "code": ")" + std::string(1001, 'x') + "\""), ""},
      {action(R"("code changed": true)"), "\"code changed\" is true, but there is no \"code\""},
      {action(R"("code changed": true, "code": " ")"), "\"code changed\" is true, but there is no \"code\""},
      // Cut off: half a source is none.
      {action(R"("code changed": true)") + "\n```c\nint f() {", "\"code changed\" is true, but there is no \"code\""},
      {action(R"("code changed": true, "code": "1532 bytes, hash 1a2b3c4d")"), "only the summary of an earlier one"},
      {action(R"("code changed": true, "code": "a\u0000b")"), "without NUL"},
  };
  for (const auto& [text, detail] : cases) {
    const auto parsed = parse_reply(text, kernel_track(), {});
    ASSERT_TRUE(std::holds_alternative<ReplyFault>(parsed)) << text;
    EXPECT_THAT(std::get<ReplyFault>(parsed).detail, HasSubstr(detail)) << text;
  }
}

TEST(KernelReply, OfSeveralTracksEachThatNeedsOneTakesTheNextBlock) {
  Track one = kernel_track(), other = kernel_track(), plain = track();
  other.name = "other";
  const TrackHistory tracks[] = {{&one, {}, 1}, {&plain, {}, 1}, {&other, {}, 1}};
  const std::string own = fmt::format("{{{}, \"code changed\": true}}", kRest);
  const std::string text =
      fmt::format("Action: {{\"kernel\": {}, \"runtime\": {}, \"other\": {}}}\n```\nfirst\n```\n```\nsecond\n```\n",
                  own, to_line(plain.space.defaults()), own);
  const auto parsed = parse_joint_reply(text, tracks);
  EXPECT_EQ(std::get<AgentAction>(parsed[0]).configuration["code"], "first\n");
  EXPECT_TRUE(std::holds_alternative<AgentAction>(parsed[1]));
  EXPECT_EQ(std::get<AgentAction>(parsed[2]).configuration["code"], "second\n");
}

std::string code_of(int i) {
  return fmt::format("// version {}\n{}", i, std::string(300, 'x'));
}

/// Five trials with code of their own; the second is the best.
std::vector<Trial> kernel_trials() {
  std::vector<Trial> trials(5);
  for (int i = 0; i < 5; ++i) {
    Trial& t = trials[static_cast<size_t>(i)];
    t.number = i;
    t.configuration = kernel_track().space.defaults();
    if (i > 0) t.configuration["code"] = code_of(i);
    t.value = i == 1 ? 2.0 : 1.0;
    t.thought = "thought";
  }
  return trials;
}

int times(const std::vector<Message>& messages, const std::string& text) {
  int n = 0;
  for (const Message& m : messages)
    for (size_t at = m.content.find(text); at != std::string::npos; at = m.content.find(text, at + 1)) ++n;
  return n;
}

TEST(KernelPrompt, ShowsTheCodeOfTheLastRoundAndOfTheIncumbentOnce) {
  const std::vector<Trial> trials = kernel_trials();
  const auto messages = build_conversation(prompts(), kernel_track(), trials, 3, {});
  const int shown[] = {0, 1, 0, 0, 1};
  for (int i = 1; i < 5; ++i) EXPECT_EQ(times(messages, code_of(i)), shown[i]) << i;
  EXPECT_THAT(messages.back().content, HasSubstr("Its code:\n```\n// version 4\n"));
  EXPECT_THAT(messages.back().content, HasSubstr("Its code:\n```\n// version 1\n"));
  EXPECT_THAT(messages[1].content, HasSubstr("In an answer \"blockdim\" is the list"));
  EXPECT_THAT(
      messages[2].content,
      HasSubstr(R"(Action: {"blockdim":[32,1,1],"tiling size":8,"code changed":true,"code":"313 bytes, hash )"));
  // The last one is the best: once too.
  const auto best = build_conversation(prompts(), kernel_track(), std::span(trials).first(2), 3, {});
  EXPECT_EQ(times(best, code_of(1)), 1);
  // In joint prompts alike.
  const Track one = kernel_track(), other = track();
  const TrackHistory both[] = {{&one, trials, 1}, {&other, {}, 1}};
  const auto joint = build_conversation(prompts(), both, {});
  for (int i = 1; i < 5; ++i) EXPECT_EQ(times(joint, code_of(i)), shown[i]) << i;
}

TEST(KernelPrompt, LeavesCodeOutWhereTheBudgetIsSmall) {
  const std::vector<Trial> trials = kernel_trials();
  const auto tokens_of = [&](int budget) {
    return build_conversation(prompts(), kernel_track(), trials, 3, {10, budget});
  };
  std::set<std::pair<int, int>> seen;
  for (int budget = 900; budget <= 3000; budget += 20) {
    try {
      const auto messages = tokens_of(budget);
      EXPECT_LE(total_tokens(messages), budget);
      seen.emplace(times(messages, code_of(1)), times(messages, code_of(4)));
    } catch (const Error&) {
      EXPECT_LT(budget, 1400);
    }
  }
  EXPECT_EQ(seen, (std::set<std::pair<int, int>>{{0, 0}, {1, 0}, {1, 1}}));
}

TEST(KernelPrompt, ShortDefaultsAreShownWhole) {
  EXPECT_EQ(short_text("f16"), "f16");
  EXPECT_EQ(short_text(std::string(100, 'x')), std::string(100, 'x'));
  EXPECT_EQ(short_text("a\nb"), "3 bytes, hash " + short_text("a\nb").substr(14));
  EXPECT_TRUE(is_short_text(short_text(std::string(5000, 'x'))));
  for (const char* text :
       {"", "5 bytes", "5 bytes, hash 1a2b3c4", "x5 bytes, hash 1a2b3c4d", "5 bytes, hash 1a2b3c4d;"})
    EXPECT_FALSE(is_short_text(text)) << text;
}

}  // namespace
}  // namespace haqa
