#include "haqa/kernel/reference.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ostream>
#include <random>

#include "haqa/kernel/inputs.h"

namespace haqa {
namespace {

TEST(HalfTest, AgreesWithGgmlOnEveryBitPattern) {
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const double ours = half_to_double(half), theirs = ggml_fp16_to_fp32(half);
    if (std::isnan(theirs)) {
      EXPECT_TRUE(std::isnan(ours)) << bits;
      continue;
    }
    EXPECT_EQ(ours, theirs) << bits;
    if (std::isfinite(ours)) {
      EXPECT_EQ(double_to_half(ours), half) << bits;
    }
  }
}

TEST(HalfTest, RoundsAsGgmlDoes) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> values(0, 0.01f);
  for (int i = 0; i < 20000; ++i) {
    const float x = i % 2 ? values(random) : values(random) * 1e-4f;
    EXPECT_EQ(double_to_half(x), ggml_fp32_to_fp16(x)) << x;
  }
}

TEST(DecodeRowTest, AgreesWithGgml) {
  KernelArgument weights;
  weights.is_weights = weights.is_constant = true;
  for (const auto& [type, theirs] :
       {std::pair(ElementType::f16, GGML_TYPE_F16), std::pair(ElementType::q8_0, GGML_TYPE_Q8_0),
        std::pair(ElementType::q4_0, GGML_TYPE_Q4_0), std::pair(ElementType::bf16, GGML_TYPE_BF16),
        std::pair(ElementType::q4_k, GGML_TYPE_Q4_K), std::pair(ElementType::q6_k, GGML_TYPE_Q6_K),
        std::pair(ElementType::iq4_nl, GGML_TYPE_IQ4_NL)}) {
    TensorShape shape;
    shape.type = type;
    shape.ne[0] = 512;
    shape.row = shape.nb[1] = row_bytes(type, 512);
    std::vector<std::byte> row(static_cast<size_t>(shape.row));
    EXPECT_EQ(row.size(), ggml_row_size(theirs, 512));
    FastRandom random(7);
    draw(weights, shape, Distribution::normal, random, row.data());
    std::vector<double> ours(512);
    decode_row(type, row.data(), ours);
    std::vector<float> expected(512);
    ggml_get_type_traits(theirs)->to_float(row.data(), expected.data(), 512);
    for (size_t i = 0; i < ours.size(); ++i) EXPECT_FLOAT_EQ(static_cast<float>(ours[i]), expected[i]) << i;
  }
}

/// One small case a kernel, worked out by hand.
struct Case {
  std::string kernel;
  Shape shape;
  std::vector<std::vector<float>> inputs;
  std::vector<double> expected;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.kernel;
}

class ReferenceTest : public testing::TestWithParam<Case> {};

TEST_P(ReferenceTest, IsWhatTheFormulaSays) {
  const Case& c = GetParam();
  const KernelSpec spec = read_kernel_spec(kernels_folder() / c.kernel);
  const std::vector<TensorShape> shapes = tensors_of(spec, {ElementType::f32, c.shape});
  std::vector<const std::byte*> inputs;
  std::vector<std::vector<int32_t>> whole(c.inputs.size());
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    whole[i].assign(c.inputs[i].begin(), c.inputs[i].end());
    inputs.push_back(shapes[i].type == ElementType::i32 ? reinterpret_cast<const std::byte*>(whole[i].data())
                                                        : reinterpret_cast<const std::byte*>(c.inputs[i].data()));
  }
  const auto reference = make_reference(spec, shapes, inputs);
  size_t at = 0;
  for (int64_t r = 0; r < shapes.back().rows(); ++r) {
    reference->begin_row(r);
    for (int64_t i = 0; i < shapes.back().ne[0]; ++i, ++at)
      EXPECT_NEAR(reference->at(i).value, c.expected.at(at), 1e-6) << r << ", " << i;
  }
  EXPECT_EQ(at, c.expected.size());
}

const float kInfinity = std::numeric_limits<float>::infinity();
INSTANTIATE_TEST_SUITE_P(
    All, ReferenceTest,
    testing::Values(Case{"softmax", {2, 2, 1}, {{0, 0, std::log(3.0f), 0}}, {0.5, 0.5, 0.75, 0.25}},
                    Case{"softmax", {3, 1, 1}, {{-kInfinity, 1000, 1000}}, {0, 0.5, 0.5}},
                    Case{"silu", {3, 1, 1}, {{0, 1, -100}}, {0, 0.7310585786, 0}},
                    Case{"swiglu", {2, 1, 1}, {{1, 1}, {2, -1}}, {1.4621171573, -0.7310585786}},
                    Case{"rms_norm", {2, 2, 1}, {{3, 4, 0, 0}}, {0.8485280, 1.1313707, 0, 0}},
                    Case{"rms_norm_mul", {2, 1, 1}, {{3, 4}, {10, 100}}, {8.48527798, 113.13703974}},
                    // Position 1: by 1 radian; the second pair by 10000^(-1/2).
                    Case{"rope",
                         {4, 1, 2},
                         {{1, 2, 1, 0, 1, 0, 1, 0}, {0, 1}},
                         {1, 2, 1, 0, 0.5403023, 0.8414710, 0.9999500, 0.0099998}},
                    Case{"matmul", {2, 2, 3}, {{1, 2, 3, 4, 5, 6}, {1, 0, 1, 0, 2, 0}}, {4, 10, 4, 10}}),
    [](const auto& tested) { return tested.param.kernel + std::to_string(tested.index); });

}  // namespace
}  // namespace haqa
