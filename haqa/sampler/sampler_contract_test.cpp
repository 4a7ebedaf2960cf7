// What every Sampler promises (study/study.h), over spaces of all kinds. A sampler is tested once the registry names
// it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>

#include "haqa/sampler/registry.h"
#include "haqa/sampler/untried.h"

namespace haqa {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kSlower = 20;
#else
constexpr double kSlower = 1;
#endif

/// All by name but the defaults' own, which repeats itself and heeds no seed, and the exhaustive one, which is for
/// finite spaces and heeds none either (exhaustive_test.cpp).
std::vector<std::string> names() {
  std::vector<std::string> all = sampler_names();
  std::erase(all, "default");
  std::erase(all, "exhaustive");
  return all;
}

std::vector<Track> tracks() {
  std::vector<Track> all(6);
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
  all[5].name = "a text";
  all[5].space = SearchSpace({real_parameter("r", 0, 1, 0.5, ""), text_parameter("code", 100, "")});
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

class SamplerContract : public testing::TestWithParam<std::string> {
 protected:
  static std::unique_ptr<Sampler> made(uint64_t seed) { return make_sampler(GetParam(), seed); }
};

TEST_P(SamplerContract, ProposesWhatIsValidAndNew) {
  for (const Track& track : tracks()) {
    const auto sampler = made(1);
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
  bool differs = false;  // somewhere: of a few valid configurations the most promising may be the same for all seeds
  for (const Track& track : tracks()) {
    const auto a = made(7), b = made(7), other = made(8);
    const std::vector<Trial> ours = run(track, *a, 8), same = run(track, *b, 8), others = run(track, *other, 8);
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].configuration, same[i].configuration) << track.name << ' ' << i;
      differs |= ours[i].configuration != others[i].configuration;
    }
  }
  EXPECT_TRUE(differs) << "the seed has no effect";
}

TEST_P(SamplerContract, GoesThroughASmallSpaceAndOnWhenAllIsTried) {
  Track track;
  track.space = SearchSpace({categorical_parameter("c", {"a", "b", "d"}, "a", ""), boolean_parameter("b", false, "")});
  const auto sampler = made(3);
  const std::vector<Trial> trials = run(track, *sampler, 9);
  const std::span<const Trial> first(trials.data(), 6);
  EXPECT_EQ(tried_hashes(track.space, first).size(), 6u) << "each of the six once";
  for (const Trial& t : trials) EXPECT_EQ(track.space.problem(t.configuration), std::nullopt);
}

TEST_P(SamplerContract, WorksWhereNothingCanBeTuned) {
  Track track;
  const auto sampler = made(3);
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
      const Proposal p = made(seed)->ask(track, trials, 1);
      EXPECT_EQ(track.space.problem(p.configuration), std::nullopt) << p.configuration;
      EXPECT_EQ(p.thought.find("nan"), std::string::npos) << p.thought;
      EXPECT_EQ(p.thought.find("inf"), std::string::npos) << p.thought;
    }
  }
}

TEST_P(SamplerContract, KeepsParallelTrialsApart) {
  for (const Track& track : tracks()) {
    const auto sampler = made(5);
    std::vector<Trial> trials = run(track, *sampler, 5);
    for (int worker = 0; worker < 4; ++worker) {
      const Proposal p = sampler->ask(track, trials, 4);
      EXPECT_EQ(track.space.problem(p.configuration), std::nullopt) << p.configuration;
      EXPECT_FALSE(tried_hashes(track.space, trials).contains(track.space.hash(p.configuration))) << track.name;
      trials.push_back(running_trial(5 + worker, p));
    }
    trials.assign(1, running_trial(0, {track.space.defaults(), "default", "", {}}));  // nothing is known yet
    for (int worker = 1; worker < 5; ++worker) {
      const Proposal p = sampler->ask(track, trials, 4);
      EXPECT_EQ(track.space.problem(p.configuration), std::nullopt) << p.configuration;
      EXPECT_FALSE(tried_hashes(track.space, trials).contains(track.space.hash(p.configuration))) << track.name;
      trials.push_back(running_trial(worker, p));
    }
  }
}

