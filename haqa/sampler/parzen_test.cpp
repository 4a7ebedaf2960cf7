#include "haqa/sampler/parzen.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>

namespace haqa {
namespace {

struct Space {
  std::vector<Parameter> parameters;

  std::vector<const Parameter*> pointers() const {
    std::vector<const Parameter*> all;
    for (const Parameter& p : parameters) all.push_back(&p);
    return all;
  }
  std::vector<Place> places(const std::vector<Json>& values) const {
    std::vector<Place> all;
    for (size_t i = 0; i < values.size(); ++i) all.push_back(place_of(parameters[i], values[i]));
    return all;
  }
};

Space mixed() {
  return {{real_parameter("x", 0, 1, 0.5, ""), categorical_parameter("c", {"a", "b", "d"}, "a", ""),
           integer_parameter("n", 1, 4, 1, "")}};
}

Parzen observed(const Space& space) {
  return {space.pointers(), {space.places({0.2, "a", 1}), space.places({0.6, "b", 4})}};
}

// Made by tests/golden/parzen.py with SciPy 1.17.1.
const struct {
  double x;
  const char* c;
  int n;
  double log_density;
} kGolden[] = {
    {0.2, "a", 1, -0.18274555848760443}, {0.25, "a", 2, -1.6761646135337662}, {0.6, "b", 4, -0.1959899359712412},
    {0.5, "d", 3, -2.944064764457925},   {1.0, "a", 4, -3.583103201864437},   {0.0, "d", 1, -3.0931697422504465},
};

TEST(Parzen, DensityIsSciPysMixture) {
  const Space space = mixed();
  const Parzen density = observed(space);
  for (const auto& g : kGolden)
    EXPECT_LE(std::abs(density.log_density(space.places({g.x, g.c, g.n})) - g.log_density), 1e-9) << g.x << g.c << g.n;
}

TEST(Parzen, WithoutObservationsAllIsAsLikely) {
  const Space space = mixed();
  const Parzen density(space.pointers(), {});
  for (const double x : {0.0, 0.3, 1.0})
    EXPECT_NEAR(density.log_density(space.places({x, "b", 2})), -std::log(3 * 4), 1e-12);
}

// What a bound, a step or a logarithm got wrong would show in the sum over all values. Its last digits, for logarithmic
// whole numbers, are their parts' edges.
TEST(Parzen, SumsToOne) {
  Parameter stepped = real_parameter("s", -1, 2.2, 0, "");
  stepped.step = 0.4;
  const std::vector<Parameter> discrete = {integer_parameter("log", 1, 60, 8, "", true),
                                           integer_parameter("n", -3, 9, 0, ""),
                                           categorical_parameter("ordered", {64, 16, 32}, 16, ""),
                                           categorical_parameter("c", {"a", 1, nullptr}, "a", ""),
                                           boolean_parameter("b", false, ""),
                                           stepped};
  for (const Parameter& p : discrete) {
    const Space space = {{p}};
    const Parzen density(space.pointers(), {space.places({p.default_value}), space.places({value_at(p, 0.99)})});
    std::map<std::string, Json> values;
    for (int i = 0; i < 5000; ++i) values[value_at(p, i / 4999.0).dump()] = value_at(p, i / 4999.0);
    double sum = 0;
    for (const auto& [text, value] : values) sum += std::exp(density.log_density(space.places({value})));
    EXPECT_NEAR(sum, 1, 1e-9) << p.name;
  }
  const Space space = mixed();
  const Parzen density = observed(space);
  double sum = 0;
  for (const char* c : {"a", "b", "d"})
    for (int n = 1; n <= 4; ++n)
      for (int i = 0; i < 2000; ++i)
        sum += std::exp(density.log_density(space.places({(i + 0.5) / 2000, c, n}))) / 2000;
  EXPECT_NEAR(sum, 1, 1e-6);
}

TEST(Parzen, DrawsAsItsDensitySays) {
  constexpr int kDraws = 40000;
  const Space space = mixed();
  const Parzen density = observed(space);
  std::mt19937_64 random(1);
  std::map<std::string, int> counts;
  const auto key = [](int tenth, const Json& c, const Json& n) { return std::to_string(tenth) + c.dump() + n.dump(); };
  for (int i = 0; i < kDraws; ++i) {
    const std::vector<double> at = density.draw(random);
    ++counts[key(std::min(9, static_cast<int>(10 * at[0])), value_at(space.parameters[1], at[1]),
                 value_at(space.parameters[2], at[2]))];
  }
  double chi_square = 0;
  int cells = 0;
  for (int tenth = 0; tenth < 10; ++tenth)
    for (const char* c : {"a", "b", "d"})
      for (int n = 1; n <= 4; ++n) {
        double expected = 0;
        for (int i = 0; i < 200; ++i)
          expected +=
              kDraws * std::exp(density.log_density(space.places({(tenth + (i + 0.5) / 200) / 10, c, n}))) / 2000;
        chi_square += std::pow(counts[key(tenth, c, n)] - expected, 2) / expected;
        ++cells;
      }
  EXPECT_EQ(cells, 120);
  EXPECT_LT(chi_square, 175) << "0.1 % of 119 degrees of freedom lie above";
}

TEST(Place, IsThePartOfTheIntervalThatStandsForAValue) {
  const Parameter n = integer_parameter("n", 1, 4, 1, ""), log = integer_parameter("log", 1, 3, 1, "", true),
                  ordered = categorical_parameter("ordered", {64, 16, 32}, 16, ""),
                  choice = categorical_parameter("c", {"a", 64, 16}, "a", ""), b = boolean_parameter("b", false, ""),
                  fixed = integer_parameter("fixed", 3, 3, 3, ""), x = real_parameter("x", 0, 4, 1, "");
  const double at_one = std::log(1 / 0.5) / std::log(3.5 / 0.5), at_two = std::log(2 / 0.5) / std::log(3.5 / 0.5);
  const struct {
    const Parameter& p;
    Json value;
    Place place;
  } cases[] = {{n, 1, {0, 0.125, 0.25}},
               {n, 4, {0.75, 0.875, 1}},
               {log, 1, {0, at_one, 0.5 * (at_one + at_two)}},
               {ordered, 32, {1 / 3.0, 0.5, 2 / 3.0}},
               {ordered, 64, {2 / 3.0, 5 / 6.0, 1}},
               {choice, 64, {1, 1, 1}},
               {b, true, {1, 1, 1}},
               {fixed, 3, {0, 0.5, 1}},
               {x, 1, {0.25, 0.25, 0.25}}};
  for (const auto& c : cases) {
    const Place place = place_of(c.p, c.value);
    EXPECT_NEAR(place.low, c.place.low, 1e-12) << c.p.name;
    EXPECT_NEAR(place.middle, c.place.middle, 1e-12) << c.p.name;
    EXPECT_NEAR(place.high, c.place.high, 1e-12) << c.p.name;
  }
}

}  // namespace
}  // namespace haqa
