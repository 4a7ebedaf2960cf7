#include "haqa/study/observed_space.h"

#include <gtest/gtest.h>

#include <cmath>

#include "haqa/space/space_file.h"

namespace haqa {
namespace {

std::vector<Trial> trials(std::initializer_list<Json> configurations) {
  std::vector<Trial> all;
  for (const Json& c : configurations) {
    all.emplace_back();
    all.back().configuration = c;
  }
  return all;
}

TEST(ObservedSpace, FollowsTheValuesTried) {
  const SearchSpace space =
      observed_space(trials({{{"lr", 0.1}, {"batch", 16}, {"kind", "a"}, {"flag", true}, {"one", 3}, {"wide", 1}},
                             {{"lr", 1e-4}, {"batch", 64}, {"kind", "b"}, {"flag", true}, {"one", 3}, {"wide", 0}},
                             {{"lr", 0.01}, {"batch", 32}, {"kind", 7}, {"late", 0.5}, {"wide", 0.5}}}));
  EXPECT_EQ(space.describe(),
            "'lr':  Type: UniformFloat, Range: [0.0001, 0.1], Default: 0.1, Log scale.\n"
            "'batch':  Type: UniformInteger, Range: [16, 64], Default: 16.\n"
            "'kind':  Type: Categorical, Choices: [\"a\",\"b\",7], Default: \"a\".\n"
            "'flag':  Type: Boolean, Default: true.\n"
            "'one':  Type: Categorical, Choices: [3], Default: 3.\n"
            "'wide':  Type: UniformFloat, Range: [0, 1], Default: 1.\n"
            "'late':  Type: Categorical, Choices: [0.5], Default: 0.5.\n");
}

TEST(ObservedSpace, LongTextsAreNoChoices) {
  const SearchSpace space = observed_space(
      trials({{{"code", ""}, {"note", "x"}}, {{"code", "a\nb"}, {"note", "y"}}, {{"code", "b\n"}, {"note", 3}}}));
  EXPECT_EQ(space.describe(),
            "'code':  Type: Text, Longest: 3 bytes, Default: \"\".\n"
            "'note':  Type: Categorical, Choices: [\"x\",\"y\",3], Default: \"x\".\n");
}

TEST(ObservedSpace, StandsWhatNoSpaceHas) {
  EXPECT_TRUE(observed_space({}).parameters().empty());
  EXPECT_TRUE(observed_space(trials({Json::object()})).parameters().empty());
  observed_space(trials({{{"a", nullptr}, {"b", {1, 2}}, {"c", std::nan("")}, {"", 1}},
                         {{"a", 1}, {"b", Json::object()}, {"c", 1.5}, {"", 1e308}},
                         {{"a", -1e308}, {"b", "x"}}}));
}

}  // namespace
}  // namespace haqa
