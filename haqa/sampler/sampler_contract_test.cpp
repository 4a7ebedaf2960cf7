// What every Sampler promises (study/study.h), over spaces of all kinds. A new sampler of this folder adds a row.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>

#include "haqa/sampler/bayesian.h"
#include "haqa/sampler/local_search.h"
#include "haqa/sampler/random.h"
#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

struct Row {
  const char* name;
  std::function<std::unique_ptr<Sampler>(uint64_t seed)> make;
};
template <typename S>
Row row(const char* name) {
  return {name, [](uint64_t seed) { return std::make_unique<S>(seed); }};
}
const Row kSamplers[] = {row<RandomSampler>("random"), row<LocalSearchSampler>("local_search"),
                         row<BayesianSampler>("bayesian")};

std::vector<Track> tracks() {
  std::vector<Track> all(5);
  all[0].name = "mixed";
  all[0].space =
      SearchSpace({real_parameter("r", -5, 5, 0, ""), real_parameter("log", 1e-6, 1, 1e-3, "", true),
                   integer_parameter("n", 1, 4096, 512, "", true), integer_parameter("m", 1, 4096, 256, "", true),
                   categorical_parameter("c", {"a", "b", 3, nullptr}, "a", ""), boolean_parameter("b", false, "")},
                  {Expression("m <= n")});
  all[1].name = "one real";
  all[1].space = SearchSpace({real_parameter("r", 0, 1, 0.5, "")});
  all[1].direction = Direction::minimize;
  all[2].name = "choices";
  all[2].space = SearchSpace({categorical_parameter("c", {"a", "b", "c", "d", "e", "f", "g", "h"}, "c", ""),
                              boolean_parameter("b", false, "")});
  all[3].name = "a fixed parameter";
  all[3].space = SearchSpace({integer_parameter("n", 3, 3, 3, ""), integer_parameter("m", -50, 50, 0, "")});
  all[4].name = "much forbidden";
  all[4].space = SearchSpace({integer_parameter("n", 1, 40, 20, ""), integer_parameter("m", 1, 40, 20, "")},
                             {Expression("n == m")});
  return all;
}

/// A value that depends on everything; every third trial fails.
Trial judged(const Track& track, int number, Configuration configuration) {
  Trial t;
  t.number = number;
  for (const double x : track.space.encode(configuration)) t.value = t.value.value_or(0) + std::sin(5 * x);
  if (number % 3 == 2) {
    t.value.reset();
    t.state = TrialState::failed;
    t.reason = FailReason::out_of_memory;
  }
  t.configuration = std::move(configuration);
  return t;
}

std::vector<Trial> run(const Track& track, Sampler& sampler, int rounds) {
  std::vector<Trial> trials;
  for (int i = 0; i < rounds; ++i) {
    trials.push_back(
        judged(track, i, i == 0 ? track.space.defaults() : sampler.ask(track, trials, rounds - i).configuration));
    sampler.tell(track, trials.back());
  }
  return trials;
}

class SamplerContract : public testing::TestWithParam<Row> {};

TEST_P(SamplerContract, ProposesWhatIsValidAndNew) {
  for (const Track& track : tracks()) {
    const auto sampler = GetParam().make(1);
    std::vector<Trial> trials;
    for (int i = 0; i < 12; ++i) {
      const Proposal p = sampler->ask(track, trials, 12 - i);
      ASSERT_EQ(track.space.problem(p.configuration), std::nullopt) << track.name << p.configuration;
      EXPECT_FALSE(tried_hashes(track.space, trials).contains(track.space.hash(p.configuration)))
          << track.name << ' ' << i << p.configuration;
      EXPECT_FALSE(p.proposed_by.empty());
      EXPECT_FALSE(p.thought.empty());
      trials.push_back(judged(track, i, p.configuration));
      sampler->tell(track, trials.back());
    }
  }
}

TEST_P(SamplerContract, IsReproducibleBySeed) {
  for (const Track& track : tracks()) {
    const auto a = GetParam().make(7), b = GetParam().make(7), other = GetParam().make(8);
    const std::vector<Trial> ours = run(track, *a, 8), same = run(track, *b, 8), others = run(track, *other, 8);
    bool differs = false;
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].configuration, same[i].configuration) << track.name << ' ' << i;
      differs |= ours[i].configuration != others[i].configuration;
    }
    EXPECT_TRUE(differs) << track.name << ": the seed has no effect";
  }
}

TEST_P(SamplerContract, GoesThroughASmallSpaceAndOnWhenAllIsTried) {
  Track track;
  track.space = SearchSpace({categorical_parameter("c", {"a", "b", "d"}, "a", ""), boolean_parameter("b", false, "")});
  const auto sampler = GetParam().make(3);
  const std::vector<Trial> trials = run(track, *sampler, 9);
  const std::span<const Trial> first(trials.data(), 6);
  EXPECT_EQ(tried_hashes(track.space, first).size(), 6u) << "each of the six once";
  for (const Trial& t : trials) EXPECT_EQ(track.space.problem(t.configuration), std::nullopt);
}

TEST_P(SamplerContract, WorksWhereNothingCanBeTuned) {
  Track track;
  const auto sampler = GetParam().make(3);
  for (const Trial& t : run(track, *sampler, 5)) EXPECT_EQ(t.configuration, Json::object());
}

TEST_P(SamplerContract, StandsAnyHistory) {
  const Track track = tracks()[0];
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<std::optional<double>>> histories = {
      {std::nullopt, std::nullopt, std::nullopt, std::nullopt},  // all failed
      {5.0, 5.0, 5.0, 5.0},                                      // all equal
      {0.1, 0.1, 0.1, std::nullopt},
      {1e150, -1e150, 0, 1},
      {1e-300, 2e-300, 0, 1e-300},
      {nan, 1.0, 2.0, inf},
      {-inf, nan},
  };
  std::mt19937_64 random(1);
  for (const auto& values : histories) {
    std::vector<Trial> trials;
    for (const auto& value : values) {
      Trial t = judged(track, static_cast<int>(trials.size()), track.space.sample(random));
      t.value = value;
      t.state = value ? TrialState::complete : TrialState::failed;
      trials.push_back(t);
      trials.push_back(t);  // the same twice, as after a repeated proposal
    }
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const Proposal p = GetParam().make(seed)->ask(track, trials, 1);
      EXPECT_EQ(track.space.problem(p.configuration), std::nullopt) << p.configuration;
      EXPECT_EQ(p.thought.find("nan"), std::string::npos) << p.thought;
      EXPECT_EQ(p.thought.find("inf"), std::string::npos) << p.thought;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Samplers, SamplerContract, testing::ValuesIn(kSamplers),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace haqa
