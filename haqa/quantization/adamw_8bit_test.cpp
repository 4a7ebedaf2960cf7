#include "haqa/quantization/adamw_8bit.h"

#include <gtest/gtest.h>

#include <limits>

#include "haqa/base/error.h"
#include "haqa/quantization/dynamic_map.h"
#include "haqa/quantization/parallel_test_support.h"
#include "haqa/quantization/quantization_test_support.h"

namespace haqa {
namespace {

/// A parameter with its state in memory of its own.
struct Parameter {
  std::vector<float> weights;
  std::vector<uint8_t> m, v;
  std::vector<float> m_absmax, v_absmax;

  explicit Parameter(std::vector<float> values)
      : weights(std::move(values)),
        m(weights.size()),
        v(weights.size()),
        m_absmax((weights.size() + 255) / 256),
        v_absmax(m_absmax.size()) {}
  AdamW8BitState state() { return {m, m_absmax, v, v_absmax}; }
};

constexpr AdamW8Bit kGolden = {
    .learning_rate = 3e-3, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1};
constexpr size_t kSize = 700;

/// The script's gradients.
std::vector<float> gradient(int64_t step) {
  auto values = numbers(static_cast<uint64_t>(79 + step), kSize, -30);
  std::fill(values.begin() + 500, values.begin() + 560, 0.0f);
  return values;
}

/// Codes may differ as bitsandbytes' lookup on CPUs sees steps of 1/65536 alone (dynamic_map_test.cpp): by one where a
/// value lies close to the middle of two, by more among the smallest.
void expect_near_codes(const DynamicMap& map, const std::vector<uint8_t>& got, const std::vector<uint8_t>& want,
                       const std::string& what) {
  size_t large = 0, different = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const float value = map[want[i]];
    if (std::abs(value) < 1e-4)
      EXPECT_NEAR(map[got[i]], value, 4e-5) << what << ' ' << i;
    else
      EXPECT_LE(std::abs(got[i] - want[i]), 1) << what << ' ' << i;
    large += std::abs(value) >= 1e-2;
    different += std::abs(value) >= 1e-2 && got[i] != want[i];
  }
  EXPECT_GE(large, got.size() / 4);
  EXPECT_LE(different, large / 50) << what;
}

// Each step starts from its state, so that differences between lookups do not add up.
TEST(AdamW8BitStep, AgreesWithBitsandbytes) {
  const Json& steps = golden()["adamw"]["steps"];
  ASSERT_EQ(steps.size(), 6u);
  Parameter p(numbers(70, kSize, -22));
  for (int64_t step = 1; step <= 6; ++step) {
    adamw_8bit_step(p.weights, gradient(step), p.state(), kGolden, step);
    const Json& want = steps[static_cast<size_t>(step - 1)];
    const auto weights = unhex<float>(want["weights"]);
    for (size_t i = 0; i < kSize; ++i) EXPECT_NEAR(p.weights[i], weights[i], 1e-6 * std::abs(weights[i]) + 1e-7) << i;
    const auto m_absmax = unhex<float>(want["m_absmax"]);
    const auto v_absmax = unhex<float>(want["v_absmax"]);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(p.m_absmax[i], m_absmax[i], 1e-6 * m_absmax[i]);
      EXPECT_NEAR(p.v_absmax[i], v_absmax[i], 1e-6 * v_absmax[i]);
    }
    expect_near_codes(signed_dynamic_map(), p.m, unhex<uint8_t>(want["m"]), "m");
    expect_near_codes(unsigned_dynamic_map(), p.v, unhex<uint8_t>(want["v"]), "v");
    p.weights = weights;
    p.m = unhex<uint8_t>(want["m"]);
    p.v = unhex<uint8_t>(want["v"]);
    p.m_absmax = m_absmax;
    p.v_absmax = v_absmax;
  }
}

/// AdamW of the paper in double precision; where `map` is given, moments are rounded to it in blocks of 256 by a search
/// through all its values.
void round_to(const DynamicMap& map, std::vector<double>& values, bool positive_stay) {
  for (size_t begin = 0; begin < values.size(); begin += 256) {
    const size_t end = std::min(values.size(), begin + 256);
    double absmax = 0;
    for (size_t i = begin; i < end; ++i) absmax = std::max(absmax, std::abs(values[i]));
    for (size_t i = begin; i < end && absmax > 0; ++i) {
      const bool positive = values[i] > 0;
      size_t best = 0;
      for (size_t k = 1; k < 256; ++k)
        if (std::abs(map.values()[k] * absmax - values[i]) < std::abs(map.values()[best] * absmax - values[i]))
          best = k;
      if (positive_stay && positive && best == 0) best = 1;
      values[i] = map.values()[best] * absmax;
    }
  }
}

