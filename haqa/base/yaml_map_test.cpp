#include "haqa/base/yaml_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::HasSubstr;

struct Case {
  std::string yaml;
  std::function<void(YamlMap&)> read;
  const char* expected;
};

YamlMap load(const std::string& yaml) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "haqa-yaml-test.yaml";
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

TEST(YamlMap, ValuesHaveTheTypeTheyReadAs) {
  const std::pair<const char*, const char*> cases[] = {{"1", "1"},
                                                       {"-7", "-7"},
                                                       {"1.5", "1.5"},
                                                       {"1e-5", "1e-05"},
                                                       {"true", "true"},
                                                       {"False", "false"},
                                                       {"~", "null"},
                                                       {"null", "null"},
                                                       {"'1'", "\"1\""},
                                                       {"\"true\"", "\"true\""},
                                                       {"word", "\"word\""},
                                                       {"1x", "\"1x\""},
                                                       {"nan", "\"nan\""},
                                                       {"inf", "\"inf\""},
                                                       {"[1, a, '2', [true]]", R"([1,"a","2",[true]])"},
                                                       {"[]", "[]"},
                                                       {"{a: 1, b: {c: x}}", R"({"a":1,"b":{"c":"x"}})"},
                                                       {"99999999999999999999", "1e+20"}};
  for (const auto& [text, expected] : cases) EXPECT_EQ(yaml_value(text).dump(), expected) << text;
  std::string bomb = "{a0: &a0 [x, x, x, x, x, x, x, x, x, x]";
  for (int i = 1; i < 12; ++i)
    bomb += fmt::format(", a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}]", i, i - 1);
  for (const std::string& text :
       {std::string("[1"), bomb + "}", std::string("&a [*a]"), std::string("{x: &a {y: *a}}")})
    EXPECT_THROW(yaml_value(text), UsageError) << text;
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
      {"a:\n\tb: 1\n", [](YamlMap&) {}, ":2: not valid YAML"},
      {"n: -2147483649\n", [](YamlMap& m) { m.integer("n", -9, 9); }, "from -9 to 9"},
      {"n: 1e400\n", [](YamlMap& m) { m.number("n", 0, 1); }, "a number from 0 to 1"},
      {"n: 1.0000001\n", [](YamlMap& m) { m.number("n", 0, 1); }, "a number from 0 to 1"},
      {"n: ''\n", [](YamlMap& m) { m.integer("n", 0, 1); }, "must be a whole number"},
      {"t:\n", [](YamlMap& m) { m.text("t"); }, "must be a text"},
      {"# nothing but words\n", [](YamlMap&) {}, "is empty"},
      {"a: " + std::string(100000, '['), [](YamlMap&) {}, "is nested too deeply"},
      {"just words\n", [](YamlMap&) {}, ":1: must be a mapping"},
      {"a: 1\nb: [1\nc: 2\n", [](YamlMap&) {}, "not valid YAML"},
      {"a: *nothing\n", [](YamlMap&) {}, ":1: not valid YAML"},
      {"a: 1\n\tb: 2\n", [](YamlMap&) {}, "not valid YAML"},
      {"~: 1\n", [](YamlMap&) {}, ":1: the key here"},
      // What stands behind --- was silently left out.
      {"a: 1\n---\nb: 2\n", [](YamlMap&) {}, ":2: is a second document"},
      // yaml-cpp's own way to read all documents never ended on these.
      {"{a: 1},\nb: 2}\n", [](YamlMap&) {}, ":1: is a second document"},
      {"{a: 1} }", [](YamlMap&) {}, "not valid YAML"},
      {"{a: 1}, [", [](YamlMap&) {}, "not valid YAML"},
      {"o:\n  i: {x: 1, x: 2}\n", [](YamlMap& m) { m.map("o").map("i"); }, ":2: the key \"x\""},
      {"o:\n  i:\n    x: 1\n", [](YamlMap& m) { m.map("o").map("i").finish(); }, ":3: unknown key \"x\" in o.i"},
      {"o:\n  i:\n    n: x\n", [](YamlMap& m) { m.map("o").map("i").integer("n", 1, 2); },
       ":3: o.i.n: \"x\" is not a whole number from 1 to 2"},
      {"wrong: 1\n",
       [](YamlMap& m) {
         m.text("a");
         m.text("a");
         m.finish();
       },
       "allowed are a"},
      {"c: [green, green]\n", [](YamlMap& m) { m.choices("c", {"green"}); }, ":1: c: \"green\" stands there twice"},
      {"c: [[green]]\n", [](YamlMap& m) { m.choices("c", {"green"}); }, "an entry is not allowed"},
      {"c: green\n", [](YamlMap& m) { m.choices("c", {"green"}); }, "must be a list of some of green"},
      {"c: {a: 1}\n", [](YamlMap& m) { m.choice("c", {"green"}); }, "must be one of green"},
      {"n: -1\n", [](YamlMap& m) { m.integer("n", 0, 9); }, "\"-1\" is not a whole number from 0 to 9"},
      {"n: -99999999999999999999\n", [](YamlMap& m) { m.integer("n", 0, 9); }, "is not a whole number from 0 to 9"},
      {"n: 0x10\n", [](YamlMap& m) { m.integer("n", 0, 99); }, "whole number"},
      {"n: 1e1\n", [](YamlMap& m) { m.integer("n", 0, 99); }, "whole number"},
      {"n: 1e999\n", [](YamlMap& m) { m.number("n", 0, 1e300); }, "is not a number"},
      {"n: inf\n", [](YamlMap& m) { m.number("n", 0, 1e300); }, "is not a number"},
      {"n: 2\n", [](YamlMap& m) { m.number("n", 0, 1.2345678); }, "a number from 0 to 1.2345678"},
      {"m: -1\n", [](YamlMap& m) { m.bytes("m"); }, ":1: m: \"-1\" is not a possible amount"},
      {"m: [1]\n", [](YamlMap& m) { m.bytes("m"); }, "must be an amount of memory"},
      {"f: [1]\n", [](YamlMap& m) { m.existing_file("f"); }, "must be the path of a file"},
      {"t: [1]\n", [](YamlMap& m) { m.text("t"); }, "must be a text"},
      {"t: \"\"\n", [](YamlMap& m) { m.text("t"); }, "must be a text"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.yaml);
    try {
      YamlMap map = load(c.yaml);
      c.read(map);
      ADD_FAILURE() << std::string(c.yaml).substr(0, 60);
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr(c.expected)) << std::string(c.yaml).substr(0, 60);
      EXPECT_THAT(e.what(), HasSubstr("haqa-yaml-test")) << std::string(c.yaml).substr(0, 60);
    }
  }
}

