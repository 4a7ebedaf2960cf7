#include "haqa/tune/command_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Expression condition(const std::string& text) {
  return Expression(text);
}

/// rate, text (hostile choices), and momentum, which has a value only where text is 'sgd'.
SearchSpace space() {
  Parameter momentum = real_parameter("momentum", 0, 1, 0.9, "");
  momentum.when = condition("text == 'sgd'");
  return SearchSpace({real_parameter("rate", 0, 1, 0.5, ""),
                      categorical_parameter("text",
                                            {"sgd", "'; touch x; '", "$(touch x)", "`touch x`", "\"; touch x; \"",
                                             "a b*  c", "", "\\", "-n", "two\nlines", "it's", "$HOME", "; touch x #"},
                                            "sgd", ""),
                      momentum});
}

std::string sh(const Command& command) {
  return run_process(command).output;
}

/// The arguments that a program sees, each in brackets.
constexpr const char* kShow = "printf '[%s]' ";

TEST(CommandTemplate, ValuesReachTheProgramAsTheyAreAndAreNeverSyntax) {
  const TemporaryFolder folder;
  const SearchSpace s = space();
  for (const Json& choice : s.parameters()[1].choices) {
    const std::string text = choice;
    const Configuration c = {{"rate", 0.25}, {"text", text}, {"momentum", 0.5}};
    // The template, and what the program must see.
    const std::pair<std::string, std::string> cases[] = {
        {"{text} {rate}", "[" + text + "][0.25]"},
        {"--text={text} end", "[--text=" + text + "][end]"},
        {"\"--text={text}\"", "[--text=" + text + "]"},
        {"'--text={text}' x", "[--text=" + text + "][x]"},
        {"'a {text}'\"b {text}\"{text}", "[a " + text + "b " + text + text + "]"},
        {"\"$(printf %s {text}.)\"", "[" + text + ".]"},
        {"\"$(printf %s \"{text}\" '.')\"", "[" + text + ".]"},
        {"\"$(printf %s '{text}.')\" # it's", "[" + text + ".]"},
    };
    for (const auto& [arguments, expected] : cases) {
      const CommandTemplate t("cd " + folder.path().string() + " && " + kShow + arguments, s);
      EXPECT_EQ(sh(t.command(c, {})), expected) << arguments;
      EXPECT_EQ(sh({{"/bin/sh", "-c", t.filled_in(c)}}), expected) << t.filled_in(c);
      EXPECT_EQ(sh({{"/bin/bash", "-c", t.filled_in(c)}}), expected) << t.filled_in(c);
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "a value was run as a command";
}

// Whatever the command looks like, and where our reading of the shell's grammar is wrong: a value is never run.
TEST(CommandTemplate, RandomCommandsNeverRunAValue) {
  const TemporaryFolder folder;
  const std::vector<std::string> parts = {"'",   "\"", "$(", ")",  "(", "\\",  " ",     "x",         "{text}", "{text}",
                                          "`",   "|",  ";",  "&&", "#", "\n",  "$",     "echo ",     "${x:-",  "}",
                                          "$((", "[",  "*",  "=",  "!", "<<x", "eval=", "case x in "};
  std::mt19937_64 random(1);
  int accepted = 0;
  for (int i = 0; i < 20000 && accepted < 200; ++i) {
    std::string text = "cd " + folder.path().string() + "; ";
    for (int k = 0; k < 12; ++k) text += parts[random() % parts.size()];
    if (text.find("{text}") == std::string::npos) continue;
    const std::string value = std::vector<std::string>{
        "'; touch a; '", "\"; touch b; \"", "$(touch c)", "`touch d`", "\n touch e\n", ") touch f; ("}[random() % 6];
    try {
      Command command = CommandTemplate(text, space()).command({{"rate", 0.5}, {"text", value}, {"momentum", 1}}, {});
      command.timeout_s = 5;
      run_process(command);
      ++accepted;
    } catch (const UsageError&) {
    }
    ASSERT_TRUE(std::filesystem::is_empty(folder.path())) << value << " was run by\n" << text;
  }
  EXPECT_EQ(accepted, 200);
}

TEST(CommandTemplate, BracesThatAreNoPlaceholders) {
  const Configuration c = {{"rate", 0.25}, {"text", "sgd"}, {"momentum", 0.5}};
  const std::pair<std::string, std::string> cases[] = {
      {"echo '{{\"rate\": {rate}}}'", "{\"rate\": 0.25}\n"},
      {"x=7; echo ${x}", "7\n"},
      {"{ echo a; echo {rate}; }", "a\n0.25\n"},
      {"echo {}", "{}\n"},
      {"echo a | awk '{{print $1 \"b\"}}'", "ab\n"},
      {"(echo {rate})", "0.25\n"},
      {"echo \\{ \\\" {rate}", "{ \" 0.25\n"},
      {"case {text} in sgd) echo yes;; esac", "yes\n"},
      {"B=7; echo ${A:-${B}}", "7\n"},
      {"B=7; echo \"${A:-${B:-${C}}}}}\" {rate}", "7} 0.25\n"},
      {"echo ${A:-{rate}} ${A:-'}}'}", "0.25 }\n"},
      {"B=7; echo '{{\"a\": '${B}'}}' {{\"a\": ${B}}}", "{\"a\": 7} {a: 7}\n"},
      {"echo $((2 * (3 + 1) << 1)) $(( $(printf %s {rate} | cut -c 3) * 2 )) {rate}", "16 4 0.25\n"},
      {"x={rate}; echo $((${x#0.} * 2))", "50\n"},
  };
  for (const auto& [text, expected] : cases)
    EXPECT_EQ(sh(CommandTemplate(text, space()).command(c, {})), expected) << text;
}

TEST(CommandTemplate, AWordWithoutItsValueIsLeftOut) {
  const Configuration c = {{"rate", 0.25}, {"text", "adamw"}};
  const std::pair<std::string, std::string> cases[] = {
      {"{rate} --momentum={momentum} end", "[0.25][end]"}, {"\"--momentum={momentum}\" end", "[end]"},
      {"--pair={rate},{momentum} end", "[end]"},           {"a $(printf %s \"{momentum}\") end", "[a][end]"},
      {"x$(printf %s {rate}){momentum} end", "[end]"},     {"{momentum}", "[]"},
  };
  for (const auto& [arguments, expected] : cases)
    EXPECT_EQ(sh(CommandTemplate(kShow + arguments, space()).command(c, {})), expected) << arguments;
}

TEST(CommandTemplate, FilesOfTheTrial) {
  const Configuration c = {{"rate", 0.25}, {"text", "sgd"}, {"momentum", 0.5}};
  const CommandTemplate t("echo {file} {folder}", space());
  EXPECT_EQ(sh(t.command(c, "/tmp/it's")), "/tmp/it's/configuration.json /tmp/it's\n");
  EXPECT_EQ(t.filled_in(c), "echo configuration.json .");
  EXPECT_THAT(t.unused(), IsEmpty());
  EXPECT_THAT(CommandTemplate("echo {rate}", space()).unused(), ElementsAre("text", "momentum"));
  const SearchSpace own({categorical_parameter("file", {"a", "b"}, "a", "")});
  EXPECT_EQ(sh(CommandTemplate("echo {file}", own).command({{"file", "b"}}, "/tmp")), "b\n")
      << "a parameter comes first";
}

TEST(CommandTemplate, RefusesWhatWouldGoWrong) {
  const std::pair<std::string, std::string> cases[] = {
      {"./train --lr {lr}", "{lr} is no parameter; there are rate, text, momentum, and {file} and {folder}"},
      {"awk '{print $1}'", "a brace is written {{"},
      {"./train {rate", "--command: {rate is not closed by a }; a brace is written {{"},
      {"", "is empty"},
      {" \n", "is empty"},
      {"echo `echo {rate}`", "backquotes; write $( )"},
      {"cat <<END\n{rate}\nEND", "here-document"},
      {"echo 'a {rate}", "not closed"},
      {"echo \"a {rate}", "not closed"},
      {"echo $(echo {rate}", "not closed"},
      {"echo ${x:-{rate}", "not closed"},
      {"echo $(( {rate} * 2 ))", "{rate} stands in $(( )), which"},
      {"echo \"$((1 + (2 * {rate})))\"", "x={rate}; echo $((x * 2))"},
      {"./train --momentum {momentum} --rate {rate}", "write --momentum={momentum} in one word"},
      {"./train -m\t{momentum}", "write -m={momentum} in one word"},
  };
  for (const auto& [text, expected] : cases) {
    try {
      CommandTemplate(text, space());
      ADD_FAILURE() << "accepted: " << text;
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr(expected)) << text;
    }
  }
  CommandTemplate("./train --rate {rate} {momentum}", space());  // an argument without an option before it
  CommandTemplate("./train --rate {rate} | tee {momentum}", space());
}

}  // namespace
}  // namespace haqa
