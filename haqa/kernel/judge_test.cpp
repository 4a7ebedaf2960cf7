#include "haqa/kernel/judge.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <ostream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

struct Case {
  std::string kernel;
  KernelProblem problem;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.kernel << " " << c.problem.label();
}

/// Its results are checked before it is timed: the reference and the baseline mean the same operation.
void time_baseline(const Case& c, const std::string& name, double baseline_norm = 0) {
  KernelSpec spec = read_kernel_spec(kernels_folder() / c.kernel);
  if (baseline_norm > 0) spec.baseline_norm = baseline_norm;
  Judge judge(spec, c.problem, 3);
  Contestant contestant(name, judge.contest(), (program_folder() / "haqa-ggml").string(), 2, judge.weights_limit({}),
                        {name, spec.reference}, /*is_confined=*/false);
  TimingOptions options;
  options.least_rotations = options.most_rotations = 1;
  options.seconds = 0.01;
  judge.time({&contestant}, {}, options);
}

class GgmlTest : public testing::TestWithParam<Case> {};

TEST_P(GgmlTest, ComputesWhatTheReferenceSays) {
  EXPECT_NO_THROW(time_baseline(GetParam(), "ggml"));
}

class OpenBlasTest : public testing::TestWithParam<Case> {};

TEST_P(OpenBlasTest, ComputesWhatTheReferenceSays) {
  void* library = dlopen("libopenblas.so.0", RTLD_LAZY | RTLD_LOCAL);
  if (!library) GTEST_SKIP() << "OpenBLAS is not installed";
  EXPECT_NO_THROW(time_baseline(GetParam(), "openblas"));
}

INSTANTIATE_TEST_SUITE_P(All, OpenBlasTest,
                         testing::Values(Case{"matmul", {ElementType::f32, {96, 1, 64}}},
                                         Case{"matmul", {ElementType::f32, {97, 5, 65}}},
                                         Case{"matmul", {ElementType::f32, {256, 64, 100}}}));

/// Activations of 8 bits are no products of floats.
TEST(BaselineTest, WhatIsWrongIsNotTimed) {
  try {
    time_baseline({"matvec", {ElementType::q8_0, {96, 3, 256}}}, "ggml", 1e-6);
    FAIL();
  } catch (const KernelFault&) {
    FAIL() << "a baseline's fault is not the variant's";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("ggml itself is wrong here (wrong result)"), std::string::npos) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, GgmlTest,
    testing::Values(Case{"softmax", {ElementType::f32, {100, 3, 4}}}, Case{"silu", {ElementType::f32, {1000, 2, 1}}},
                    Case{"swiglu", {ElementType::f32, {1000, 2, 1}}}, Case{"rms_norm", {ElementType::f32, {512, 5, 1}}},
                    Case{"rms_norm_mul", {ElementType::f32, {512, 5, 1}}}, Case{"rope", {ElementType::f32, {64, 4, 3}}},
                    Case{"matmul", {ElementType::f32, {96, 5, 64}}}, Case{"matvec", {ElementType::f16, {96, 1, 64}}},
                    Case{"matvec", {ElementType::q8_0, {96, 3, 256}}},
                    Case{"matvec", {ElementType::q4_0, {96, 1, 256}}}, Case{"matvec", {ElementType::bf16, {96, 2, 64}}},
                    Case{"matvec", {ElementType::q4_k, {96, 1, 512}}},
                    Case{"matvec", {ElementType::q6_k, {96, 2, 512}}},
                    Case{"matvec", {ElementType::iq4_nl, {96, 1, 256}}},
                    Case{"attention", {ElementType::f16, {64, 1, 300, 8, 2}}},
                    Case{"attention", {ElementType::f16, {64, 20, 40, 4, 4}}},
                    Case{"attention", {ElementType::q8_0, {64, 1, 300, 8, 2}}}),
    [](const auto& tested) {
      return tested.param.kernel + std::string(to_string(tested.param.problem.type)) + std::to_string(tested.index);
    });

TEST(ImpossibleBelowTest, IsFarBelowWhatIsPossible) {
  const KernelSpec silu = read_kernel_spec(kernels_folder() / "silu");
  const KernelProblem problem{ElementType::f32, {11008, 128, 1}};
  const MachineRates machine{2, 1e11, 4e11, 20e9, 32 << 20};
  const double warm = impossible_below(silu, problem, machine, false),
               cold = impossible_below(silu, problem, machine, true);
  const double roofline = bytes_of(silu, problem) / machine.bandwidth;
  EXPECT_LT(warm, cold);
  EXPECT_LT(cold, roofline / 2) << "a measured bandwidth is not the last word";
  EXPECT_GT(cold, roofline / 10) << "or nothing would ever be impossible";
  MachineRates slow = machine;
  slow.fp32 /= 100;
  EXPECT_GT(impossible_below(silu, problem, slow, true), 10 * cold) << "of slow arithmetic";
  EXPECT_LT(impossible_below(silu, problem, slow, true), operations_of(silu, problem) / slow.fp32);
  EXPECT_GT(impossible_below(silu, problem, {}, false), 0) << "even of a machine that nothing is known of";
}

TEST(JudgeTest, SaysWhereColdIsNotQuiteSo) {
  const KernelSpec spec = read_kernel_spec(kernels_folder() / "matvec");
  const Judge judge(spec, {ElementType::q4_0, {256, 1, 2048}}, 1);  // the smallest of a model's weights
  MachineRates machine;
  machine.last_level_cache = uint64_t{503} << 20;
  EXPECT_FALSE(judge.is_partly_cold(machine));
  EXPECT_GT(judge.weights_limit(machine), machine.last_level_cache);
  machine.copies = uint64_t{256} << 20;
  EXPECT_TRUE(judge.is_partly_cold(machine)) << "a small memory";
  machine.last_level_cache = 16 << 20;
  EXPECT_FALSE(judge.is_partly_cold(machine));
}

TEST(FaultKindTest, NamesAreReadBack) {
  for (const KernelFaultKind kind :
       {KernelFaultKind::refused_source, KernelFaultKind::forbidden_call, KernelFaultKind::works_on,
        KernelFaultKind::impossible_time, KernelFaultKind::does_not_run})
    EXPECT_EQ(fault_kind(to_string(kind)), kind);
  EXPECT_EQ(fault_kind("bad luck"), std::nullopt);
}

}  // namespace
}  // namespace haqa
