#include "haqa/kernel/checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "haqa/kernel/reference.h"

namespace haqa {
namespace {

/// SiLU of [5,3,2] with gaps between rows, computed rightly, and then spoiled.
class CheckLaunchTest : public testing::Test {
 protected:
  CheckLaunchTest()
      : spec_(read_kernel_spec(kernels_folder() / "silu")),
        shapes_(tensors_of(spec_, {ElementType::f32, {5, 3, 2}}, 8)),
        input_(static_cast<size_t>(shapes_[0].bytes())),
        memory_(static_cast<size_t>(shapes_[1].bytes()) + 2 * kMargin) {
    FastRandom random(5);
    draw(spec_.arguments[0], shapes_[0], Distribution::normal, random, input_.data());
    poison(memory_.data(), memory_.size());
    for (int64_t r = 0; r < 6; ++r)
      for (int64_t i = 0; i < 5; ++i) {
        const double x = *element(input_.data(), r, i);
        *element(output(), r, i) = static_cast<float>(x / (1 + std::exp(-x)));
      }
  }
  std::byte* output() { return memory_.data() + kMargin; }
  float* element(std::byte* of, int64_t r, int64_t i) {
    return reinterpret_cast<float*>(of + r % 3 * shapes_[0].nb[1] + r / 3 * shapes_[0].nb[2] + i * 4);
  }
  void check() {
    const std::byte* inputs[] = {input_.data()};
    FastRandom random(1);
    check_launch(spec_, {shapes_, inputs, output(), "[5,3,2]"}, {}, random);
  }
  /// nullopt where nothing is found.
  std::optional<KernelFaultKind> found(std::string* message = nullptr) {
    try {
      check();
      return std::nullopt;
    } catch (const KernelFault& fault) {
      if (message) *message = fault.what();
      return fault.kind;
    }
  }

