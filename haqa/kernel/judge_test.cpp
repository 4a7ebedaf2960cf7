#include "haqa/kernel/judge.h"

#include <gtest/gtest.h>

#include <ostream>

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

class GgmlTest : public testing::TestWithParam<Case> {};

/// llama.cpp's implementation within the tolerance of ours: the reference and the baseline mean the same operation.
TEST_P(GgmlTest, ComputesWhatTheReferenceSays) {
  KernelSpec spec = read_kernel_spec(kernels_folder() / GetParam().kernel);
  // Its angles of far positions are of single precision, its activations of products of 16 or 8 bits.
  if (spec.reference == "rope") spec.tolerance.norm = 2e-2;
  if (spec.name == "matvec") spec.norm_of.clear();
  if (spec.name == "attention") spec.tolerance.norm = 5e-3;  // its sums of values are of half precision
  Judge judge(spec, GetParam().problem, 3);
  Contestant ggml("ggml", judge.contest(), (program_folder() / "haqa-ggml").string(), 2, judge.weights_limit({}),
                  {"ggml", spec.reference}, /*is_confined=*/false);
  TimingOptions options;
  options.least_pairs = options.most_pairs = 2;
  options.seconds = 0.1;
  options.check_all = true;
  EXPECT_NO_THROW(judge.time({&ggml}, {}, options));
}

INSTANTIATE_TEST_SUITE_P(
    All, GgmlTest,
    testing::Values(Case{"softmax", {ElementType::f32, {100, 3, 4}}}, Case{"silu", {ElementType::f32, {1000, 2, 1}}},
                    Case{"swiglu", {ElementType::f32, {1000, 2, 1}}}, Case{"rms_norm", {ElementType::f32, {512, 5, 1}}},
                    Case{"rms_norm_mul", {ElementType::f32, {512, 5, 1}}}, Case{"rope", {ElementType::f32, {64, 4, 3}}},
                    Case{"matmul", {ElementType::f32, {96, 5, 64}}}, Case{"matvec", {ElementType::f16, {96, 1, 64}}},
                    Case{"matvec", {ElementType::q8_0, {96, 3, 256}}},
                    Case{"matvec", {ElementType::q4_0, {96, 1, 256}}},
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
  EXPECT_DOUBLE_EQ(warm, operations_of(silu, problem) / 2e11);
  EXPECT_DOUBLE_EQ(cold, bytes_of(silu, problem) / 80e9);
  EXPECT_GT(impossible_below(silu, problem, {}, false), 0) << "even of a machine that nothing is known of";
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
