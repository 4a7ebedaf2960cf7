#include "haqa/space/expression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const Json kConfiguration = {{"a", 7},        {"b", -3},        {"x", 0.5},      {"tile_m", 64},
                             {"tile_n", 192}, {"type", "q8"},   {"flash", true}, {"e_1", 1e-5},
                             {"zero", 0},     {"word", "it's"}, {"big", 1 << 30}};

struct Case {
  const char* text;
  bool holds;
};

// Where Python accepts the text, the truth is Python 3's for the same values.
TEST(Expression, HoldsAsInPython) {
  const Case cases[] = {
      {"tile_m * tile_n * 4 <= 49152", true},
      {"tile_m * tile_n * 4 < 49152", false},
      {"a + b == 4", true},
      {"a - b - 10 == 0", true},
      {"2 ** 3 ** 2 == 512", true},
      {"-2 ** 2 == -4", true},
      {"2 ** -1 == 0.5", true},
      {"a % 4 == 3", true},
      {"b % 4 == 1", true},
      {"b // 2 == -2", true},
      {"a // 2 == 3 and a / 2 == 3.5", true},
      {"1 + 2 * 3 == 7", true},
      {"(1 + 2) * 3 == 9", true},
      {"0 < x < 1", true},
      {"0 < x < 0.5", false},
      {"1 < a < 10 > b", true},
      {"1 < a in [7, 8] ", true},
      {"1 < (0 < a) + 1 == 2 <= 2", true},
      {"not a == 7", false},
      {"not not flash", true},
      {"not flash or x", true},
      {"flash and not zero", true},
      {"a == 1 or a == 7 and b == 0", false},
      {"(a == 1 or a == 7) and b == -3", true},
      {"type == 'q8'", true},
      {"type == \"q8\"", true},
      {"type != 'f16'", true},
      {"type in ['f16', 'q8']", true},
      {"type not in ['f16', 'q8']", false},
      {"a in (1, 7, 9)", true},
      {"a in [1, 8,]", false},
      {"word == \"it's\"", true},
      {"'a' < 'b'", true},
      {"min(a, b, 2) == -3 and max(a, b) == 7 and abs(b) == 3", true},
      {"e_1 == 1e-5 and e_1 < 1.5E-5", true},
      {"flash == 1", true},
      {"flash == True and True != False", true},
      {"big * big == 1152921504606846976", true},
      {"+a == 7", true},
      {"- - a == 7", true},
      {"a<=7 and b<0", true},
      {"zero", false},
      {"''", false},
      // Of other languages.
      {"a == 7 && !zero || false", true},
  };
  for (const Case& c : cases) EXPECT_EQ(Expression(c.text).holds(kConfiguration), c.holds) << c.text;
}

TEST(Expression, WhatHasNoValueIsFalse) {
  for (const char* text : {"a / zero > 0", "a / zero <= 0", "a % zero == 0", "a // zero == 0", "missing == 1",
                           "missing != 1", "missing < 1", "missing in [1]", "missing not in [1]", "not missing",
                           "type < 3", "type * 2 == 4", "type + 'x' == 'q8x'", "-type == 1", "(b - a) ** 0.5 >= 2",
                           "(b - a) ** 0.5 != 2", "zero ** -1 > 5", "10 ** 308 * 10 > 5", "[1] == [1]"})
    EXPECT_FALSE(Expression(text).holds(kConfiguration)) << text;
  EXPECT_TRUE(Expression("missing == 1 or a == 7").holds(kConfiguration));
}

TEST(Expression, KnowsItsNames) {
  EXPECT_THAT(Expression("b * a + b <= max(c, 'd') and e in [f, True]").names(), ElementsAre("b", "a", "c", "e", "f"));
  EXPECT_EQ(Expression("a<=1").text(), "a<=1");
}

TEST(Expression, SaysWhereItMakesNoSense) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "character 1: it is empty"},
      {"   ", "it is empty"},
      {"a <", "character 4: a value is missing"},
      {"a = 1", "character 3: \"=\" is not expected there"},
      {"a b", "character 3: \"b\" is not expected there"},
      {"(a", "character 3: \")\" is missing"},
      {"[1, 2", "\"]\" is missing"},
      {"a)", "\")\" is not expected there"},
      {"'a", "quotation mark is not closed"},
      {"1.2.3 < a", "\"1.2.3\" is no number"},
      {"3x < a", "\"3x\" is no number"},
      {"a not b", "\"in\" is missing after \"not\""},
      {"a in ('adam')", "character 14: after \"in\" stands a list, such as ['adam'] or ('adam',)"},
      {"a in (7) and b == 1", "such as [7] or (7,)"},
      {"a not in 'adam'", "after \"not in\" stands a list, such as ['adam']"},
      {"a in type", "after \"in\" stands a list, such as [1, 2]"},
      {"1 in [1] in a", "after \"in\" stands a list"},
      {"open('x')", "there is no function open; min, max and abs are"},
      {"abs(1, 2)", "abs has another number of arguments"},
      {"min()", "min has another number of arguments"},
      {"a @ b", "\"@\" is not expected there"},
      {"*a", "\"*\" is not expected there"},
      {std::string(1000, '('), "nested too deeply"},
      {std::string(1000, '-'), "nested too deeply"},
      {std::string(1000, '!'), "nested too deeply"},
      {std::string(100000, '('), "longer than 4000 characters"},
  };
  for (const auto& [text, expected] : cases) {
    try {
      const Expression made{text};
      ADD_FAILURE() << text;
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr(expected));
    }
  }
}

// A chain of sums is no depth of the parser, but one of the tree, which is walked too.
// Were the middle copied into both comparisons, each level would double what stands in it.
TEST(Expression, NestedComparisonsStaySmall) {
  std::string text = "a";
  for (int i = 0; i < 60; ++i) text = "0<(" + text + ")<2";
  EXPECT_FALSE(Expression(text).holds(kConfiguration));
  EXPECT_THAT(Expression(text).names(), ElementsAre("a"));
}

TEST(Expression, LongChainsAreWalked) {
  std::string sum = "0";
  for (int i = 0; i < 900; ++i) sum += " + a";
  EXPECT_TRUE(Expression(sum + " == 6300").holds(kConfiguration));
}

}  // namespace
}  // namespace haqa
