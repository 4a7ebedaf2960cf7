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
  // At one clock, the wider vectors do twice the fp32 operations.
  EXPECT_LT(predict_generation(cpu("avx512_vnni", 320e9), work).compute_s,
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

struct Derived {
  const char* set;
  int lanes;
  double f16, q8, q4;  ///< vector instructions for 32 weights
};
// By hand: fp32 operations a second over 2 (multiply-add) and over the lanes are instructions a second; at 3.2e9 of
// them, 3.2e9 weights take as many seconds as instructions for a block are counted, over 32.
// This pins the table's counts, so that none changes unnoticed; how well they predict, every run's report shows.
TEST(Roofline, EveryInstructionSetByHand) {
  const Derived cases[] = {{"avx512_vnni", 16, 6, 7, 10}, {"avx_vnni", 8, 12, 8, 11}, {"avx2", 8, 12, 9, 13},
                           {"i8mm", 4, 20, 8, 12},        {"dotprod", 4, 20, 9, 13},  {"neon", 4, 24, 16, 20}};
  for (const Derived& c : cases) {
    const HardwareProfile p = cpu(c.set, 3.2e9 * 2 * c.lanes);
    EXPECT_NEAR(predict_generation(p, {"F16", 1, 3.2e9}).compute_s, c.f16 / 32, 1e-9) << c.set;
    EXPECT_NEAR(predict_generation(p, {"Q8_0", 1, 3.2e9}).compute_s, c.q8 / 32, 1e-9) << c.set;
    EXPECT_NEAR(predict_generation(p, {"Q4_0", 1, 3.2e9}).compute_s, c.q4 / 32, 1e-9) << c.set;
  }
}

TEST(Roofline, TheBestInstructionSetCounts) {
  HardwareProfile p = cpu("avx2", 3.2e9 * 32);
  p.instruction_sets = {"avx2", "avx512_vnni", "sse2"};
  EXPECT_NEAR(predict_generation(p, {"Q8_0", 1, 3.2e9}).compute_s, 7.0 / 32, 1e-9);
}

TEST(Roofline, OtherTypesAreTakenForTheNearest) {
  HardwareProfile p = cpu("avx2", 160e9);
  p.weight_rates = {{"F16", 1e9}, {"Q8_0", 2e9}, {"Q4_0", 4e9}};
  const std::pair<const char*, double> cases[] = {
      {"F32", 1},    {"F16", 1},    {"BF16", 1}, {"Q8_0", 2}, {"Q8_K", 2},    {"Q6_K", 2},
      {"Q5_0", 4},   {"Q5_K_M", 4}, {"Q5_K", 4}, {"Q4_0", 4}, {"Q4_K_M", 4},  {"IQ4_NL", 4},
      {"IQ4_XS", 4}, {"MXFP4", 4},  {"Q3_K", 4}, {"Q2_K", 4}, {"IQ2_XXS", 4}, {"TQ1_0", 4}};
  for (const auto& [type, rate] : cases)
    EXPECT_NEAR(predict_generation(p, {type, 1, 1e9}).compute_s, 1 / rate, 1e-12) << type;
  // A rate of the type itself comes before that of its format.
  p.weight_rates["Q4_K_M"] = 8e9;
  EXPECT_NEAR(predict_generation(p, {"Q4_K_M", 1, 1e9}).compute_s, 1 / 8.0, 1e-12);
}

TEST(Roofline, TakesTheBestBandwidth) {
  HardwareProfile p = cpu("avx2", 160e9);
  p.bandwidth = {{1, 10e9}, {4, 40e9}, {8, 30e9}};
  const Prediction got = predict_generation(p, {"Q8_0", 2'000'000'000, 0});
  EXPECT_NEAR(got.memory_s, 0.05, 1e-12);
  EXPECT_EQ(got.compute_s, 0);
  EXPECT_NEAR(got.tokens_per_s, 20, 1e-9);
  EXPECT_THAT(got.why, HasSubstr("2.00 GB"));
}

// (peak rates, type) -> weights a second: half of the native operations; a quarter of FP16's for INT8 that is
// converted, a sixth for INT4 that is unpacked.
TEST(Roofline, GpuTable) {
  struct Case {
    PeakRates peak;
    const char* type;
    double rate;
    const char* why;
  };
  const Case cases[] = {{{0, 8e12, 0, 0}, "F16", 4e12, "FP16 needs no unpacking"},
                        {{0, 8e12, 0, 0}, "Q8_0", 2e12, "INT8 is not native"},
                        {{0, 12e12, 0, 0}, "Q4_0", 2e12, "INT4 is not native"},
                        {{0, 8e12, 16e12, 0}, "Q8_0", 8e12, "INT8 is native"},
                        {{0, 12e12, 16e12, 0}, "Q4_0", 2e12, "INT4 is not native"},
                        {{0, 8e12, 16e12, 32e12}, "Q4_0", 16e12, "INT4 is native"},
                        {{6e12, 0, 0, 0}, "F16", 3e12, "FP16"},  // fp32 where nothing else is known
                        {{6e12, 0, 0, 0}, "Q4_0", 1e12, "INT4 is not native"}};
  for (const Case& c : cases) {
    HardwareProfile p;
    p.engine = "gpu";
    p.bandwidth = {{0, 1e11}};
    p.peak = c.peak;
    const Prediction got = predict_generation(p, {c.type, 1, c.rate});
    EXPECT_NEAR(got.compute_s, 1, 1e-9) << c.type << c.why;
    EXPECT_THAT(got.why, HasSubstr(c.why));
  }
}

TEST(Roofline, KnownRatesNeedNoInstructionSet) {
  HardwareProfile p = cpu("riscv_v", 0);
  p.weight_rates = {{"Q8_0", 1e9}};
  const Prediction got = predict_generation(p, {"Q8_0", 0, 1e9});
  EXPECT_NEAR(got.tokens_per_s, 1, 1e-9);
  EXPECT_THAT(got.why, HasSubstr("as measured on such a device"));
  EXPECT_EQ(predict_generation(p, {"F16", 0, 1e9}).tokens_per_s, 0) << "another type's rate says nothing";
}

TEST(Roofline, KnowsWhenItKnowsTooLittle) {
  HardwareProfile zero = cpu("avx2", 160e9);
  zero.bandwidth = {{1, 0}};
  EXPECT_EQ(predict_generation(zero, {"F16", 1, 1}).tokens_per_s, 0);
  EXPECT_THAT(predict_generation(zero, {"F16", 1, 1}).why, HasSubstr("no bandwidth"));
  HardwareProfile gpu;
  gpu.engine = "gpu";
  gpu.bandwidth = {{0, 1e11}};
  EXPECT_EQ(predict_generation(gpu, {"Q4_0", 1, 1}).tokens_per_s, 0);

  EXPECT_EQ(predict_generation(HardwareProfile{}, {"F16", 1, 1}).tokens_per_s, 0);
  EXPECT_EQ(predict_generation(cpu("sse2", 160e9), {"F16", 1, 1}).tokens_per_s, 0);
  HardwareProfile no_bandwidth = cpu("avx2", 160e9);
  no_bandwidth.bandwidth.clear();
  EXPECT_EQ(predict_generation(no_bandwidth, {"F16", 1, 1}).tokens_per_s, 0);
}

}  // namespace
}  // namespace haqa
