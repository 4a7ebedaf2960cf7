#include "haqa/vision/quantizer.h"

#include <cmath>
#include <functional>

#include "haqa/base/error.h"
#include "haqa/vision/vision_test_support.h"

namespace haqa {
namespace {

using torch::Tensor;

Tensor floats(const std::vector<float>& values) {
  return torch::tensor(values);
}

// By hand: with w = atanh(t), t is exactly what is written here.
TEST(QuantizedWeight, IsWhatTheHandWorksOut) {
  struct Case {
    std::vector<double> t;
    int bits;
    WeightScaling scaling;
    std::vector<float> expected;
  };
  const std::vector<Case> cases = {
      // t / (2 * 0.8) + 1/2 = 1, 0.625, 0, 0.375; times 3: 3, 1.875, 0, 1.125; rounded: 3, 2, 0, 1
      {{0.8, 0.2, -0.8, -0.2}, 2, WeightScaling::original, {1, 1.0f / 3, -1, -1.0f / 3}},
      {{0.8, 0.2, -0.8, -0.2}, 2, WeightScaling::pretrained, {0.8f, 0.8f / 3, -0.8f, -0.8f / 3}},
      // t / (2 * 0.5) + 1/2 = 1, 0.6, 0.3; times 15: 15, 9, 4.5: to the even one, 4
      {{0.5, 0.1, -0.2}, 4, WeightScaling::original, {1, 3.0f / 15, -7.0f / 15}},
  };
  for (const Case& c : cases) {
    std::vector<float> w;
    for (const double t : c.t) w.push_back(static_cast<float>(std::atanh(t)));
    EXPECT_LT(difference(quantized_weight(floats(w), c.bits, c.scaling), floats(c.expected)), 1e-6) << c.bits;
  }
  // One bit: the mean of the sizes, 0 being positive.
  for (const WeightScaling scaling : {WeightScaling::original, WeightScaling::pretrained})
    EXPECT_LT(difference(quantized_weight(floats({1, -2, 0, 3}), 1, scaling), floats({1.5f, -1.5f, 1.5f, 1.5f})), 1e-6);
  EXPECT_LT(difference(quantized_weight(at::zeros(4), 2, WeightScaling::pretrained), at::zeros(4)), 1e-20)
      << "weights that are all 0 divide by nothing";
}

TEST(QuantizedActivation, IsWhatTheHandWorksOut) {
  const Tensor x = floats({-0.5f, 0, 0.1f, 0.2f, 0.5f, 0.9f, 1, 7}).requires_grad_(true);
  // times 3: 0.3, 0.6, 1.5 (to the even 2), 2.7
  const Tensor y = quantized_activation(x, 2);
  EXPECT_LT(difference(y, floats({0, 0, 0, 1, 2, 3, 3, 3}).div(3)), 1e-6);
  y.backward(floats({1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(difference(x.grad(), floats({0, 2, 3, 4, 5, 6, 7, 0})), 0);
  EXPECT_LT(difference(quantized_activation(x, 1), floats({0, 0, 0, 0, 0, 1, 1, 1})), 1e-6);
  EXPECT_TRUE(quantized_activation(x, kFullPrecision).is_same(x));
}

TEST(PactActivation, LearnsItsBound) {
  const Tensor x = floats({-1, 0, 1, 2, 3, 5}).requires_grad_(true), clip = at::full({}, 3.0f).requires_grad_(true);
  const Tensor y = pact_activation(x, clip, 2);
  EXPECT_LT(difference(y, floats({0, 0, 1, 2, 3, 3})), 1e-6);
  y.backward(floats({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(difference(x.grad(), floats({0, 2, 3, 4, 5, 0})), 0);
  EXPECT_EQ(clip.grad().item<float>(), 11);
}

TEST(Quantization, RefusesBitsThatCannotBe) {
  for (const int bits : {-1, 0, 33}) {
    EXPECT_THROW(check(Quantization{.weight_bits = bits}), UsageError);
    EXPECT_THROW(check(Quantization{.activation_bits = bits}), UsageError);
    EXPECT_THROW(quantized_weight(at::ones(3), bits, WeightScaling::original), UsageError);
    EXPECT_THROW(quantized_activation(at::ones(3), bits), UsageError);
  }
  EXPECT_NO_THROW(check(Quantization{.weight_bits = 1, .activation_bits = 32}));
  EXPECT_THROW(quantization_method_from("lsq"), UsageError);
  EXPECT_THROW(weight_scaling_from("none"), UsageError);
}

// Codes of up to 8 bits pass through bfloat16 unharmed; their gradients are those of the weights they stand for.
TEST(CodedWeight, StandsForTheQuantizedWeight) {
  at::manual_seed(1);
  for (const int bits : {1, 2, 4, 8, 24})
    for (const WeightScaling scaling : {WeightScaling::original, WeightScaling::pretrained})
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        if (bits > 8 && type == at::kBFloat16) continue;
        const Tensor w = at::randn({7, 5, 3, 3}).contiguous(at::MemoryFormat::ChannelsLast).requires_grad_(true);
        const Tensor g = at::randn({7, 5, 3, 3}).to(type).to(at::kFloat);
        const CodedWeight coded = coded_weight(w, bits, scaling, type);
        const Tensor value = quantized_weight(w, bits, scaling);
        EXPECT_LT(difference(coded.codes.to(at::kFloat) * coded.scale, value), 1e-6) << bits;
        EXPECT_EQ(coded.codes.strides(), w.strides());
        (value * g).sum().backward();
        const Tensor expected = w.grad().clone();
        w.mutable_grad() = Tensor();
        coded.codes.backward((g * coded.scale).to(type));
        EXPECT_LT(difference(w.grad(), expected), type == at::kFloat ? 1e-4 : 0.1) << bits;
      }
}

// The portable code, and that of each instruction set, give the same numbers.
TEST(Kernels, AgreeOnEveryInstructionSet) {
  at::manual_seed(1);
  const int64_t rows = 37, channels = 48;
  const auto made = [&] { return at::randn({rows, channels}); };
  const Tensor y = made(), shortcut = made(), first = made(), second = made();
  const Tensor factor = at::rand(channels), offset = at::randn(channels);
  const auto results = [&]<typename T>(Simd simd, const std::function<Tensor(const Tensor&)>& as) {
    const Tensor values = as(y), past = as(shortcut), a = as(first), b = as(second);
    const auto at_of = [](const Tensor& tensor) { return static_cast<T*>(tensor.data_ptr()); };
    const NormalizedRows<T> of{
        rows,        channels, at_of(values),       factor.data_ptr<float>(), offset.data_ptr<float>(),
        at_of(past), 0.5f,     quantized_rule(3, 1)};
    const ReadersGradients<T> readers{at_of(a), at_of(b)};
    Tensor sums = at::zeros({2, channels}), out = as(y).clone(), gradients = at::zeros({3, channels});
    Tensor to_shortcut = as(y).clone(), dy = as(y).clone();
    channel_sums(simd, rows, channels, at_of(values), offset.data_ptr<float>(), sums.data_ptr<float>());
    activate(simd, of, at_of(out));
    gradient_sums(simd, of, readers, offset.data_ptr<float>(), at_of(to_shortcut), gradients.data_ptr<float>());
    gradient_of_values(simd, of, readers,
                       {factor.data_ptr<float>(), offset.data_ptr<float>(), factor.data_ptr<float>()}, at_of(dy));
    return std::vector<Tensor>{sums, out, gradients, to_shortcut, dy};
  };
  const auto whole = [](const Tensor& x) { return x; };
  const auto half = [](const Tensor& x) { return x.to(at::kBFloat16); };
  const auto expected = results.operator()<float>(Simd::portable, whole);
  const auto expected_half = results.operator()<uint16_t>(Simd::portable, half);
  for (const Simd simd : available_simd()) {
    const auto got = results.operator()<float>(simd, whole);
    const auto got_half = results.operator()<uint16_t>(simd, half);
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(difference(got[i], expected[i]), 0) << static_cast<int>(simd) << " " << i;
      EXPECT_EQ(difference(got_half[i], expected_half[i]), 0) << static_cast<int>(simd) << " " << i;
    }
  }
}

}  // namespace
}  // namespace haqa
