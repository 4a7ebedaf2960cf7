#include "haqa/kernel/reference.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
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
        std::pair(ElementType::q4_0, GGML_TYPE_Q4_0)}) {
    TensorShape shape;
    shape.type = type;
    shape.ne[0] = 256;
    shape.row = shape.nb[1] = row_bytes(type, 256);
    std::vector<std::byte> row(static_cast<size_t>(shape.row));
    EXPECT_EQ(row.size(), ggml_row_size(theirs, 256));
    FastRandom random(7);
    draw(weights, shape, Distribution::normal, random, row.data());
    std::vector<double> ours(256);
    decode_row(type, row.data(), ours);
    std::vector<float> expected(256);
    ggml_get_type_traits(theirs)->to_float(row.data(), expected.data(), 256);
    for (size_t i = 0; i < ours.size(); ++i) EXPECT_FLOAT_EQ(static_cast<float>(ours[i]), expected[i]) << i;
  }
}

/// The worst deviation of a row's products, in what Tolerance::norm is a factor of: with activations rounded to 8 bits
/// block by block, and with weights of six bits instead.
std::pair<double, double> worst_deviations(const KernelSpec& spec, const Shape& shape, Distribution distribution) {
  const std::vector<TensorShape> shapes = tensors_of(spec, {ElementType::q8_0, shape});
  std::vector<std::byte> weights(static_cast<size_t>(shapes[0].bytes()) + 64),
      x(static_cast<size_t>(shapes[1].bytes()));
  FastRandom random(3);
  draw(spec.arguments[0], shapes[0], distribution, random, weights.data());
  draw(spec.arguments[1], shapes[1], distribution, random, x.data());
  const std::byte* inputs[] = {weights.data(), x.data()};
  const auto reference = make_reference(spec, shapes, inputs);
  reference->begin_row(0);
  std::vector<double> row(static_cast<size_t>(shape[2])), exact(row), rounded(row), six(row);
  decode_row(ElementType::f32, x.data(), exact);
  for (size_t b = 0; b < exact.size(); b += 32) {
    double largest = 0;
    for (size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::abs(exact[i]));
    for (size_t i = b; i < b + 32; ++i) rounded[i] = std::nearbyint(exact[i] * 127 / largest) * largest / 127;
  }
  std::pair<double, double> worst = {0, 0};
  for (int64_t r = 0; r < shape[0]; ++r) {
    std::byte* at = weights.data() + r * shapes[0].nb[1];
    const Expected expected = reference->at(r);
    decode_row(ElementType::q8_0, at, row);
    for (int64_t i = 0; i < shapes[0].row; ++i)
      if (i % 34 > 1) at[i] = std::byte(static_cast<uint8_t>(std::min(124, (static_cast<int8_t>(at[i]) + 2) & ~3)));
    decode_row(ElementType::q8_0, at, six);
    const double by_activations = std::inner_product(row.begin(), row.end(), rounded.begin(), 0.0) - expected.value;
    const double by_weights = std::inner_product(six.begin(), six.end(), exact.begin(), 0.0) - expected.value;
    if (expected.scale == 0) continue;
    worst.first = std::max(worst.first, std::abs(by_activations) / expected.scale);
    worst.second = std::max(worst.second, std::abs(by_weights) / expected.scale);
  }
  return worst;
}

TEST(ReferenceScaleTest, TellsRoundedActivationsFromRoundedWeights) {
  const KernelSpec spec = read_kernel_spec(kernels_folder() / "matvec");
  const double norm = spec.tolerance_of(ElementType::q8_0).norm;
  EXPECT_EQ(norm, spec.tolerance_of(ElementType::q4_0).norm) << "it is the activations that are rounded";
  for (const int64_t k : {32, 96, 1024}) {
    EXPECT_LT(worst_deviations(spec, {2048, 1, k}, Distribution::outliers).first, norm) << k;
    const auto [activations, weights] = worst_deviations(spec, {2048, 1, k}, Distribution::normal);
    EXPECT_LT(activations, norm) << k;
    EXPECT_GT(activations, norm / 4) << k << ": looser than it needs to be";
    EXPECT_GT(weights, norm) << k;
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
