#include "haqa/hardware/roofline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace haqa {
namespace {

using testing::HasSubstr;

HardwareProfile cpu(const char* set, double fp32) {
  HardwareProfile p;
  p.instruction_sets = {set};
  p.peak.fp32 = fp32;
  p.bandwidth = {{1, 10e9}, {2, 20e9}};
  return p;
}

// 1e9 weights in 1e9 bytes at 20 GB/s: 50 ms. AVX2 at 160 GFLOPS runs 1e10 vector instructions a second.
TEST(Roofline, AddsReadingAndArithmetic) {
  const Prediction q8 = predict_generation(cpu("avx2", 160e9), {"Q8_0", 1'000'000'000, 1e9});
  EXPECT_NEAR(q8.memory_s, 0.05, 1e-12);
  EXPECT_NEAR(q8.compute_s, 1e9 / (1e10 / 9 * 32), 1e-12);  // 9 instructions for 32 weights
  EXPECT_NEAR(q8.tokens_per_s, 1 / (q8.memory_s + q8.compute_s), 1e-9);
  EXPECT_THAT(q8.why, HasSubstr("AVX2 without VNNI"));
  EXPECT_THAT(predict_generation(cpu("avx2", 160e9), {"Q4_0", 1, 1}).why, HasSubstr("unpacked by shifts and masks"));
}

TEST(Roofline, BetterInstructionSetsCostLess) {
  const DecodeWork work = {"Q8_0", 1'000'000'000, 1e9};
  EXPECT_LT(predict_generation(cpu("avx512_vnni", 160e9), work).compute_s * 0.5,
            predict_generation(cpu("avx2", 160e9), work).compute_s);
  EXPECT_LT(predict_generation(cpu("dotprod", 80e9), work).compute_s,
            predict_generation(cpu("neon", 80e9), work).compute_s);
}

TEST(Roofline, KnownRatesComeFirst) {
  HardwareProfile p = cpu("avx2", 160e9);
  p.weight_rates = {{"Q4_0", 2e9}};
  EXPECT_NEAR(predict_generation(p, {"Q4_0", 1, 1e9}).compute_s, 0.5, 1e-12);
  EXPECT_NEAR(predict_generation(p, {"IQ4_NL", 1, 1e9}).compute_s, 0.5, 1e-12) << "the nearest known format";
  EXPECT_LT(predict_generation(p, {"Q8_0", 1, 1e9}).compute_s, 0.1);
}

TEST(Roofline, GpusWithoutNativeInt4PayForIt) {
  HardwareProfile p;
  p.engine = "gpu";
  p.peak.fp16 = 6e12;
  p.bandwidth = {{0, 60e9}};
  EXPECT_NEAR(predict_generation(p, {"F16", 1, 3e9}).compute_s, 1e-3, 1e-12);
  EXPECT_NEAR(predict_generation(p, {"Q4_0", 1, 3e9}).compute_s, 3e-3, 1e-12);
  p.peak.int4 = 24e12;
  EXPECT_NEAR(predict_generation(p, {"Q4_0", 1, 3e9}).compute_s, 0.25e-3, 1e-12);
  EXPECT_THAT(predict_generation(p, {"Q4_0", 1, 3e9}).why, HasSubstr("INT4 is native"));
}

TEST(Roofline, KnowsWhenItKnowsTooLittle) {
  EXPECT_EQ(predict_generation(HardwareProfile{}, {"F16", 1, 1}).tokens_per_s, 0);
  EXPECT_EQ(predict_generation(cpu("sse2", 160e9), {"F16", 1, 1}).tokens_per_s, 0);
  HardwareProfile no_bandwidth = cpu("avx2", 160e9);
  no_bandwidth.bandwidth.clear();
  EXPECT_EQ(predict_generation(no_bandwidth, {"F16", 1, 1}).tokens_per_s, 0);
}

}  // namespace
}  // namespace haqa
