#include "haqa/base/yaml_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::HasSubstr;

struct Case {
  const char* yaml;
  std::function<void(YamlMap&)> read;
  const char* expected;
};

YamlMap load(const std::string& yaml) {
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "haqa-yaml-test.yaml";
  std::ofstream(file) << yaml;
  return YamlMap::load(file);
}

TEST(YamlMap, ReadsWhatIsThere) {
  YamlMap map = load("name: x\nn: 7\nr: 1e-3\nsize: 10 gb\nlist: [a, b]\ninner: {deep: yes}\n");
  EXPECT_EQ(map.text("name"), "x");
  EXPECT_EQ(map.integer("n", 0, 10), 7);
  EXPECT_EQ(map.number("r", 0, 1), 1e-3);
  EXPECT_EQ(map.bytes("size"), 10'000'000'000u);
  EXPECT_EQ(map.choices("list", {"a", "b", "c"})->size(), 2u);
  YamlMap inner = map.map("inner");
  EXPECT_EQ(inner.text("deep"), "yes");
  EXPECT_EQ(map.text("missing"), std::nullopt);
  EXPECT_NO_THROW(inner.finish());
  EXPECT_NO_THROW(map.finish());
}

TEST(YamlMap, EveryFaultNamesItsLineAndWhatIsAllowed) {
  const Case cases[] = {
      {"", [](YamlMap&) {}, "is empty"},
      {"- a\n", [](YamlMap&) {}, ":1: must be a mapping"},
      {"a: [1\n", [](YamlMap&) {}, "not valid YAML"},
      {"a: 1\nb: 2\na: 3\n", [](YamlMap&) {}, ":3: the key \"a\""},
      {"[1, 2]: x\n", [](YamlMap&) {}, ":1: the key"},
      {"a: 1\n\nwrong: 2\n",
       [](YamlMap& m) {
         m.text("a");
         m.finish();
       },
       ":3: unknown key \"wrong\"; allowed are a"},
      {"x: 1\nn: many\n", [](YamlMap& m) { m.integer("n", 1, 9); },
       ":2: n: \"many\" is not a whole number from 1 to 9"},
      {"n: 10\n", [](YamlMap& m) { m.integer("n", 1, 9); }, "from 1 to 9"},
      {"n: 99999999999999\n", [](YamlMap& m) { m.integer("n", 1, 9); }, "from 1 to 9"},
      {"n: 3.5\n", [](YamlMap& m) { m.integer("n", 1, 9); }, "whole number"},
      {"n: 12abc\n", [](YamlMap& m) { m.integer("n", 1, 99); }, "whole number"},
      {"n: .nan\n", [](YamlMap& m) { m.number("n", 0, 1); }, "a number from 0 to 1"},
      {"n: nan\n", [](YamlMap& m) { m.number("n", 0, 1); }, "a number from 0 to 1"},
      {"n: [1]\n", [](YamlMap& m) { m.number("n", 0, 1); }, "must be a number"},
      {"m: 10Q\n", [](YamlMap& m) { m.bytes("m"); }, ":1: m: \"10Q\" is not an amount"},
      {"c: red\n",
       [](YamlMap& m) {
         m.choice("c", {"green", "blue"});
       },
       "one of green, blue"},
      {"c: []\n", [](YamlMap& m) { m.choices("c", {"green"}); }, "a list of some of green"},
      {"c: [red]\n", [](YamlMap& m) { m.choices("c", {"green"}); }, "\"red\" is not allowed"},
      {"i: 5\n", [](YamlMap& m) { m.map("i"); }, "must be a mapping"},
      {"i: {x: 1}\n", [](YamlMap& m) { m.map("i").finish(); }, "unknown key \"x\" in i"},
      {"f: no-such-file\n", [](YamlMap& m) { m.existing_file("f"); }, "there is no file"},
      {"t:\n", [](YamlMap& m) { m.text("t"); }, "must be a text"},
  };
  for (const Case& c : cases) {
    try {
      YamlMap map = load(c.yaml);
      c.read(map);
      ADD_FAILURE() << c.yaml;
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr(c.expected)) << c.yaml;
      EXPECT_THAT(e.what(), HasSubstr("haqa-yaml-test.yaml")) << c.yaml;
    }
  }
}

}  // namespace
}  // namespace haqa
