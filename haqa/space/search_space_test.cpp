#include "haqa/space/search_space.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

namespace haqa {
namespace {

using testing::HasSubstr;

SearchSpace sample_space() {
  return SearchSpace({real_parameter("rate", 1e-5, 0.2, 0.01, "The learning rate.", true),
                      integer_parameter("batch", 32, 256, 128, "Samples a step.", true),
                      integer_parameter("micro", 1, 256, 64, "Samples at once."),
                      categorical_parameter("type", {"f16", "q8_0", 4}, "f16", "Cache type."),
                      boolean_parameter("flash", true, "Flash attention.")},
                     {Expression("micro <= batch")});
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

TEST(SearchSpace, EveryValueHasItsShareOfTheUnitInterval) {
  const std::vector<Parameter> parameters = {
      real_parameter("r", -2, 6, 0, ""),
      real_parameter("log", 1e-6, 1, 1e-3, "", true),
      integer_parameter("n", -3, 4, 0, ""),
      integer_parameter("m", 1, 7, 2, "", true),
      integer_parameter("one", 5, 5, 5, ""),
      categorical_parameter("c", {"b", "a", nullptr}, "a", ""),
      categorical_parameter("tile", {64, 8, 16}, 8, ""),
      boolean_parameter("b", true, ""),
  };
  for (const Parameter& p : parameters) {
    std::map<Json, int> counts;
    for (int i = 0; i < 840; ++i) {
      const double unit = (i + 0.5) / 840;
      const Json value = value_at(p, unit);
      ++counts[value];
      if (p.type == ParameterType::real) {
        EXPECT_NEAR(unit_of(p, value), unit, 1e-12) << p.name;
      } else {
        EXPECT_EQ(value_at(p, unit_of(p, value)), value) << p.name;
      }
    }
    if (p.type == ParameterType::real) continue;
    for (const auto& [value, count] : counts)
      EXPECT_NEAR(count,
                  p.log ? 840 * std::log((value.get<double>() + 0.5) / (value.get<double>() - 0.5)) / std::log(15.0)
                        : 840.0 / static_cast<double>(counts.size()),
                  1)
          << p.name << value;
  }
  EXPECT_EQ(value_at(parameters[6], 0), 8) << "from the least";
  EXPECT_EQ(value_at(parameters[6], 1), 64);
  EXPECT_EQ(value_at(parameters[0], -3), -2.0);
  EXPECT_DOUBLE_EQ(value_at(parameters[1], 0.5).get<double>(), 1e-3);
}

TEST(SearchSpace, APointOfTheCubeIsAConfiguration) {
  Parameter momentum = real_parameter("momentum", 0, 1, 0.9, "");
  momentum.when = Expression("optimizer == 'sgd'");
  const SearchSpace space(
      {categorical_parameter("optimizer", {"sgd", "adamw"}, "sgd", ""), momentum, integer_parameter("n", 0, 9, 3, "")});
  EXPECT_EQ(space.at(std::vector{0.1, 0.25, 0.99}), Json({{"optimizer", "sgd"}, {"momentum", 0.25}, {"n", 9}}));
  EXPECT_EQ(space.at(std::vector{0.9, 0.25, 0.0}), Json({{"optimizer", "adamw"}, {"n", 0}}));
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

// The whole message, written by hand: an agent corrects itself by nothing else.
TEST(SearchSpace, WordsItsFaultsExactly) {
  const SearchSpace space = sample_space();
  EXPECT_EQ(space.problem({{"rate", 0.3}, {"batch", 31}, {"micro", 1.5}, {"type", "f32"}, {"flash", "no"}, {"x", 1}}),
            "\"rate\" is 0.3; it must be a number from 1e-05 to 0.2; "
            "\"batch\" is 31; it must be a whole number from 32 to 256; "
            "\"micro\" is 1.5; it must be a whole number from 1 to 256; "
            "\"type\" is \"f32\"; it must be one of [\"f16\",\"q8_0\",4]; "
            "\"flash\" is \"no\"; it must be true or false; "
            "\"x\" is no parameter");
  EXPECT_EQ(space.problem({{"rate", 0.1}, {"batch", 64}, {"micro", 65}, {"type", 4}, {"flash", false}}),
            "it must hold that micro <= batch");
  EXPECT_EQ(space.problem({{"rate", 0.1}, {"batch", 64}, {"micro", 64}, {"type", 4}}),
            "\"flash\" is missing; it must be true or false");
  for (const Json& no_object : {Json(), Json("{}"), Json::array({1}), Json(true)})
    EXPECT_EQ(space.problem(no_object), "the configuration must be one JSON object") << no_object;
  EXPECT_EQ(SearchSpace().problem(Json::object()), std::nullopt);
}

// With six digits the bound read 0.123457, which was then refused with the same sentence.
TEST(SearchSpace, ShowsBoundsInFull) {
  const SearchSpace space({real_parameter("r", 0.01234567, 0.1234567, 0.1, ""),
                           integer_parameter("context", 512, 1048577, 4096, ""),
                           integer_parameter("least", -2147483648, 2147483647, 0, "")});
  EXPECT_EQ(space.problem({{"r", 0.123457}, {"context", 1048578}, {"least", 2147483648}}),
            "\"r\" is 0.123457; it must be a number from 0.01234567 to 0.1234567; "
            "\"context\" is 1048578; it must be a whole number from 512 to 1048577; "
            "\"least\" is 2147483648; it must be a whole number from -2147483648 to 2147483647");
  EXPECT_EQ(space.describe(),
            "'r':  Type: UniformFloat, Range: [0.01234567, 0.1234567], Default: 0.1.\n"
            "'context':  Type: UniformInteger, Range: [512, 1048577], Default: 4096.\n"
            "'least':  Type: UniformInteger, Range: [-2147483648, 2147483647], Default: 0.\n");
}

TEST(SearchSpace, BoundsAreInclusiveAndExact) {
  const SearchSpace space({real_parameter("r", -1, 1, 0, ""), integer_parameter("n", -3, 3, 0, "")});
  const double above = std::nextafter(1, 2), below = std::nextafter(-1, -2);
  const std::pair<Configuration, bool> cases[] = {{{{"r", -1}, {"n", -3}}, true},    {{{"r", 1.0}, {"n", 3.0}}, true},
                                                  {{{"r", above}, {"n", 0}}, false}, {{{"r", below}, {"n", 0}}, false},
                                                  {{{"r", 0}, {"n", 4}}, false},     {{{"r", 0}, {"n", -4}}, false},
                                                  {{{"r", -0.0}, {"n", -0.0}}, true}};
  for (const auto& [c, valid] : cases) EXPECT_EQ(!space.problem(c), valid) << c;
}

// Faults go into prompts and logs, which must be UTF-8: a cut through a character made the next dump() throw.
TEST(SearchSpace, CutsRubbishBetweenCharacters) {
  for (size_t ascii = 0; ascii < 6; ++ascii) {
    std::string rubbish(ascii, 'x');
    for (int i = 0; i < 40; ++i) rubbish += "\u20ac";
    Configuration proposal = sample_space().defaults();
    proposal["type"] = rubbish;
    proposal[rubbish] = 1;
    EXPECT_NO_THROW(Json(*sample_space().problem(proposal)).dump()) << ascii;
  }
}

TEST(SearchSpace, EqualMeaningIsOneHashOtherMeaningAnother) {
  const SearchSpace space({real_parameter("r", -1, 1, 0, ""), integer_parameter("n", -3, 3, 0, ""),
                           categorical_parameter("c", {1, 4, "4"}, 4, ""), boolean_parameter("b", false, "")});
  const Configuration base = space.defaults();
  EXPECT_THAT(space.hash(base), testing::MatchesRegex("[0-9a-f]{16}"));
  const Configuration same[] = {{{"r", 0}}, {{"r", -0.0}}, {{"n", 0.0}}, {{"n", -0.0}}, {{"c", 4.0}}};
  for (const Configuration& change : same) {
    Configuration c = base;
    c.update(change);
    ASSERT_EQ(space.problem(c), std::nullopt) << c;
    EXPECT_EQ(space.hash(c), space.hash(base)) << c;
    EXPECT_EQ(space.normalized(c).dump(), base.dump());
  }
  const Configuration other[] = {{{"r", 1e-300}}, {{"n", 1}}, {{"c", "4"}}, {{"c", 1}}, {{"b", true}}};
  for (const Configuration& change : other) {
    Configuration c = base;
    c.update(change);
    ASSERT_EQ(space.problem(c), std::nullopt) << c;
    EXPECT_NE(space.hash(c), space.hash(base)) << c;
  }
}

// FNV-1a of {"n":2} by another implementation (Python, 64-bit arithmetic written out): logs keep hashes.
TEST(SearchSpace, HashIsFnv1a) {
  EXPECT_EQ(SearchSpace({integer_parameter("n", 0, 3, 1, "")}).hash({{"n", 2.0}}), "0c7bd1734a0e121b");
}

TEST(SearchSpace, EncodesDistances) {
  const SearchSpace space = sample_space();
  Configuration a = space.defaults(), b = a;
  b["type"] = 4;
  const std::vector<double> pa = space.encode(a), pb = space.encode(b);
  double squared = 0;
  for (size_t i = 0; i < pa.size(); ++i) squared += (pa[i] - pb[i]) * (pa[i] - pb[i]);
  EXPECT_NEAR(squared, 1, 1e-12) << "two choices are one apart";
  // log(0.01 / 1e-5) / log(0.2 / 1e-5) and log(128 / 32) / log(256 / 32) = 2 / 3, (64 - 1) / 255
  EXPECT_NEAR(pa[0], 0.6975073, 1e-6);
  EXPECT_NEAR(pa[1], 2.0 / 3, 1e-12);
  EXPECT_NEAR(pa[2], 63.0 / 255, 1e-12);
  const SearchSpace point({real_parameter("r", 2, 2, 2, "", true)});
  EXPECT_EQ(point.encode(point.defaults()), std::vector<double>{0});
}

/// A space of any parameters, with one rule over two of them where there are two.
SearchSpace random_space(std::mt19937_64& random, bool constrained) {
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  const auto real = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); };
  std::vector<Parameter> all;
  for (int i = pick(1, 6); i > 0; --i) {
    const std::string name = "p" + std::to_string(i);
    const bool log = pick(0, 1) == 1;
    switch (pick(0, 3)) {
      case 0: {
        const double low = log ? std::pow(10, real(-8, 3)) : real(-1e3, 1e3);
        const double high = pick(0, 9) == 0 ? low : low + std::pow(10, real(-8, 6));
        all.push_back(real_parameter(name, low, high, pick(0, 1) ? low : high, "", log));
        break;
      }
      case 1: {
        const int low = log ? pick(1, 50) : pick(-50, 50), high = low + (pick(0, 1) ? pick(0, 3) : pick(0, 1000000));
        all.push_back(integer_parameter(name, low, high, pick(low, high), "", log));
        break;
      }
      case 2: {
        const std::vector<Json> choices = {"a", "b", 3, 4.5, nullptr, false};
        const int count = pick(1, 6);
        all.push_back(
            categorical_parameter(name, {choices.begin(), choices.begin() + count}, choices[pick(0, count - 1)], ""));
        break;
      }
      default:
        all.push_back(boolean_parameter(name, pick(0, 1) == 1, ""));
    }
  }
  if (!constrained) return SearchSpace(all);
  // The default always passes; about half of the rest does.
  const Parameter& p = all[static_cast<size_t>(pick(0, static_cast<int>(all.size()) - 1))];
  if (p.type == ParameterType::categorical || p.type == ParameterType::boolean) return SearchSpace(all);
  const double middle = 0.5 * (p.low + p.high);
  const bool low = p.default_value.get<double>() <= middle;
  return SearchSpace(all, {Expression(fmt::format("{} {} {}", p.name, low ? "<=" : ">=", middle))});
}

TEST(SearchSpace, SamplesAndNeighboursOfAnySpaceAreValid) {
  std::mt19937_64 random(3);
  for (int s = 0; s < 200; ++s) {
    const SearchSpace space = random_space(random, s % 2 == 1);
    for (int i = 0; i < 20; ++i) {
      const Configuration c = space.sample(random), n = space.neighbour(c, random);
      for (const Configuration& made : {c, n}) {
        ASSERT_EQ(space.problem(made), std::nullopt) << made << '\n' << space.describe();
        ASSERT_EQ(space.normalized(made).dump(), made.dump()) << "the space's order and types";
        for (const double x : space.encode(made)) ASSERT_TRUE(x >= 0 && x <= 1 + 1e-12) << made << space.describe();
        const Configuration read = Json::parse(to_line(made));
        ASSERT_EQ(space.hash(read), space.hash(made)) << "a log keeps the meaning";
      }
      int changed = 0;
      for (const Parameter& p : space.parameters()) changed += c[p.name] != n[p.name];
      ASSERT_LE(changed, 3);
    }
  }
}

TEST(SearchSpace, NeighboursMoveALittleAndBothWays) {
  const SearchSpace space({integer_parameter("n", 0, 1000000, 500000, ""), real_parameter("r", 0, 1, 0.5, "")});
  std::mt19937_64 random(5);
  int up = 0, far = 0, moves = 0;
  for (int i = 0; i < 1000; ++i) {
    const Configuration n = space.neighbour(space.defaults(), random);
    const double step = n["r"].get<double>() - 0.5;
    if (step == 0) continue;
    ++moves;
    up += step > 0;
    far += std::abs(step) > 0.4;
  }
  EXPECT_GT(moves, 500);
  EXPECT_NEAR(up, moves / 2.0, moves * 0.08);
  EXPECT_LT(far, moves / 50) << "a step is a tenth of the range";
  // A tenth of a narrow range is below a half, and yet an integer moves as often as the boolean beside it.
  const SearchSpace narrow({integer_parameter("n", 1, 3, 2, ""), boolean_parameter("b", true, "")});
  int moved = 0;
  for (int i = 0; i < 200; ++i) moved += narrow.neighbour(narrow.defaults(), random)["n"] != 2;
  EXPECT_GT(moved, 70);
}

TEST(SearchSpace, NeighbourWhereNothingCanMoveIsTheSame) {
  std::mt19937_64 random(1);
  const SearchSpace single({integer_parameter("n", 2, 2, 2, ""), categorical_parameter("c", {"a"}, "a", "")});
  EXPECT_EQ(single.neighbour(single.defaults(), random), single.defaults());
  const SearchSpace empty;
  EXPECT_EQ(empty.sample(random), Json::object());
  EXPECT_EQ(empty.neighbour(Json::object(), random), Json::object());
  EXPECT_TRUE(empty.encode(Json::object()).empty());
  EXPECT_EQ(empty.describe(), "");
}

TEST(SearchSpace, SamplesUniformly) {
  const SearchSpace space({integer_parameter("n", 1, 4, 1, ""), real_parameter("r", 1e-4, 1, 0.1, "", true),
                           categorical_parameter("c", {"a", "b", "c"}, "a", ""), boolean_parameter("b", true, "")});
  std::mt19937_64 random(2);
  std::map<std::string, int> counts;
  constexpr int kDraws = 12000;
  for (int i = 0; i < kDraws; ++i) {
    const Configuration c = space.sample(random);
    ++counts["n" + c["n"].dump()];
    ++counts["c" + c["c"].dump()];
    ++counts["b" + c["b"].dump()];
    ++counts[fmt::format("r{:.0f}", std::floor(std::log10(c["r"].get<double>())))];
  }
  // Four standard deviations of a binomial count.
  const std::pair<const char*, double> expected[] = {
      {"n1", 0.25},  {"n2", 0.25},  {"n3", 0.25},  {"n4", 0.25},  {"btrue", 0.5},     {"c\"a\"", 1.0 / 3},
      {"r-4", 0.25}, {"r-3", 0.25}, {"r-2", 0.25}, {"r-1", 0.25}, {"c\"c\"", 1.0 / 3}};
  for (const auto& [name, share] : expected)
    EXPECT_NEAR(counts[name], share * kDraws, 4 * std::sqrt(kDraws * share * (1 - share))) << name;
  std::mt19937_64 again(2), other(3);
  std::mt19937_64 first(2);
  EXPECT_EQ(space.sample(first), space.sample(again)) << "reproducible by seed";
  EXPECT_NE(space.sample(first), space.sample(other));
}

// Parameters that constraints bind are drawn apart from the others: all of them at once would keep these rules in one
// draw of 230, which 200 draws mostly miss.
TEST(SearchSpace, SamplesUniformlyWhereConstraintsAreTight) {
  std::vector<Parameter> parameters;
  for (int i = 0; i < 8; ++i)
    parameters.push_back(categorical_parameter("t" + std::to_string(i), {1, 2, 4, 8, 16, 32}, 1, ""));
  parameters.push_back(real_parameter("x", 0, 1, 0.5, ""));
  const SearchSpace space(parameters, {Expression("t0 * t2 * t4 * t6 == 64 or t0 * t2 * t4 * t6 == 1"),
                                       Expression("t1 * t3 <= 16 and t5 == t7")});
  std::mt19937_64 random(4);
  std::map<std::string, int> of_first, of_second;
  constexpr int kDraws = 8100;
  for (int i = 0; i < kDraws; ++i) {
    const Configuration c = space.sample(random, 200);
    ASSERT_EQ(space.problem(c), std::nullopt);
    ++of_first[fmt::format("{} {} {} {}", c["t0"].dump(), c["t2"].dump(), c["t4"].dump(), c["t6"].dump())];
    ++of_second[fmt::format("{} {} {}", c["t1"].dump(), c["t3"].dump(), c["t5"].dump())];
  }
  // 2^(a+b+c+d) = 64 has 80 solutions with exponents to 5, 1 has one; a + b <= 4 has 15, each with 6 pairs of equals.
  EXPECT_EQ(of_first.size(), 81u);
  EXPECT_EQ(of_second.size(), 90u);
  for (const auto* counts : {&of_first, &of_second}) {
    const double expected = static_cast<double>(kDraws) / static_cast<double>(counts->size());
    double chi_squared = 0;
    for (const auto& [name, n] : *counts) chi_squared += (n - expected) * (n - expected) / expected;
    // Five standard deviations of the distribution above its mean.
    const double freedom = static_cast<double>(counts->size() - 1);
    EXPECT_LT(chi_squared, freedom + 5 * std::sqrt(2 * freedom));
  }
}

TEST(SearchSpace, AConditionAndAConstraintAreDrawnTogether) {
  Parameter momentum = integer_parameter("momentum", 1, 4, 1, "");
  momentum.when = Expression("optimizer == 'sgd'");
  const SearchSpace space(
      {integer_parameter("z", 1, 2, 1, ""), categorical_parameter("optimizer", {"sgd", "adam"}, "sgd", ""), momentum,
       integer_parameter("batch", 1, 4, 1, "")},
      {Expression("momentum * batch <= 4")});
  std::mt19937_64 random(4);
  std::map<std::string, int> counts;
  constexpr int kDraws = 2400;
  for (int i = 0; i < kDraws; ++i) ++counts[space.sample(random)["optimizer"]];
  // With adam 4 batches; with sgd 8 pairs of momentum and batch of the 16 that are drawn as often as those together.
  EXPECT_NEAR(counts["adam"], kDraws * 2 / 3, 4 * std::sqrt(kDraws * 2 / 9.0));
}

// What a trial of another space holds.
TEST(SearchSpace, ANeighbourOfWhatIsNotValidIsValid) {
  const SearchSpace space({real_parameter("x", 100, 200, 150, ""), integer_parameter("n", 1, 8, 1, "")},
                          {Expression("n <= 2")});
  std::mt19937_64 random(4);
  for (const Configuration& from :
       {Configuration{{"x", 4}, {"n", 1}}, {{"x", 150}, {"n", 20}}, {{"n", 7}}, {{"x", "a"}}})
    for (int i = 0; i < 20; ++i) EXPECT_EQ(space.problem(space.neighbour(from, random)), std::nullopt) << from;
  EXPECT_EQ(space.problem(space.neighbour({{"x", 4}, {"n", 20}}, random, 0.1, 0)), std::nullopt);
}

TEST(SearchSpace, ConstraintsThatAllowTheDefaultsAloneGiveThem) {
  const SearchSpace space({real_parameter("r", 0, 1, 0.5, "")}, {Expression("r == 0.5")});
  std::mt19937_64 random(1);
  EXPECT_EQ(space.sample(random), space.defaults());
  EXPECT_EQ(space.neighbour(space.defaults(), random), space.defaults());
}

TEST(SearchSpace, ConstraintsSeeTheCleanConfiguration) {
  const SearchSpace space({integer_parameter("n", 1, 8, 4, "")}, {Expression("n % 2 == 0")});
  EXPECT_EQ(space.problem({{"n", 2.0}}), std::nullopt);
  for (const Json& n : {Json(2.0), Json(3), Json(9)}) EXPECT_EQ(space.allows({{"n", n}}), n == 2);
  EXPECT_EQ(space.problem({{"n", 3}}), "it must hold that n % 2 == 0");
  EXPECT_EQ(space.problem({{"n", 9}}), "\"n\" is 9; it must be a whole number from 1 to 8") << "not asked of the wrong";
}

/// The judge of the schema that is not ours.
bool valijson_accepts(const Json& schema, const Json& value) {
  const nlohmann::json plain_schema = schema, plain_value = value;  // it knows the unordered kind only
  valijson::Schema compiled;
  valijson::SchemaParser().populateSchema(valijson::adapters::NlohmannJsonAdapter(plain_schema), compiled);
  return valijson::Validator().validate(compiled, valijson::adapters::NlohmannJsonAdapter(plain_value), nullptr);
}

// Not asked: 4.0 for a whole number and for the choice 4, which we take and draft 4 of JSON schema, which valijson
// follows, does not (models write 4.0); NaN, which JSON does not have.
TEST(SearchSpace, SchemaAgreesWithProblem) {
  std::mt19937_64 random(11);
  const Json rubbish[] = {nullptr, true, false, "",    "a", "3",           3,
                          4.5,     -1e9, 1e9,   1e300, 0.5, Json::array(), Json::object()};
  int accepted = 0, refused = 0;
  for (int s = 0; s < 150; ++s) {
    const SearchSpace space = random_space(random, false);
    const Json schema = space.schema();
    for (int i = 0; i < 20; ++i) {
      Configuration c = space.sample(random);
      const auto& parameters = space.parameters();
      const Parameter& p = parameters[random() % parameters.size()];
      switch (random() % 6) {
        case 0:
          c[p.name] = rubbish[random() % std::size(rubbish)];
          break;
        case 1:
          c.erase(p.name);
          break;
        case 2:
          c["unknown"] = 1;
          break;
        case 3:
          if (p.type == ParameterType::real) c[p.name] = random() % 2 ? p.low : p.high;
          if (p.type == ParameterType::integer) c[p.name] = static_cast<int64_t>(random() % 2 ? p.low : p.high);
          break;
        case 4:
          if (p.type == ParameterType::real) c[p.name] = random() % 2 ? std::nextafter(p.low, -1e9) : p.high + 1;
          if (p.type == ParameterType::integer) c[p.name] = static_cast<int64_t>(random() % 2 ? p.low - 1 : p.high + 1);
          break;
        default:
          break;
      }
      const bool ours = !space.problem(c);
      EXPECT_EQ(space.allows(c), ours) << c;
      EXPECT_EQ(valijson_accepts(schema, c), ours) << c << '\n' << schema << '\n' << space.problem(c).value_or("valid");
      (ours ? accepted : refused)++;
    }
  }
  EXPECT_GT(accepted, 500);
  EXPECT_GT(refused, 500);
  for (const Json& c : {Json(), Json::array(), Json("x"), Json(1)})
    EXPECT_FALSE(valijson_accepts(sample_space().schema(), c) || sample_space().allows(c)) << c;
}

TEST(SearchSpace, SchemaAcceptsWhatNormalizedMakes) {
  const SearchSpace space = sample_space();
  const Configuration loose = {{"flash", true}, {"type", 4.0}, {"micro", 64.0}, {"batch", 128.0}, {"rate", 0.01}};
  ASSERT_EQ(space.problem(loose), std::nullopt);
  EXPECT_TRUE(valijson_accepts(space.schema(), space.normalized(loose))) << space.normalized(loose);
}

TEST(SearchSpace, SchemaIsWhatProvidersTake) {
  EXPECT_EQ(sample_space().schema().dump(),
            R"({"type":"object","properties":{)"
            R"("rate":{"description":"The learning rate.","type":"number","minimum":1e-05,"maximum":0.2},)"
            R"("batch":{"description":"Samples a step.","type":"integer","minimum":32,"maximum":256},)"
            R"("micro":{"description":"Samples at once.","type":"integer","minimum":1,"maximum":256},)"
            R"("type":{"description":"Cache type.","enum":["f16","q8_0",4]},)"
            R"("flash":{"description":"Flash attention.","type":"boolean"}},)"
            R"("required":["rate","batch","micro","type","flash"],"additionalProperties":false})");
}

TEST(SearchSpace, DescribesItselfInThePapersForm) {
  EXPECT_EQ(sample_space().describe(),
            "'rate': The learning rate. Type: UniformFloat, Range: [1e-05, 0.2], Default: 0.01, Log scale.\n"
            "'batch': Samples a step. Type: UniformInteger, Range: [32, 256], Default: 128, Log scale.\n"
            "'micro': Samples at once. Type: UniformInteger, Range: [1, 256], Default: 64.\n"
            "'type': Cache type. Type: Categorical, Choices: [\"f16\",\"q8_0\",4], Default: \"f16\".\n"
            "'flash': Flash attention. Type: Boolean, Default: true.\n"
            "It must hold that micro <= batch.\n");
}

TEST(SearchSpace, RefusesNonsense) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::pair<std::vector<Parameter>, const char*> cases[] = {
      {{integer_parameter("a", 5, 1, 3, "")}, "a: low is above high"},
      {{real_parameter("a", nan, 1, 0.5, "")}, "a: low is above high"},
      {{real_parameter("a", 0, nan, 0.5, "")}, "a: low is above high"},
      // Nothing can be drawn from an endless range.
      {{real_parameter("a", 0, inf, 0.5, "")}, "a: the range is too wide"},
      {{real_parameter("a", -inf, 0, -0.5, "")}, "a: the range is too wide"},
      {{real_parameter("a", -1e308, 1e308, 0, "")}, "a: the range is too wide"},
      {{real_parameter("a", 1e-300, 1e300, 1, "", true)}, "a: the range is too wide"},
      {{integer_parameter("a", 1, 5, 9, "")},
       "the defaults are not valid: \"a\" is 9; it must be a whole number from 1 to 5"},
      {{real_parameter("a", 0, 1, nan, "")},
       "the defaults are not valid: \"a\" is null; it must be a number from 0 to 1"},
      {{real_parameter("a", 0, 1, 0.5, "", true)}, "a: a logarithmic range starts above 0"},
      {{integer_parameter("a", -1, 1, 1, "", true)}, "a: a logarithmic range starts above 0"},
      {{categorical_parameter("a", {}, 1, "")}, "a: no choices"},
      {{categorical_parameter("a", {"x"}, "y", "")},
       "the defaults are not valid: \"a\" is \"y\"; it must be one of [\"x\"]"},
      {{boolean_parameter("a", true, ""), boolean_parameter("a", true, "")}, "a: named twice"},
  };
  for (const auto& [parameters, expected] : cases) {
    try {
      const SearchSpace space(parameters);
      ADD_FAILURE() << expected;
    } catch (const std::invalid_argument& e) {
      EXPECT_STREQ(e.what(), expected);
    }
  }
  EXPECT_THROW(SearchSpace({boolean_parameter("a", true, "")}, {Expression("not a")}), std::invalid_argument);
}

Parameter only_where(Parameter p, const char* condition) {
  p.when = Expression(condition);
  return p;
}

Parameter in_steps(Parameter p, double step) {
  p.step = step;
  return p;
}

/// A chain of conditions: nesterov has a value only where momentum has one above 0.
SearchSpace conditional_space() {
  return SearchSpace(
      {categorical_parameter("optimizer", {"sgd", "adamw"}, "adamw", ""),
       only_where(real_parameter("momentum", 0, 1, 0.5, ""), "optimizer == 'sgd'"),
       only_where(boolean_parameter("nesterov", true, ""), "momentum > 0"), integer_parameter("steps", 1, 9, 5, "")},
      {Expression("momentum * steps <= 6")});
}

TEST(SearchSpace, WhatIsNotActiveHasNoValue) {
  const SearchSpace space = conditional_space();
  EXPECT_EQ(space.defaults().dump(), R"({"optimizer":"adamw","steps":5})");
  const Configuration plain = {{"optimizer", "adamw"}, {"steps", 5}},
                      told_too_much = {{"optimizer", "adamw"}, {"momentum", 7}, {"nesterov", false}, {"steps", 5}};
  EXPECT_EQ(space.problem(told_too_much), std::nullopt) << "what does not count is not judged";
  EXPECT_EQ(space.normalized(told_too_much), plain);
  EXPECT_EQ(space.hash(told_too_much), space.hash(plain));
  EXPECT_EQ(space.problem({{"optimizer", "sgd"}, {"steps", 5}}),
            "\"momentum\" is missing; it must be a number from 0 to 1");
  EXPECT_EQ(space.problem({{"optimizer", "sgd"}, {"momentum", 0}, {"steps", 5}}), std::nullopt);
  EXPECT_EQ(space.problem({{"optimizer", "sgd"}, {"momentum", 0.1}, {"steps", 5}}),
            "\"nesterov\" is missing; it must be true or false");
  EXPECT_EQ(space.problem({{"optimizer", "sgd"}, {"momentum", 0.9}, {"nesterov", true}, {"steps", 9}}),
            "it must hold that momentum * steps <= 6");
  EXPECT_EQ(space.schema()["required"].dump(), R"(["optimizer","steps"])");
  EXPECT_EQ(space.encode(plain).size(),
            space.encode(space.normalized({{"optimizer", "sgd"}, {"momentum", 0.1}, {"nesterov", true}, {"steps", 5}}))
                .size());
  EXPECT_EQ(space.encode(plain)[2], 0.5) << "the default's place";
}

TEST(SearchSpace, ConditionalSamplesAndNeighboursAreValid) {
  const SearchSpace space = conditional_space();
  std::mt19937_64 random(4);
  std::set<size_t> sizes;
  for (int i = 0; i < 2000; ++i) {
    const Configuration c = space.sample(random), n = space.neighbour(c, random);
    ASSERT_EQ(space.problem(c), std::nullopt) << c;
    ASSERT_EQ(space.problem(n), std::nullopt) << n;
    ASSERT_EQ(space.normalized(n).dump(), n.dump());
    sizes.insert(c.size());
  }
  EXPECT_THAT(sizes, testing::ElementsAre(2, 4)) << "a momentum of exactly 0 is never drawn";
}

TEST(SearchSpace, StepsAreKept) {
  const SearchSpace space({in_steps(integer_parameter("n", 8, 60, 16, ""), 8),
                           in_steps(real_parameter("r", 0, 1, 0.3, ""), 0.1),
                           in_steps(integer_parameter("odd", 1, 9, 3, ""), 2)});
  EXPECT_EQ(space.problem({{"n", 17}, {"r", 0.35}, {"odd", 4}}),
            "\"n\" is 17; it must be a whole number from 8 to 60 in steps of 8; "
            "\"r\" is 0.35; it must be a number from 0 to 1 in steps of 0.1; "
            "\"odd\" is 4; it must be a whole number from 1 to 9 in steps of 2");
  EXPECT_EQ(space.problem({{"n", 60}, {"r", 1}, {"odd", 9}}),
            "\"n\" is 60; it must be a whole number from 8 to 60 in steps of 8");
  // 0.1 + 0.2 is three steps of a tenth, and the same configuration as 0.3.
  EXPECT_EQ(space.hash({{"n", 56}, {"r", 0.1 + 0.2}, {"odd", 9}}), space.hash({{"n", 56}, {"r", 0.3}, {"odd", 9}}));
  std::mt19937_64 random(4);
  std::map<int, int> counts;
  std::set<double> reals;
  for (int i = 0; i < 7000; ++i) {
    const Configuration c = space.sample(random);
    ASSERT_EQ(space.problem(c), std::nullopt) << c;
    ASSERT_EQ(space.problem(space.neighbour(c, random)), std::nullopt) << c;
    ++counts[c["n"]];
    reals.insert(c["r"].get<double>());
  }
  EXPECT_EQ(counts.size(), 7u);
  for (const auto& [n, count] : counts) EXPECT_NEAR(count, 1000, 120) << n;
  EXPECT_EQ(reals.size(), 11u);
}

TEST(SearchSpace, NumericChoicesKeepTheirOrder) {
  const SearchSpace space({categorical_parameter("tile", {8, 64, 16, 32, 128}, 16, "")});
  const auto place = [&](int tile) { return space.encode({{"tile", tile}}); };
  EXPECT_EQ(place(8), std::vector<double>{0});
  EXPECT_EQ(place(16), std::vector<double>{0.25});
  EXPECT_EQ(place(128), std::vector<double>{1});
  std::mt19937_64 random(1);
  std::map<int, int> moves;
  for (int i = 0; i < 500; ++i) ++moves[space.neighbour({{"tile", 32}}, random)["tile"]];
  EXPECT_GT(moves[16] + moves[64], 300);
  EXPECT_EQ(moves[32], 0);
}

TEST(SearchSpace, ClipsWhatComesFromElsewhere) {
  const SearchSpace space({real_parameter("r", 0.1, 1, 0.5, ""), in_steps(integer_parameter("n", 8, 60, 16, ""), 8),
                           categorical_parameter("c", {"a", "b"}, "b", ""), boolean_parameter("f", true, ""),
                           only_where(integer_parameter("k", 1, 3, 2, ""), "f")});
  const std::pair<Configuration, const char*> cases[] = {
      {{{"r", 7}, {"n", 59}, {"c", "z"}, {"f", 0}, {"k", 9}, {"x", 1}}, R"({"r":1.0,"n":56,"c":"b","f":true,"k":3})"},
      {{{"r", -1}, {"n", 13.2}, {"c", "a"}, {"f", false}, {"k", 1}}, R"({"r":0.1,"n":16,"c":"a","f":false})"},
      {{{"r", "1"}}, R"({"r":0.5,"n":16,"c":"b","f":true,"k":2})"},
  };
  for (const auto& [from, expected] : cases) {
    EXPECT_EQ(space.clipped(from).dump(), expected);
    EXPECT_EQ(space.problem(space.clipped(from)), std::nullopt);
  }
}

SearchSpace with_text() {
  return SearchSpace({integer_parameter("n", 1, 8, 4, ""), text_parameter("code", 12, "The source.")});
}

TEST(SearchSpace, ATextIsAnyUtf8OfItsLength) {
  const SearchSpace space = with_text();
  EXPECT_EQ(space.defaults().dump(), R"({"n":4,"code":""})");
  EXPECT_EQ(space.describe(),
            "'n':  Type: UniformInteger, Range: [1, 8], Default: 4.\n"
            "'code': The source. Type: Text, Longest: 12 bytes, Default: \"\".\n");
  EXPECT_EQ(space.schema()["properties"]["code"].dump(),
            R"({"description":"The source.","type":"string","maxLength":12})");
  const std::string must = "; it must be a text of at most 12 bytes of UTF-8 without NUL";
  const std::pair<Json, std::optional<std::string>> cases[] = {
      {"", std::nullopt},
      {"größer {}\n", std::nullopt},
      {"123456789012", std::nullopt},
      {"1234567890123", "\"code\" is \"1234567890123\" of 13 bytes" + must},
      {std::string(5000, 'x'), "\"code\" is \"" + std::string(56, 'x') + "... of 5000 bytes" + must},
      {std::string("a\0b", 3), "\"code\" is \"a\\u0000b\" of 3 bytes" + must},
      {"\xff", "\"code\" is \"\ufffd\" of 1 bytes" + must},
      {7, "\"code\" is 7" + must},
      {nullptr, "\"code\" is null" + must},
  };
  for (const auto& [value, fault] : cases) {
    const Configuration c = {{"n", 4}, {"code", value}};
    EXPECT_EQ(space.problem(c), fault) << to_line(value);
    EXPECT_EQ(space.allows(c), !fault);
    if (!fault) {
      EXPECT_EQ(space.normalized(c), c);
      EXPECT_EQ(space.clipped(c), c);
      EXPECT_TRUE(valijson_accepts(space.schema(), c));
    } else {
      EXPECT_EQ(space.clipped(c)["code"], "");
    }
  }
  EXPECT_EQ(space.problem({{"n", 4}}), "\"code\" is missing" + must);
}

TEST(SearchSpace, ATextIsLeftAsItIs) {
  const SearchSpace space = with_text();
  const Configuration changed = {{"n", 4}, {"code", "x"}};
  EXPECT_NE(space.hash(changed), space.hash(space.defaults()));
  EXPECT_NE(space.hash(changed), space.hash({{"n", 4}, {"code", "y"}}));
  const Parameter& code = space.parameters()[1];
  for (const double unit : {0.0, 0.3, 1.0}) EXPECT_EQ(value_at(code, unit), "");
  EXPECT_EQ(unit_of(code, "x"), 0);
  EXPECT_EQ(space.encode(space.defaults()).back(), 0);
  EXPECT_EQ(space.encode(changed).back(), 1);
  EXPECT_EQ(space.encode(changed).size(), space.encoded_parameters().size());
  std::mt19937_64 random(1);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(space.sample(random)["code"], "");
    const Configuration near = space.neighbour(changed, random);
    EXPECT_EQ(near["code"], "x");
    EXPECT_NE(near["n"], 4);
  }
  const SearchSpace alone({code});
  EXPECT_EQ(alone.neighbour({{"code", "x"}}, random), Json({{"code", "x"}}));
  EXPECT_EQ(alone.sample(random), alone.defaults());
}

}  // namespace
}  // namespace haqa
