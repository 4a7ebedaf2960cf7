#include "haqa/base/json.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> found(std::string_view text) {
  std::vector<std::string> all;
  for (const Json& object : find_json_objects(text)) all.push_back(object.dump());
  return all;
}

TEST(Json, FindsObjectsInProse) {
  EXPECT_THAT(found(R"(So: {"a": 1}. And then {"b": {"c": "}"}} at last)"),
              ElementsAre(R"({"a":1})", R"({"b":{"c":"}"}})"));
  EXPECT_THAT(found("```json\n{\"a\": [1, {\"x\": 2}]}\n```"), ElementsAre(R"({"a":[1,{"x":2}]})"));
  EXPECT_THAT(found(R"({not json} {"a": "\"{"})"), ElementsAre(R"({"a":"\"{"})"));
  EXPECT_THAT(found(R"({outer {"inner": 1} })"), ElementsAre(R"({"inner":1})"));
  for (const char* text : {"", "none", "{", "}{", R"({"a": 1)", R"({"a": "})", "[1, 2]", "{{{{"})
    EXPECT_THAT(found(text), IsEmpty()) << text;
}

TEST(Json, SurvivesHostileNesting) {
  EXPECT_THAT(found(std::string(100000, '{')), IsEmpty());
  EXPECT_THAT(found(std::string(100000, '{') + std::string(100000, '}')), IsEmpty());
  std::string deep = "1";
  for (int i = 0; i < 5000; ++i) deep = "{\"a\":" + deep + "}";
  EXPECT_NO_THROW(found(deep));
}

TEST(Json, FindsTheAnswerAfterMuchCode) {
  std::string code;
  for (int i = 0; i < 1000; ++i) code += "for (;;) { if (x) { y(); } else { \"quoted {\"; } }\n";
  EXPECT_THAT(found(code + R"(Answer: {"a":1})"), ElementsAre(R"({"a":1})"));
  EXPECT_THAT(found("It's 5\" wide {\n and {\"a\":1}"), ElementsAre(R"({"a":1})"));
}

TEST(Json, RubbishTakesNoTime) {
  const auto start = std::chrono::steady_clock::now();
  std::string half_closed;
  for (int i = 0; i < 50000; ++i) half_closed += "{\"a\": [{ x }";
  for (const std::string& text : {std::string(300000, '{'), half_closed, std::string(100000, '{') + "\"",
                                  std::string(100000, '{') + std::string(99999, '}')})
    EXPECT_THAT(found(text), IsEmpty());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(40))
      << "16 s with a sanitizer; minutes without the budget";
}

// A log of dictionaries that were cut off: each brace is read to the end of the text.
TEST(Json, FindsLinesAfterManyUnclosedBraces) {
  const std::string line(16 << 10, 'x');
  std::string log = R"({"first": 1})";
  for (int i = 0; i < 100; ++i) log += "\n{" + line;
  EXPECT_THAT(found(log + "\nresult: {\"a\": 1}\n{\"b\": 2} {\"c\": 3}\n"),
              ElementsAre(R"({"first":1})", R"({"a":1})", R"({"b":2})", R"({"c":3})"));
  EXPECT_THAT(found(log + "\n{\"a\": 1}\n" + std::string(1 << 20, '{')), ElementsAre(R"({"first":1})", R"({"a":1})"));
}

TEST(Json, FindsAllOfMany) {
  std::string many;
  for (int i = 0; i < 1000; ++i) many += fmt::format("step {}: {{\"n\": {}}}\n", i, i);
  const std::vector<std::string> all = found(many);
  ASSERT_EQ(all.size(), 1000u);
  EXPECT_EQ(all.back(), R"({"n":999})");
  // Code and sets in the reasoning before the answer.
  std::string code;
  for (int i = 0; i < 1000; ++i) code += "for (x in {1, 2}) { f(x); }\n";
  EXPECT_THAT(found(code + R"({"answer": 1})"), ElementsAre(R"({"answer":1})"));
}

TEST(Json, CountsNestingOutsideStringsAlone) {
  const std::string brackets(100, '[');
  EXPECT_THAT(found("{\"thought\": \"" + brackets + "{{{\"}"), ElementsAre("{\"thought\":\"" + brackets + "{{{\"}"));
  const auto nested = [](int depth, char open, char close) {
    return R"({"a":)" + std::string(static_cast<size_t>(depth - 1), open) +
           std::string(static_cast<size_t>(depth - 1), close) + "}";
  };
  EXPECT_EQ(found(nested(64, '[', ']')).size(), 1u);
  EXPECT_THAT(found(nested(65, '[', ']')), IsEmpty());
  // Not its inner levels either: they are not outermost. What follows is found.
  std::string deep = "1";
  for (int i = 0; i < 100; ++i) deep = R"({"a":)" + deep + "}";
  EXPECT_THAT(found(deep + R"( {"b":2})"), ElementsAre(R"({"b":2})"));
  for (int i = 0; i < 50000; ++i) deep = R"({"a":)" + deep + "}";
  EXPECT_THAT(found(deep), IsEmpty());
}

TEST(Json, ReadsWhatChatModelsWrite) {
  const std::pair<const char*, std::vector<std::string>> cases[] = {
      {"```\n{\"a\": 1}\n```\n```json\n{\"b\": 2}\n```", {R"({"a":1})", R"({"b":2})"}},
      {R"(I'd say "{" opens: {"a": "}{"})", {R"({"a":"}{"})"}},
      {R"({"a": {"b": {"c": []}}})", {R"({"a":{"b":{"c":[]}}})"}},
      {R"([{"a": 1}, {"a": 2}])", {R"({"a":1})", R"({"a":2})"}},
      {R"({"a": 1, "a": 2})", {R"({"a":2})"}},
      {R"({"a": "\\"} {"b": "\\\""})", {R"({"a":"\\"})", R"({"b":"\\\""})"}},
      {R"({'a': 1})", {}},
      {R"({"a": 1,})", {}},
      {R"({"a": 1e999})", {}},
      {R"({"a": NaN})", {}},
      {R"({"a": 1 {"b": 2})", {R"({"b":2})"}},
      {R"({} {"b": 2})", {"{}", R"({"b":2})"}},
      {R"({"a": "unclosed} {"b": 2})", {R"({"b":2})"}},
      {"{\"a\": \"\xff\"}", {}},
      // Code in a string as it stands in a file: line breaks, tabs, and escapes that JSON does not have.
      {"{\"code\": \"int f() {\n\treturn '\\0';\n}\", \"b\": 2}",
       {R"({"code":"int f() {\n\treturn '\\0';\n}","b":2})"}},
      {"{\"code\": \"#define A \\\n 1\\n\"}", {R"({"code":"#define A \\\n 1\n"})"}},
      {"{\"a\": \"x\ny\" \"b\"} {\"c\": 3}", {R"({"c":3})"}},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(found(text), expected) << text;
  EXPECT_THAT(found(std::string_view("{\"a\"\0:1} {\"b\":2}", 16)), ElementsAre(R"({"b":2})"));
}

TEST(Json, FileErrorsNameTheFile) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "it.json";
  const std::string deep(100000, '[');
  for (const std::string& content : std::vector<std::string>{
           "", "{", "1e999", "{\"a\": nan}", "\xff", "{} {}", deep, "\"" + std::string(100000, 'x'),
           deep + std::string(100000, ']'), "{\"a\":" + std::string(64, '[') + std::string(64, ']') + "}"}) {
    std::ofstream(file) << content;
    try {
      read_json(file);
      ADD_FAILURE() << content.substr(0, 20);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(file.string())) << content.substr(0, 20);
      EXPECT_LT(std::string(e.what()).size(), 400u);
    }
  }
  std::ofstream(file) << R"({"b":[{"a":"[[[{{{"}],"a":1})";
  EXPECT_EQ(read_json(file).dump(), R"({"b":[{"a":"[[[{{{"}],"a":1})");
  std::filesystem::remove(file);
  EXPECT_THROW(read_json(file), Error);
  EXPECT_THROW(read_json("/tmp"), Error);
}

TEST(Json, LinesHoldNoLineBreakAndRepairUtf8) {
  EXPECT_EQ(to_line({{"a", "x\ny\xff"}}), "{\"a\":\"x\\ny\xEF\xBF\xBD\"}");
}

}  // namespace
}  // namespace haqa
