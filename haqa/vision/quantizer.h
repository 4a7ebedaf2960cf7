#pragma once
#include <string_view>

#include "haqa/train/torch.h"
#include "haqa/vision/kernels.h"

namespace haqa {

/// How activations are quantized: DoReFa cuts them at 1, PACT at a bound that is learned, a layer at a time.
/// Sources: Zhou et al. 2016 (DoReFa-Net); Choi et al. 2018 (PACT). Both quantize weights as DoReFa does.
enum class QuantizationMethod { dorefa, pact };
/// "dorefa" or "pact". Throws UsageError that lists them.
QuantizationMethod quantization_method_from(std::string_view name);
std::string_view name_of(QuantizationMethod method);

/// How quantized weights are scaled. original: they reach from -1 to 1, and a gradient flows through the largest weight
/// too, as in the authors' code. pretrained: multiplied by the largest |tanh(w)|, a constant, so that they stay near
/// the weights of a model that was trained without quantization. Of one bit, both are sign(w) * mean |w|.
enum class WeightScaling { original, pretrained };
/// "original" or "pretrained". Throws UsageError that lists them.
WeightScaling weight_scaling_from(std::string_view name);
std::string_view name_of(WeightScaling scaling);

/// The number of bits that means full precision.
inline constexpr int kFullPrecision = 32;

struct Quantization {
  int weight_bits = kFullPrecision, activation_bits = kFullPrecision;
  QuantizationMethod method = QuantizationMethod::dorefa;
  WeightScaling scaling = WeightScaling::pretrained;
  bool first_layer = false;  ///< its weights are quantized too; images never are
  bool last_layer = false;   ///< its weights and what it reads are quantized too
  bool operator==(const Quantization&) const = default;
};
/// Throws UsageError where a number of bits is not from 1 to 32.
void check(const Quantization& quantization);

/// Weights w of k bits, with straight-through gradients: w itself for 32 bits, which is full precision.
/// k >= 2: 2 * round(levels * (tanh(w) / (2 * max |tanh(w)|) + 1/2)) / levels - 1, scaled; levels = 2^k - 1.
torch::Tensor quantized_weight(const torch::Tensor& weight, int bits, WeightScaling scaling);

/// round(levels * clamp(x, 0, 1)) / levels; x itself for 32 bits. The gradient flows where 0 <= x <= 1.
torch::Tensor quantized_activation(const torch::Tensor& x, int bits);

/// The same between 0 and `clip`, a tensor of one number above 0, whose gradient is what x from there on gets.
/// min(max(x, 0), clip) for 32 bits.
torch::Tensor pact_activation(const torch::Tensor& x, const torch::Tensor& clip, int bits);

/// Quantized weights as whole numbers, which a product in bfloat16 does not round where they have up to 8 bits, and
/// what each stands for: weight = codes * scale. Otherwise (full precision, or not floats in main memory) scale is 1.
struct CodedWeight {
  torch::Tensor codes;  ///< of the type `compute`
  double scale = 1;
};
CodedWeight coded_weight(const torch::Tensor& weight, int bits, WeightScaling scaling, at::ScalarType compute);

/// The rule of an activation for the kernels.
ActivationRule relu_rule();
ActivationRule identity_rule();
ActivationRule quantized_rule(int bits, double clip);
/// Whether they round by vectors what has so many bits: floats have whole numbers up to 2^23.
inline bool kernels_round(int bits) {
  return bits <= 23 || bits == kFullPrecision;
}

}  // namespace haqa
