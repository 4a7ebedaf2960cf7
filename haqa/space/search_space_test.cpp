#include "haqa/space/search_space.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>

namespace haqa {
namespace {

using testing::HasSubstr;

SearchSpace sample_space() {
  return SearchSpace({real_parameter("rate", 1e-5, 0.2, 0.01, "The learning rate.", true),
                      integer_parameter("batch", 32, 256, 128, "Samples a step.", true),
                      integer_parameter("micro", 1, 256, 64, "Samples at once."),
                      categorical_parameter("type", {"f16", "q8_0", 4}, "f16", "Cache type."),
                      boolean_parameter("flash", true, "Flash attention.")},
                     {{"micro <= batch", [](const Configuration& c) { return c["micro"] <= c["batch"]; }}});
}

TEST(SearchSpace, DefaultsAreValidAndInOrder) {
  EXPECT_EQ(sample_space().defaults().dump(), R"({"rate":0.01,"batch":128,"micro":64,"type":"f16","flash":true})");
  EXPECT_EQ(sample_space().problem(sample_space().defaults()), std::nullopt);
}

struct Fault {
  const char* parameter;
  Json value;
  const char* expected;
};
TEST(SearchSpace, SaysExactlyWhatIsWrong) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const Fault cases[] = {
      {"rate", 0.3, "\"rate\" is 0.3; it must be a number from 1e-05 to 0.2"},
      {"rate", "0.1", "\"rate\" is \"0.1\"; it must be a number"},
      {"rate", nan, "it must be a number"},
      {"rate", inf, "it must be a number"},
      {"rate", true, "it must be a number"},
      {"batch", 31, "\"batch\" is 31; it must be a whole number from 32 to 256"},
      {"batch", 64.5, "\"batch\" is 64.5; it must be a whole number"},
      {"batch", 1e300, "it must be a whole number"},
      {"batch", std::numeric_limits<uint64_t>::max(), "it must be a whole number"},
      {"batch", nullptr, "it must be a whole number"},
      {"type", "f32", "it must be one of [\"f16\",\"q8_0\",4]"},
      {"flash", 1, "it must be true or false"},
      {"micro", 200, "it must hold that micro <= batch"},
      {"colour", "red", "\"colour\" is no parameter"},
  };
  for (const Fault& c : cases) {
    Configuration proposal = sample_space().defaults();
    proposal[c.parameter] = c.value;
    const auto problem = sample_space().problem(proposal);
    ASSERT_TRUE(problem.has_value()) << c.parameter << ' ' << c.value;
    EXPECT_THAT(*problem, HasSubstr(c.expected));
  }
  EXPECT_THAT(*sample_space().problem({{"rate", 1}}), HasSubstr("\"batch\" is missing"));
  EXPECT_THAT(*sample_space().problem(3), HasSubstr("one JSON object"));
  EXPECT_THAT(*sample_space().problem({{std::string(5000, 'x'), 1}}), testing::SizeIs(testing::Lt(800u)));
}

TEST(SearchSpace, EqualMeaningIsOneConfiguration) {
  const SearchSpace space = sample_space();
  const Configuration a = {{"flash", true}, {"type", "f16"}, {"micro", 64.0}, {"batch", 128}, {"rate", 0.01}};
  EXPECT_EQ(space.problem(a), std::nullopt);
  EXPECT_EQ(space.normalized(a).dump(), space.defaults().dump());
  EXPECT_EQ(space.hash(a), space.hash(space.defaults()));
  Configuration b = space.defaults();
  b["micro"] = 63;
  EXPECT_NE(space.hash(a), space.hash(b));
}

TEST(SearchSpace, EncodesIntoTheUnitCube) {
  const SearchSpace space = sample_space();
  const std::vector<double> point =
      space.encode({{"rate", std::sqrt(1e-5 * 0.2)}, {"batch", 256}, {"micro", 1}, {"type", "q8_0"}, {"flash", false}});
  const std::vector<double> expected = {0.5, 1, 0, 0, std::sqrt(0.5), 0, 0};
  ASSERT_EQ(point.size(), expected.size());
  for (size_t i = 0; i < point.size(); ++i) EXPECT_NEAR(point[i], expected[i], 1e-12) << i;
}

TEST(SearchSpace, SamplesAndNeighboursAreValidAndReachEverything) {
  const SearchSpace space = sample_space();
  std::mt19937_64 random(1);
  std::set<std::string> types;
  std::set<int> edges;
  for (int i = 0; i < 3000; ++i) {
    const Configuration c = space.sample(random);
    ASSERT_EQ(space.problem(c), std::nullopt) << c;
    const Configuration n = space.neighbour(c, random);
    ASSERT_EQ(space.problem(n), std::nullopt) << n;
    ASSERT_NE(n, c);
    types.insert(c["type"].dump());
    if (const int micro = c["micro"]; micro == 1 || micro == 2) edges.insert(micro);
    for (const double x : space.encode(c)) ASSERT_TRUE(x >= 0 && x <= 1) << c;
  }
  EXPECT_EQ(types.size(), 3u);
  EXPECT_EQ(edges.size(), 2u);
}

TEST(SearchSpace, DescribesItselfInThePapersForm) {
  EXPECT_THAT(
      sample_space().describe(),
      HasSubstr("'rate': The learning rate. Type: UniformFloat, Range: [1e-05, 0.2], Default: 0.01, Log scale.\n"));
  EXPECT_THAT(sample_space().describe(), HasSubstr("It must hold that micro <= batch.\n"));
}

TEST(SearchSpace, RefusesNonsense) {
  EXPECT_THROW(SearchSpace({integer_parameter("a", 5, 1, 3, "")}), std::invalid_argument);
  EXPECT_THROW(SearchSpace({integer_parameter("a", 1, 5, 9, "")}), std::invalid_argument);
  EXPECT_THROW(SearchSpace({real_parameter("a", 0, 1, 0.5, "", true)}), std::invalid_argument);
  EXPECT_THROW(SearchSpace({categorical_parameter("a", {}, 1, "")}), std::invalid_argument);
  EXPECT_THROW(SearchSpace({boolean_parameter("a", true, ""), boolean_parameter("a", true, "")}),
               std::invalid_argument);
}

}  // namespace
}  // namespace haqa
