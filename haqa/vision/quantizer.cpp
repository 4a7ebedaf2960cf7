#include "haqa/vision/quantizer.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "haqa/base/error.h"
#include "haqa/vision/tensor_memory.h"

namespace haqa {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

constexpr int64_t kGrain = 16384;  ///< numbers that are worth a thread

double levels_of(int bits) {
  return std::exp2(bits) - 1;
}

void check_bits(int bits, std::string_view what) {
  if (bits < 1 || bits > kFullPrecision)
    throw UsageError("{} of {} bits cannot be had: from 1 to 31, or 32 for full precision", what, bits);
}

// ---- weights ----

/// sign(w), 0 being positive.
Tensor signs(const Tensor& weight) {
  return at::where(weight >= 0, 1.0, -1.0).to(weight.scalar_type());
}

/// The gradient that comes through the largest |tanh(w)|, added where that is: shared by those that are as large.
void add_gradient_of_largest(Tensor& dt, const Tensor& t, double largest, double gradient) {
  const Tensor at_largest = t.abs() == largest;
  dt.add_(t.sign().mul_(at_largest), gradient / static_cast<double>(at_largest.sum().item<int64_t>()));
}

/// Returns the sum of gradient * t, by parts that are the same whatever the number of threads.
template <typename T>
double gradient_of_weight(const Tensor& g, const Tensor& t, float factor, const Tensor& dw) {
  const int64_t n = t.numel(), parts = (n + kGrain - 1) / kGrain;
  std::vector<double> products(static_cast<size_t>(parts));
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part * kGrain;
      products[static_cast<size_t>(part)] =
          weight_gradient(simd(), memory<T>(g) + first, t.data_ptr<float>() + first, std::min(kGrain, n - first),
                          factor, dw.data_ptr<float>() + first);
    }
  });
  return std::accumulate(products.begin(), products.end(), 0.0);
}

/// Weights of two bits and more.
struct QuantizeWeight : Function<QuantizeWeight> {
  static Tensor forward(AutogradContext* context, const Tensor& weight, int64_t bits, bool pretrained, bool codes,
                        at::ScalarType type, double* scale) {
    const Tensor t = at::tanh(weight);
    const double largest = std::max(t.abs().max().item<double>(), 1e-30);  // of weights that are all 0, all are 1/2
    const double levels = levels_of(static_cast<int>(bits)), outer = pretrained ? largest : 1;
    *scale = codes ? outer / levels : 1;
    context->save_for_backward({t});
    context->saved_data["largest"] = largest;
    context->saved_data["pretrained"] = pretrained;
    // d weight / d t without the rounding, in units of what comes out.
    context->saved_data["factor"] = outer / largest / *scale;
    if (!runs_in_kernels(t, type) || !kernels_round(static_cast<int>(bits)))
      return by_operations(t, largest, levels, outer, codes).to(type);
    Tensor out = at::empty_like(t, t.options().dtype(type));
    const WeightRule rule{.divisor = static_cast<float>(2 * largest),
                          .levels = static_cast<float>(levels),
                          .outer = static_cast<float>(outer),
                          .codes = codes};
    by_type(type, [&]<typename T>() {
      at::parallel_for(0, t.numel(), kGrain, [&](int64_t begin, int64_t end) {
        quantize_weights(simd(), t.data_ptr<float>() + begin, end - begin, rule, memory<T>(out) + begin);
      });
    });
    return out;
  }