/// The largest difference of two points in any coordinate.
double apart(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

// Not one point eight times: each of the first proposals lies a twentieth of a range from all others, as nearly all
// pairs of random points do.
TEST_P(SamplerContract, KeepsTheFirstParallelTrialsApart) {
  Track track;
  track.space = SearchSpace(
      {real_parameter("x", 0, 1, 0.5, ""), real_parameter("y", 0, 1, 0.5, ""), real_parameter("z", 0, 1, 0.5, "")});
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const auto sampler = made(seed);
    std::vector<Trial> trials = {running_trial(0, {track.space.defaults(), "default", "", {}})};
    std::vector<std::vector<double>> points = {track.space.encode(track.space.defaults())};
    for (int worker = 1; worker < 8; ++worker) {
      const Proposal p = sampler->ask(track, trials, 8 - worker);
      const std::vector<double> point = track.space.encode(p.configuration);
      for (const auto& other : points) EXPECT_GT(apart(point, other), 0.05) << seed << p.configuration;
      points.push_back(point);
      trials.push_back(running_trial(worker, p));
    }
  }
}

// What nobody draws: samplers learn from trials whose text was changed, and propose valid configurations.
TEST_P(SamplerContract, StandsTrialsWithChangedTexts) {
  Track track;
  track.space = SearchSpace({integer_parameter("n", 1, 64, 8, "", true), text_parameter("code", 100, "")});
  const auto sampler = made(4);
  std::vector<Trial> trials;
  for (int i = 0; i < 12; ++i) {
    Configuration c = sampler->ask(track, trials, 24 - i).configuration;
    EXPECT_EQ(track.space.problem(c), std::nullopt) << c;
    trials.push_back(judged(track, i, c));
    if (i % 2 == 0) trials.back().configuration["code"] = fmt::format("version {}", i);
    sampler->tell(track, trials.back());
  }
}

// Whichever sampler it is, a study with several goals goes on.
TEST_P(SamplerContract, StandsSeveralGoals) {
  Track track = tracks()[0];
  track.more_goals = {{"size", Direction::minimize}};
  const auto sampler = made(2);
  std::vector<Trial> trials;
  for (int i = 0; i < 12; ++i) {
    Trial t = judged(track, i, sampler->ask(track, trials, 12 - i).configuration);
    EXPECT_EQ(track.space.problem(t.configuration), std::nullopt) << t.configuration;
    if (t.value) t.more_values = {std::cos(i)};
    trials.push_back(t);
  }
}

// Half a second is what a proposal may cost at 200 trials; the bound leaves room for sanitizers and busy machines.
TEST_P(SamplerContract, AsksInTimeAt200Trials) {
  std::vector<Parameter> parameters;
  for (int i = 0; i < 4; ++i) parameters.push_back(real_parameter(fmt::format("r{}", i), 0, 1, 0.5, ""));
  for (int i = 0; i < 3; ++i) parameters.push_back(integer_parameter(fmt::format("n{}", i), 1, 4096, 64, "", true));
  for (int i = 0; i < 2; ++i)
    parameters.push_back(categorical_parameter(fmt::format("c{}", i), {"a", "b", "d"}, "a", ""));
  parameters.push_back(boolean_parameter("b", false, ""));
  Track track;
  track.space = SearchSpace(parameters);
  std::mt19937_64 random(1);
  std::vector<Trial> trials;
  for (int i = 0; i < 200; ++i) trials.push_back(judged(track, i, track.space.sample(random)));
  const auto sampler = made(1);
  for (const size_t n : {10, 200}) {
    double best_s = INFINITY;
    for (int i = 0; i < 3; ++i) {
      const auto start = std::chrono::steady_clock::now();
      sampler->ask(track, std::span(trials).first(n), 10);
      best_s = std::min(best_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    RecordProperty(fmt::format("ask_ms_at_{}_trials", n), fmt::format("{:.2f}", 1000 * best_s));
    EXPECT_LT(best_s, kSlower * (n == 10 ? 0.25 : 1)) << n << " trials";
  }
}

INSTANTIATE_TEST_SUITE_P(Samplers, SamplerContract, testing::ValuesIn(names()),
                         [](const auto& row) { return row.param; });

}  // namespace
}  // namespace haqa