  KernelSpec spec_;
  std::vector<TensorShape> shapes_;
  std::vector<std::byte> input_, memory_;
};

TEST_F(CheckLaunchTest, WhatIsRightPasses) {
  EXPECT_EQ(found(), std::nullopt);
}

TEST_F(CheckLaunchTest, AnyElementMayBeTheWrongOne) {
  for (int64_t r = 0; r < 6; ++r)
    for (int64_t i = 0; i < 5; ++i)
      for (const float wrong :
           {1.01f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        float& y = *element(output(), r, i);
        const float right = y;
        y = wrong == 1.01f ? right * 1.01f + 0.001f : wrong;
        std::string message;
        EXPECT_EQ(found(&message), KernelFaultKind::wrong_result);
        EXPECT_NE(message.find("row " + std::to_string(r) + ", column " + std::to_string(i)), std::string::npos)
            << message;
        EXPECT_NE(message.find("1 of 30"), std::string::npos) << message;
        y = right;
      }
}

TEST_F(CheckLaunchTest, WhatWasLeftIsFoundAnywhere) {
  for (int64_t r = 0; r < 6; ++r) {
    float& y = *element(output(), r, 4 - r % 5);
    const float right = y;
    poison(reinterpret_cast<std::byte*>(&y), 4);
    EXPECT_EQ(found(), KernelFaultKind::not_written);
    y = right;
  }
}

TEST_F(CheckLaunchTest, NoByteBesideTheRowsMayChange) {
  std::vector<bool> is_element(memory_.size());
  for (int64_t r = 0; r < 6; ++r)
    for (int64_t i = 0; i < 20; ++i)
      is_element[static_cast<size_t>(reinterpret_cast<std::byte*>(element(output(), r, 0)) + i - memory_.data())] =
          true;
  for (size_t i = 0; i < memory_.size(); ++i) {
    if (is_element[i]) continue;
    memory_[i] ^= std::byte{1};
    EXPECT_EQ(found(), KernelFaultKind::out_of_bounds) << "byte " << i;
    memory_[i] ^= std::byte{1};
  }
}

/// Whatever the effort, some rows between the first and the last are looked at.
TEST(CheckLaunchRowsTest, RowsBetweenTheEndsAreLookedAt) {
  struct Case {
    std::string kernel;
    Shape shape;
    CheckEffort effort;
  };
  const CheckEffort glance{1 << 13, 1 << 17}, quick{1 << 15, 1 << 20}, least{1, 1};
  for (const Case& c : {Case{"silu", {4096, 64, 1}, glance}, Case{"silu", {11008, 8, 4}, glance},
                        Case{"silu", {32768, 16, 1}, quick}, Case{"rms_norm", {4096, 64, 1}, glance},
                        Case{"softmax", {11008, 2, 8}, glance}, Case{"matmul", {4096, 32, 8}, least}}) {
    const KernelSpec spec = read_kernel_spec(kernels_folder() / c.kernel);
    const std::vector<TensorShape> shapes = tensors_of(spec, {ElementType::f32, c.shape});
    FastRandom random(7);
    std::vector<std::vector<std::byte>> data;
    std::vector<const std::byte*> inputs;
    for (size_t i = 0; i < spec.inputs(); ++i) {
      data.emplace_back(static_cast<size_t>(shapes[i].bytes()));
      draw(spec.arguments[i], shapes[i], Distribution::normal, random, data.back().data());
      inputs.push_back(data.back().data());
    }
    const auto reference = make_reference(spec, shapes, inputs);
    const TensorShape& out = shapes.back();
    std::vector<std::byte> memory(static_cast<size_t>(out.bytes()) + 2 * kMargin);
    poison(memory.data(), memory.size());
    for (int64_t r = 0; r < out.rows(); ++r) {
      reference->begin_row(r);
      const bool is_end = r == 0 || r + 1 == out.rows();
      for (int64_t i = 0; i < out.ne[0]; ++i) {
        const float y = is_end ? static_cast<float>(reference->at(i).value) : 0;
        std::memcpy(memory.data() + kMargin + r * out.nb[1] + 4 * i, &y, sizeof y);
      }
    }
    EXPECT_THROW(check_launch(spec, {shapes, inputs, memory.data() + kMargin, c.kernel}, c.effort, random), KernelFault)
        << c.kernel << " " << KernelProblem{ElementType::f32, c.shape}.label();
  }
}

TEST_F(CheckLaunchTest, ToleranceIsTheSpecifications) {
  float& y = *element(output(), 2, 3);
  const double allowed = spec_.tolerance.absolute + spec_.tolerance.relative * std::abs(y);
  const float right = y;
  y = static_cast<float>(right + 0.5 * allowed);
  EXPECT_EQ(found(), std::nullopt);
  y = static_cast<float>(right + 3 * allowed);
  EXPECT_EQ(found(), KernelFaultKind::wrong_result);
}

/// Weights have what models have: scales of either sign, zeros, denormal ones.
TEST(InputsTest, WeightsHoldWhatModelsDo) {
  for (const ElementType type : {ElementType::f16, ElementType::q8_0, ElementType::q4_0}) {
    TensorShape shape;
    shape.type = type;
    shape.ne[0] = 32 * 4096;
    shape.row = shape.nb[1] = shape.nb[2] = row_bytes(type, shape.ne[0]);
    std::vector<std::byte> data(static_cast<size_t>(shape.row));
    FastRandom random(3);
    KernelArgument weights;
    weights.is_constant = true;
    draw(weights, shape, Distribution::normal, random, data.data());
    const int64_t each = row_bytes(type, block_length(type)), n = shape.row / each;
    int64_t zeros = 0, denormal = 0, negative = 0;
    for (int64_t i = 0; i < n; ++i) {
      uint16_t bits;
      std::memcpy(&bits, data.data() + i * each, sizeof bits);
      const double value = half_to_double(bits);
      EXPECT_LT(std::abs(value), 16);  // of rows with large exponents
      zeros += value == 0;
      denormal += value != 0 && std::abs(value) < 0x1p-14;
      negative += value < 0;
    }
    const double share = 1.0 / 64 * static_cast<double>(n);
    EXPECT_NEAR(static_cast<double>(zeros), share, share / 3) << to_string(type);
    EXPECT_GT(static_cast<double>(denormal), share / 4) << to_string(type);
    EXPECT_NEAR(static_cast<double>(negative), static_cast<double>(n) / 2, static_cast<double>(n) / 10);
  }
}

TEST(InputsTest, PositionsAreOfOneContextOrOfMany) {
  TensorShape shape;
  shape.type = ElementType::i32;
  shape.ne[0] = 50;
  shape.row = shape.nb[1] = shape.nb[2] = 200;
  for (const Distribution d : {Distribution::normal, Distribution::outliers, Distribution::tiny}) {
    std::vector<int32_t> positions(50);
    FastRandom random(3);
    draw({}, shape, d, random, reinterpret_cast<std::byte*>(positions.data()));
    int steps = 0;
    for (size_t i = 1; i < 50; ++i) steps += positions[i] == positions[i - 1] + 1;
    EXPECT_EQ(steps == 49, d != Distribution::outliers);
    EXPECT_TRUE(std::all_of(positions.begin(), positions.end(), [](int32_t p) { return p >= 0 && p < 131072; }));
  }
}

TEST(InputsTest, DistributionsHoldWhatTheySay) {
  KernelArgument argument;
  argument.is_masked = true;
  argument.outlier = 5e3;
  TensorShape shape;
  shape.ne[0] = 1000;
  shape.ne[1] = 20;
  shape.row = 4000;
  shape.nb[1] = 4020;
  shape.nb[2] = 20 * 4020;
  const auto count = [&](Distribution d, const std::function<bool(float)>& what) {
    std::vector<std::byte> data(static_cast<size_t>(shape.bytes()));
    FastRandom random(11);
    draw(argument, shape, d, random, data.data());
    int n = 0;
    for (int r = 0; r < 20; ++r)
      for (int i = 0; i < 1000; ++i) n += what(*reinterpret_cast<const float*>(data.data() + r * 4020 + i * 4));
    for (int r = 0; r + 1 < 20; ++r)  // between rows: nothing that could be used by mistake
      EXPECT_TRUE(std::isnan(*reinterpret_cast<const float*>(data.data() + r * 4020 + 4000)));
    return n;
  };
  EXPECT_EQ(count(Distribution::normal, [](float x) { return std::abs(x) < 4; }), 20000);
  EXPECT_NEAR(count(Distribution::normal, [](float x) { return std::abs(x) < 0.6745; }), 10000, 400);
  EXPECT_GT(count(Distribution::outliers, [](float x) { return std::abs(x) > 1e3 && std::isfinite(x); }), 50);
  EXPECT_NEAR(count(Distribution::outliers, [](float x) { return x == -HUGE_VALF; }), 2000, 300);
  EXPECT_GT(count(Distribution::tiny, [](float x) { return std::fpclassify(x) == FP_SUBNORMAL; }), 1000);
  EXPECT_GT(count(Distribution::tiny, [](float x) { return x == 0; }), 1000);
}

}  // namespace
}  // namespace haqa