  static Tensor by_operations(const Tensor& t, double largest, double levels, double outer, bool codes) {
    const Tensor steps = t.div(2 * largest).add_(0.5).mul_(levels).round_();
    return codes ? steps.mul(2).sub_(levels) : steps.div(levels).mul_(2).sub_(1).mul_(outer);
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const Tensor t = context->get_saved_variables()[0], g = as_dense_as(t, gradients[0]);
    const double factor = context->saved_data["factor"].toDouble(), largest = context->saved_data["largest"].toDouble();
    Tensor dw;
    double products = 0;
    if (runs_in_kernels(t, g.scalar_type())) {
      dw = at::empty_like(t);
      by_type(g.scalar_type(),
              [&]<typename T>() { products = gradient_of_weight<T>(g, t, static_cast<float>(factor), dw); });
    } else {
      dw = g.to(t.scalar_type()).mul(factor).mul_(1 - t.square());
      products = at::sum(g.to(at::kDouble) * t.to(at::kDouble)).item<double>();
    }
    if (!context->saved_data["pretrained"].toBool()) {
      Tensor dt = at::zeros_like(t);
      add_gradient_of_largest(dt, t, largest, -products * factor / largest);
      dw.add_(dt.mul_(1 - t.square()));
    }
    return {dw, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

/// Weights of one bit: the gradient passes as it is.
struct Binarize : Function<Binarize> {
  static Tensor forward(AutogradContext* context, const Tensor& weight, bool codes, at::ScalarType type,
                        double* scale) {
    const double mean = std::max(weight.abs().mean().item<double>(), 1e-30);
    *scale = codes ? mean : 1;
    context->saved_data["scale"] = *scale;
    context->saved_data["type"] = weight.scalar_type();
    return signs(weight).mul_(codes ? 1 : mean).to(type);
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    return {gradients[0].to(context->saved_data["type"].toScalarType()).div(context->saved_data["scale"].toDouble()),
            Tensor(), Tensor(), Tensor()};
  }
};

CodedWeight quantize(const Tensor& weight, int bits, WeightScaling scaling, bool codes, at::ScalarType type) {
  check_bits(bits, "weights");
  if (bits == kFullPrecision) return {weight.to(type)};
  CodedWeight coded;
  coded.codes = bits == 1 ? Binarize::apply(weight, codes, type, &coded.scale)
                          : QuantizeWeight::apply(weight, int64_t{bits}, scaling == WeightScaling::pretrained, codes,
                                                  type, &coded.scale);
  return coded;
}

// ---- activations ----

/// The factor and the offset of no normalization.
const std::vector<float>& ones() {
  static const std::vector<float> all(kLanes, 1);
  return all;
}
const std::vector<float>& zeros() {
  static const std::vector<float> all(kLanes, 0);
  return all;
}

/// Any tensor as rows of kLanes numbers, without normalization; what is left at the end is a row of its own.
template <typename T, typename Work>
void in_flat_rows(const Tensor& x, const ActivationRule& rule, const Work& work) {
  const int64_t rows = x.numel() / kLanes;
  at::parallel_for(0, rows, kGrain / kLanes, [&](int64_t begin, int64_t end) {
    work(NormalizedRows<T>{.rows = end - begin,
                           .channels = kLanes,
                           .values = memory<T>(x) + begin * kLanes,
                           .factor = ones().data(),
                           .offset = zeros().data(),
                           .rule = rule},
         begin * kLanes);
  });
}

Tensor cut_and_rounded(const Tensor& x, const ActivationRule& rule, double steps) {
  const Tensor cut = x.clamp(rule.floor, rule.cap);
  return steps > 0 ? cut.mul(steps).round_().div_(steps) : cut;
}

struct QuantizeActivation : Function<QuantizeActivation> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const std::optional<Tensor>& clip, int64_t bits) {
    const double cap = clip ? clip->item<double>() : 1;
    ActivationRule rule = quantized_rule(static_cast<int>(bits), cap);
    rule.codes = false;
    context->save_for_backward({x, clip.value_or(Tensor())});
    context->saved_data["cap"] = cap;
    const double steps = bits == kFullPrecision ? 0 : levels_of(static_cast<int>(bits)) / cap;
    if (!runs_in_kernels(x, x.scalar_type()) || x.numel() % kLanes || !kernels_round(static_cast<int>(bits)))
      return cut_and_rounded(x, rule, steps);
    Tensor out = at::empty_like(x);
    by_type(x.scalar_type(), [&]<typename T>() {
      in_flat_rows<T>(x, rule, [&](const NormalizedRows<T>& rows, int64_t first) {
        activate(simd(), rows, memory<T>(out) + first);
      });
    });
    return out;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &clip = saved[1], g = as_dense_as(x, gradients[0]);
    const double cap = context->saved_data["cap"].toDouble();
    Tensor dclip;
    if (clip.defined()) dclip = g.mul(x >= cap).sum().to(clip.scalar_type()).view_as(clip);
    if (!runs_in_kernels(x, x.scalar_type()) || x.numel() % kLanes || g.scalar_type() != x.scalar_type())
      return {g.mul((x >= 0).logical_and_(x <= cap)), dclip, Tensor()};
    Tensor dx = at::empty_like(x);
    ActivationRule rule = quantized_rule(kFullPrecision, cap);
    by_type(x.scalar_type(), [&]<typename T>() {
      in_flat_rows<T>(x, rule, [&](const NormalizedRows<T>& rows, int64_t first) {
        gradient_of_values(simd(), rows, ReadersGradients<T>{memory<T>(g) + first},
                           {ones().data(), zeros().data(), zeros().data()}, memory<T>(dx) + first);
      });
    });
    return {dx, dclip, Tensor()};
  }
};

}  // namespace