TEST(AdamW8BitStep, AgreesWithDoublePrecisionOverManySteps) {
  const AdamW8Bit h{.learning_rate = 1e-2, .weight_decay = 0.05};
  Parameter p(numbers(90, 1000, -22));
  std::vector<double> weights(p.weights.begin(), p.weights.end()), m(1000), v(1000);
  for (int64_t step = 1; step <= 30; ++step) {
    const auto g = numbers(static_cast<uint64_t>(100 + step), 1000, -25);
    adamw_8bit_step(p.weights, g, p.state(), h, step);
    for (size_t i = 0; i < 1000; ++i) {
      const double gradient = g[i];
      m[i] = 0.9 * m[i] + 0.1 * gradient;
      v[i] = 0.999 * v[i] + 0.001 * gradient * gradient;
      const double m_hat = m[i] / (1 - std::pow(0.9, step));
      const double v_hat = v[i] / (1 - std::pow(0.999, step));
      weights[i] = weights[i] * (1 - 1e-2 * 0.05) - 1e-2 * m_hat / (std::sqrt(v_hat) + 1e-8);
    }
    round_to(signed_dynamic_map(), m, false);
    round_to(unsigned_dynamic_map(), v, true);
  }
  // A moment that lies close to the middle of two codes may go either way, and then differs by a step of the map.
  int apart = 0;
  for (size_t i = 0; i < 1000; ++i) {
    EXPECT_NEAR(p.weights[i], weights[i], 2e-2) << i;
    apart += !(std::abs(p.weights[i] - weights[i]) <= 1e-5);
  }
  EXPECT_LE(apart, 30);
}

TEST(AdamW8BitStep, FindsTheMinimumAsFullStatesDo) {
  const auto target = numbers(95, 600, -23);
  const AdamW8Bit h{.learning_rate = 0.02, .weight_decay = 0};
  Parameter p(std::vector<float>(600));
  std::vector<float> g(600);
  for (int64_t step = 1; step <= 400; ++step) {
    for (size_t i = 0; i < 600; ++i) g[i] = p.weights[i] - target[i];
    adamw_8bit_step(p.weights, g, p.state(), h, step);
  }
  for (size_t i = 0; i < 600; ++i) EXPECT_NEAR(p.weights[i], target[i], 0.02) << i;
}

TEST(AdamW8BitStep, InstructionSetsAndThreadsGiveTheSameBits) {
  Parameter want(numbers(91, 256 * 600 + 3, -22));
  const Parameter start = want;
  const auto g = numbers(92, 256 * 600 + 3, -25);
  for (int64_t step = 1; step <= 3; ++step)
    adamw_8bit_step(want.weights, g, want.state(), {}, step, in_turn, Simd::portable);
  for (const Simd simd : available_simd())
    for (const int threads : {1, 2, 5}) {
      Parameter p = start;
      for (int64_t step = 1; step <= 3; ++step)
        adamw_8bit_step(p.weights, g, p.state(), {}, step, on_threads(threads), simd);
      EXPECT_EQ(bits(p.weights), bits(want.weights)) << static_cast<int>(simd);
      EXPECT_EQ(p.m, want.m);
      EXPECT_EQ(p.v, want.v);
      EXPECT_EQ(bits(p.m_absmax), bits(want.m_absmax));
      EXPECT_EQ(bits(p.v_absmax), bits(want.v_absmax));
    }
}

// A gradient far below the block's largest, then none: with a second moment rounded to zero the step would be m / 1e-8.
TEST(AdamW8BitStep, ASmallGradientThatVanishesMakesNoLeap) {
  Parameter p(std::vector<float>(256));
  std::vector<float> g(256, 1e-4f);
  g[0] = 1;
  const AdamW8Bit h{.learning_rate = 1e-3, .weight_decay = 0};
  adamw_8bit_step(p.weights, g, p.state(), h, 1);
  std::fill(g.begin() + 1, g.end(), 0.0f);
  adamw_8bit_step(p.weights, g, p.state(), h, 2);
  for (const float w : p.weights) EXPECT_LE(std::abs(w), 3e-3);
  const auto all_above = [](const std::vector<uint8_t>& codes) {
    return std::all_of(codes.begin(), codes.end(), [](uint8_t code) { return code > 0; });
  };
  EXPECT_TRUE(all_above(p.v));
}

TEST(AdamW8BitStep, WithoutGradientsWeightsOnlyDecay) {
  for (const size_t size : {1, 255, 256, 257}) {
    Parameter p(std::vector<float>(size, 2.0f));
    adamw_8bit_step(p.weights, std::vector<float>(size), p.state(), {.learning_rate = 0.1, .weight_decay = 0.5}, 1);
    for (const float w : p.weights) EXPECT_FLOAT_EQ(w, 1.9f);
    for (const float a : p.m_absmax) EXPECT_EQ(a, 0);
  }
}

TEST(AdamW8BitStep, WhatCannotBeSteppedIsRefusedAndChangesNothing) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(), -1e20f}) {
    Parameter p(std::vector<float>(300, 1.0f));
    std::vector<float> g(300, 1.0f);
    g[299] = bad;
    for (const Simd simd : available_simd())
      EXPECT_THROW(adamw_8bit_step(p.weights, g, p.state(), {}, 1, in_turn, simd), Error);
    EXPECT_EQ(p.weights, std::vector<float>(300, 1.0f));
    EXPECT_EQ(p.m, std::vector<uint8_t>(300));
  }
  Parameter p(std::vector<float>(300, 1.0f));
  const std::vector<float> g(300, 1.0f);
  EXPECT_THROW(adamw_8bit_step(p.weights, std::span(g).first(299), p.state(), {}, 1), Error);
  EXPECT_THROW(adamw_8bit_step(p.weights, g, p.state(), {}, 0), Error);
  AdamW8BitState state = p.state();
  state.v_absmax = state.v_absmax.first(1);
  EXPECT_THROW(adamw_8bit_step(p.weights, g, state, {}, 1), Error);
}

}  // namespace
}  // namespace haqa
