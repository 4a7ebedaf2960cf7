#include "haqa/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "haqa/base/error.h"

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

TEST(Json, FileErrorsNameTheFile) {
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "haqa-json-test.json";
  for (const char* content : {"", "{", "1e999", "{\"a\": nan}", "\xff"}) {
    std::ofstream(file) << content;
    try {
      read_json(file);
      ADD_FAILURE() << content;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(file.string())) << content;
    }
  }
  std::filesystem::remove(file);
  EXPECT_THROW(read_json(file), Error);
  EXPECT_THROW(read_json("/tmp"), Error);
}

TEST(Json, LinesHoldNoLineBreakAndRepairUtf8) {
  EXPECT_EQ(to_line({{"a", "x\ny\xff"}}), "{\"a\":\"x\\ny\xEF\xBF\xBD\"}");
}

}  // namespace
}  // namespace haqa