void expect_usage_error(
    const std::string& yaml, const std::function<void(YamlMap&)>& read = [](YamlMap&) {}) {
  try {
    YamlMap map = load(yaml);
    read(map);
    ADD_FAILURE() << yaml.substr(0, 60);
  } catch (const UsageError& e) {
    EXPECT_THAT(e.what(), HasSubstr("haqa-yaml-test"));
  }
}

TEST(YamlMap, HostileFilesAreUsageErrors) {
  expect_usage_error(std::string(100000, '['));
  expect_usage_error("a: " + std::string(100000, '{'));
  expect_usage_error(std::string(20000, '-') + "\n");
  std::string dashes;
  for (int i = 0; i < 20000; ++i) dashes += "- ";
  expect_usage_error(dashes);
  std::string indented;
  for (int i = 0; i < 2000; ++i) indented += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  expect_usage_error(indented);
  expect_usage_error("f: " + std::string(5000, 'n'), [](YamlMap& m) { m.existing_file("f"); });
  expect_usage_error(std::string("\0\0\0", 3));
}

TEST(YamlMap, RefusesWhatIsNoUtf8) {
  try {
    load("name: x\nunit: \xB5s\n");
    ADD_FAILURE();
  } catch (const UsageError& e) {
    EXPECT_THAT(e.what(), HasSubstr("haqa-yaml-test.yaml:2: holds bytes that are no UTF-8"));
  }
  EXPECT_EQ(load("unit: µs\n").text("unit"), "µs");
}

TEST(YamlMap, ReadsTheFormsThatPeopleWrite) {
  YamlMap map = load("---\n# note\nname: 'x y'  # why\r\nn: \"7\"\nr: -.5\nempty: {}\nlist:\n  - b\n  - a\n...\n");
  EXPECT_EQ(map.text("name"), "x y");
  EXPECT_EQ(map.integer("n", 7, 7), 7);
  EXPECT_EQ(map.number("r", -0.5, -0.5), -0.5);
  EXPECT_EQ(*map.choices("list", {"a", "b"}), (std::vector<std::string>{"b", "a"}));
  EXPECT_NO_THROW(map.map("empty").finish());
  YamlMap missing = map.map("missing");
  EXPECT_EQ(missing.integer("n", 0, 1), std::nullopt);
  EXPECT_NO_THROW(missing.finish());
  EXPECT_NO_THROW(map.finish());
  EXPECT_THROW(YamlMap::load("/no/such/file.yaml"), Error);
}

TEST(YamlMap, PathsAreTakenFromItsFolder) {
  const TemporaryFolder folder;
  std::ofstream(folder / "task.yaml") << "near: task.yaml\nfar: /proc/self/status\n";
  YamlMap map = YamlMap::load(folder / "task.yaml");
  EXPECT_EQ(map.existing_file("near"), folder / "task.yaml");
  EXPECT_EQ(map.existing_file("far"), "/proc/self/status");
  EXPECT_EQ(map.existing_file("none"), std::nullopt);
  // Also where the file itself was named by a relative path, so that what is kept of it holds anywhere.
  YamlMap relative = YamlMap::load(std::filesystem::relative(folder / "task.yaml"));
  const std::filesystem::path near = *relative.existing_file("near");
  EXPECT_TRUE(near.is_absolute()) << near;
  EXPECT_TRUE(std::filesystem::equivalent(near, folder / "task.yaml"));
}

}  // namespace
}  // namespace haqa
