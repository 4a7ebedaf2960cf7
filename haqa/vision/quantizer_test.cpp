#include "haqa/vision/quantizer.h"

#include <cmath>

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

/// What the kernels make of the same numbers, by one instruction set.
class KernelResults {
 public:
  template <typename T>
  std::vector<Tensor> of(Simd simd, bool has_shortcut, bool second_reader, bool codes) const {
    const Tensor values = as<T>(y_), past = as<T>(shortcut_), first = as<T>(first_), second = as<T>(second_);
    NormalizedRows<T> rows{.rows = kRows,
                           .channels = kChannels,
                           .values = at_of<T>(values),
                           .factor = at_of<float>(factor_),
                           .offset = at_of<float>(offset_),
                           .shortcut = has_shortcut ? at_of<T>(past) : nullptr,
                           .shortcut_scale = 0.5f,
                           .rule = quantized_rule(3, 1)};
    rows.rule.codes = codes;
    const ReadersGradients<T> readers{at_of<T>(first), second_reader ? at_of<T>(second) : nullptr};
    Tensor sums = at::zeros({2, kChannels}), out = at::zeros_like(values), gradients = at::zeros({3, kChannels});
    Tensor to_shortcut = at::zeros_like(values), dy = at::zeros_like(values);
    channel_sums(simd, kRows, kChannels, at_of<T>(values), at_of<float>(offset_), at_of<float>(sums));
    activate(simd, rows, at_of<T>(out));
    gradient_sums(simd, rows, readers, at_of<float>(offset_), has_shortcut ? at_of<T>(to_shortcut) : nullptr,
                  at_of<float>(gradients));
    gradient_of_values(simd, rows, readers, {at_of<float>(factor_), at_of<float>(offset_), at_of<float>(factor_)},
                       at_of<T>(dy));
    Tensor weights = at::zeros_like(values), dw = at::zeros_like(t_);
    const int64_t n = t_.numel() - 3;  // which no vector divides
    quantize_weights(simd, at_of<float>(t_), n, {.divisor = 2, .levels = 7, .outer = 0.9f, .codes = codes},
                     at_of<T>(weights));
    const double products = weight_gradient(simd, at_of<T>(first), at_of<float>(t_), n, 0.7f, at_of<float>(dw));
    return {sums, out, gradients, to_shortcut, dy, weights, dw, at::full({}, products, at::kDouble)};
  }

 private:
  static constexpr int64_t kRows = 37, kChannels = 48;

  template <typename T>
  static Tensor as(const Tensor& x) {
    return sizeof(T) == 2 ? x.to(at::kBFloat16) : x;
  }
  template <typename T>
  static T* at_of(const Tensor& x) {
    return static_cast<T*>(x.data_ptr());
  }
  static Tensor made() { return at::randn({kRows, kChannels}); }

  const Tensor y_ = made(), shortcut_ = made(), first_ = made(), second_ = made(), t_ = made().tanh();
  const Tensor factor_ = at::rand(kChannels), offset_ = at::randn(kChannels);
};

// The portable code, and that of each instruction set, give the same numbers.
TEST(Kernels, AgreeOnEveryInstructionSet) {
  at::manual_seed(1);
  const KernelResults results;
  const auto expect = [&]<typename T>(Simd simd, bool shortcut, bool second, bool codes) {
    const std::vector<Tensor> expected = results.of<T>(Simd::portable, shortcut, second, codes);
    const std::vector<Tensor> got = results.of<T>(simd, shortcut, second, codes);
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(difference(got[i], expected[i]), 0)
          << static_cast<int>(simd) << " " << sizeof(T) << " " << shortcut << second << codes << " " << i;
    }
  };
  for (const Simd simd : available_simd())
    for (const bool shortcut : {false, true})
      for (const bool second : {false, true})
        for (const bool codes : {false, true}) {
          expect.operator()<float>(simd, shortcut, second, codes);
          expect.operator()<uint16_t>(simd, shortcut, second, codes);
        }
}

}  // namespace
}  // namespace haqa