QuantizationMethod quantization_method_from(std::string_view name) {
  if (name == "dorefa") return QuantizationMethod::dorefa;
  if (name == "pact") return QuantizationMethod::pact;
  throw UsageError("'{}' is no method of quantization-aware training; dorefa and pact are", name);
}

std::string_view name_of(QuantizationMethod method) {
  return method == QuantizationMethod::dorefa ? "dorefa" : "pact";
}

WeightScaling weight_scaling_from(std::string_view name) {
  if (name == "original") return WeightScaling::original;
  if (name == "pretrained") return WeightScaling::pretrained;
  throw UsageError("'{}' is no scaling of quantized weights; original and pretrained are", name);
}

std::string_view name_of(WeightScaling scaling) {
  return scaling == WeightScaling::original ? "original" : "pretrained";
}

void check(const Quantization& quantization) {
  check_bits(quantization.weight_bits, "weights");
  check_bits(quantization.activation_bits, "activations");
}

Tensor quantized_weight(const Tensor& weight, int bits, WeightScaling scaling) {
  return quantize(weight, bits, scaling, false, weight.scalar_type()).codes;
}

CodedWeight coded_weight(const Tensor& weight, int bits, WeightScaling scaling, at::ScalarType compute) {
  return quantize(weight, bits, scaling, weight.is_cpu(), compute);
}

Tensor quantized_activation(const Tensor& x, int bits) {
  check_bits(bits, "activations");
  return bits == kFullPrecision ? x : QuantizeActivation::apply(x, std::nullopt, int64_t{bits});
}

Tensor pact_activation(const Tensor& x, const Tensor& clip, int bits) {
  check_bits(bits, "activations");
  return QuantizeActivation::apply(x, clip, int64_t{bits});
}

ActivationRule relu_rule() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // Its gradient at 0 is 0.
  return {.floor = 0, .cap = kInfinity, .from = std::numeric_limits<float>::min(), .to = kInfinity};
}

ActivationRule identity_rule() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return {.floor = -kInfinity, .cap = kInfinity, .from = -kInfinity, .to = kInfinity};
}

ActivationRule quantized_rule(int bits, double clip) {
  const auto cap = static_cast<float>(clip);
  ActivationRule rule{.floor = 0, .cap = cap, .from = 0, .to = cap};
  if (bits != kFullPrecision) rule.steps = static_cast<float>(levels_of(bits) / clip);
  return rule;
}

}  // namespace haqa
