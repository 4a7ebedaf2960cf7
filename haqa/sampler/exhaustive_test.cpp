#include "haqa/sampler/exhaustive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "haqa/base/error.h"
#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Parameter stepped(Parameter p, double step) {
  p.step = step;
  return p;
}

Parameter when(Parameter p, const char* condition) {
  p.when = Expression(condition);
  return p;
}

std::vector<std::string> walked(const SearchSpace& space) {
  ConfigurationWalk walk(space);
  std::vector<std::string> all;
  while (const auto c = walk.next()) all.push_back(c->dump());
  EXPECT_EQ(walk.next(), std::nullopt);
  return all;
}

TEST(ConfigurationWalk, GoesThroughAllInOrder) {
  EXPECT_THAT(
      walked(SearchSpace({integer_parameter("n", 1, 2, 2, ""), boolean_parameter("b", true, "")})),
      ElementsAre(R"({"n":1,"b":false})", R"({"n":1,"b":true})", R"({"n":2,"b":false})", R"({"n":2,"b":true})"));
  EXPECT_THAT(walked(SearchSpace({stepped(real_parameter("r", 0, 1, 0, ""), 0.4), text_parameter("t", 9, "")})),
              ElementsAre(R"({"r":0.0,"t":""})", R"({"r":0.4,"t":""})", R"({"r":0.8,"t":""})"));
  EXPECT_THAT(walked(SearchSpace({categorical_parameter("c", {"x", "y"}, "x", ""),
                                  when(stepped(integer_parameter("n", 2, 6, 2, ""), 2), "c == 'y'")})),
              ElementsAre(R"({"c":"x"})", R"({"c":"y","n":2})", R"({"c":"y","n":4})", R"({"c":"y","n":6})"));
  EXPECT_THAT(walked(SearchSpace({integer_parameter("a", 1, 3, 1, ""), integer_parameter("b", 1, 3, 1, "")},
                                 {Expression("a * b <= 2"), Expression("a < 3")})),
              ElementsAre(R"({"a":1,"b":1})", R"({"a":1,"b":2})", R"({"a":2,"b":1})"));
  EXPECT_THAT(walked(SearchSpace({real_parameter("r", 2, 2, 2, "")})), ElementsAre(R"({"r":2.0})"));
  EXPECT_THAT(walked(SearchSpace()), ElementsAre("{}"));
}

// Against all valid ones by trying every combination.
TEST(ConfigurationWalk, FindsExactlyWhatIsValid) {
  const SearchSpace free({integer_parameter("a", 0, 6, 1, ""), categorical_parameter("c", {"x", "y", 3}, "x", ""),
                          when(integer_parameter("b", -2, 5, -2, ""), "c != 3"),
                          when(boolean_parameter("f", false, ""), "a > 2 and c == 'x'")});
  const SearchSpace space(free.parameters(), {Expression("a % 2 == 1 or f"), Expression("b < a"), Expression("a < 6")});
  std::set<std::string> valid;
  for (const std::string& text : walked(free))
    if (space.allows(Json::parse(text))) valid.insert(text);
  const std::vector<std::string> all = walked(space);
  EXPECT_EQ(std::set<std::string>(all.begin(), all.end()), valid);
  EXPECT_EQ(all.size(), valid.size());
  EXPECT_GT(all.size(), 20u);
}

std::string fault(const SearchSpace& space) {
  try {
    require_walkable(space);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "none";
}

TEST(ConfigurationWalk, RefusesWhatIsTooMuch) {
  const auto cube = [](int n, std::vector<Expression> rules = {}) {
    return SearchSpace(
        {integer_parameter("a", 1, n, 1, ""), integer_parameter("b", 1, n, 1, ""), integer_parameter("c", 1, n, 1, "")},
        std::move(rules));
  };
  EXPECT_THAT(fault(SearchSpace({real_parameter("rate", 0, 1, 0, "")})),
              HasSubstr("'rate' has infinitely many values"));
  EXPECT_THAT(fault(cube(47)), HasSubstr("holds 103823 configurations, and at most 100000"));
  EXPECT_EQ(fault(cube(46)), "none");
  EXPECT_EQ(fault(cube(1000, {Expression("a == b"), Expression("a < 4"), Expression("c < 9")})), "none");
  EXPECT_THAT(fault(cube(1000, {Expression("a == b")})), HasSubstr("more than 100000 configurations, of 1000000000"));
  EXPECT_THAT(fault(cube(2000, {Expression("a + b + c == 3")})), HasSubstr("too many to find out which are valid"));
}

std::vector<Trial> swept(const Track& track, ExhaustiveSampler& sampler, std::vector<Trial> trials, size_t limit) {
  while (trials.size() < limit) {
    const Proposal p = sampler.ask(track, trials, 1);
    EXPECT_EQ(track.space.problem(p.configuration), std::nullopt);
    if (p.exhausted) break;
    EXPECT_FALSE(tried_hashes(track.space, trials).contains(track.space.hash(p.configuration)));
    trials.push_back(running_trial(static_cast<int>(trials.size()), p));
  }
  return trials;
}

TEST(ExhaustiveSampler, TriesAllOnceAndEnds) {
  Track track;
  track.space =
      SearchSpace({integer_parameter("a", 1, 4, 3, ""), integer_parameter("b", 1, 4, 2, "")}, {Expression("a != b")});
  ExhaustiveSampler sampler;
  const std::vector<Trial> all = swept(track, sampler, {}, 100);
  ASSERT_EQ(all.size(), 12u);
  EXPECT_EQ(all[0].configuration, track.space.defaults());
  EXPECT_EQ(all[1].configuration.dump(), R"({"a":1,"b":2})");
  EXPECT_EQ(tried_hashes(track.space, all).size(), 12u);
  EXPECT_TRUE(sampler.ask(track, all, 1).exhausted);
  // After an interruption another goes on, whoever proposed what is there.
  for (const size_t n : {0u, 1u, 5u, 12u}) {
    ExhaustiveSampler other;
    const std::vector<Trial> again = swept(track, other, {all.end() - static_cast<std::ptrdiff_t>(n), all.end()}, 100);
    EXPECT_EQ(again.size(), 12u);
    EXPECT_EQ(tried_hashes(track.space, again).size(), 12u);
  }
  // On another space, and after fewer trials, it begins anew.
  Track more = track;
  more.space = SearchSpace({integer_parameter("a", 1, 5, 3, "")});
  EXPECT_EQ(swept(more, sampler, {}, 100).size(), 5u);
  EXPECT_EQ(swept(track, sampler, {all[0]}, 100).size(), 12u);
}

TEST(ExhaustiveSampler, IsQuickInALargeSpace) {
  Track track;
  track.space = SearchSpace({integer_parameter("a", 1, 300, 1, ""), integer_parameter("b", 1, 300, 1, "")});
  ExhaustiveSampler sampler;
  std::vector<Trial> trials;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 20000; ++i) trials.push_back(running_trial(i, sampler.ask(track, trials, 1)));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(tried_hashes(track.space, trials).size(), 20000u);
}

}  // namespace
}  // namespace haqa
