#include "haqa/train/functions.h"

#include "haqa/train/matmul.h"

namespace haqa {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

struct RmsNorm : Function<RmsNorm> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, double epsilon) {
    const Tensor wide = x.to(at::kFloat);
    const Tensor scale = wide.square().mean(-1, true).add_(epsilon).rsqrt_();
    context->save_for_backward({x, weight, scale});
    return wide.mul(scale).mul_(weight).to(x.scalar_type());
  }

  // With s = rms(x)⁻¹ and h = g · weight: dx = s · (h - x · s² · mean(h · x)).
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor x = saved[0].to(at::kFloat), &weight = saved[1], &scale = saved[2];
    const Tensor g = gradients[0].to(at::kFloat);
    const Tensor h = g * weight;
    const Tensor mean = at::mul(h, x).mean(-1, true).mul_(scale).mul_(scale).neg_();
    Tensor dx = at::addcmul(h, x, mean).mul_(scale).to(saved[0].scalar_type());
    Tensor dweight;
    if (weight.requires_grad()) dweight = at::mul(x, scale).mul_(g).sum(0);
    return {dx, dweight, Tensor()};
  }
};

struct Swiglu : Function<Swiglu> {
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up) {
    context->save_for_backward({gate, up});
    return at::silu(gate).mul_(up);
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1], &g = gradients[0];
    return {at::silu_backward(g * up, gate), at::silu(gate).mul_(g)};
  }
};

struct Dropout : Function<Dropout> {
  static Tensor forward(AutogradContext* context, const Tensor& x, double p, int64_t seed) {
    at::Generator generator = at::globalContext().defaultGenerator(x.device());
    {
      const std::lock_guard lock(generator.mutex());
      generator.set_current_seed(static_cast<uint64_t>(seed));
    }
    Tensor mask = at::empty(x.sizes(), x.options().dtype(at::kBool)).bernoulli_(1 - p, generator);
    context->save_for_backward({mask});
    context->saved_data["scale"] = 1 / (1 - p);
    return at::mul(x, mask).mul_(1 / (1 - p));
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    return {at::mul(gradients[0], saved[0]).mul_(context->saved_data["scale"].toDouble()), Tensor(), Tensor()};
  }
};

/// What a frozen product keeps for the way back: the input of the adapter and its narrow inner result, never the base.
struct FrozenLinear : Function<FrozenLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const std::optional<Tensor>& dropped,
                        const std::optional<Tensor>& a, const std::optional<Tensor>& b, SharedInput* shared,
                        const FrozenMatrix* base, double scale) {
    Tensor y = base->times_transposed(x, *shared);
    context->saved_data["base"] = reinterpret_cast<int64_t>(base);
    context->saved_data["scale"] = scale;
    context->saved_data["dropped"] = dropped.has_value();
    if (a) {
      const Tensor& input = dropped ? *dropped : x;
      const Tensor narrow = at::linear(input, a->to(x.scalar_type()));
      y.addmm_(narrow, b->to(x.scalar_type()).t(), 1, scale);
      context->save_for_backward({input, narrow, *a, *b});
    }
    return y;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto& base = *reinterpret_cast<const FrozenMatrix*>(context->saved_data["base"].toInt());
    const Tensor& g = gradients[0];
    Tensor dx, ddropped, da, db;
    if (context->needs_input_grad(0)) dx = times(g, base.whole(g.scalar_type()));
    if (const auto saved = context->get_saved_variables(); !saved.empty()) {
      const double scale = context->saved_data["scale"].toDouble();
      const Tensor &input = saved[0], &narrow = saved[1];
      const Tensor a = saved[2].to(g.scalar_type()), b = saved[3].to(g.scalar_type());
      const Tensor dnarrow = at::mm(g, b).mul_(scale);
      da = at::mm(dnarrow.t(), input).to(saved[2].scalar_type());
      db = at::mm(g.t(), narrow).mul_(scale).to(saved[3].scalar_type());
      if (context->saved_data["dropped"].toBool())
        ddropped = at::mm(dnarrow, a);
      else if (dx.defined())
        dx.addmm_(dnarrow, a);
    }
    return {dx, ddropped, da, db, Tensor(), Tensor(), Tensor()};
  }
};

struct SummedCrossEntropy : Function<SummedCrossEntropy> {
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                        int64_t chunk, bool learns) {
    const bool hidden_learns = learns && hidden.requires_grad(), weight_learns = learns && weight.requires_grad();
    Tensor sum = at::zeros({}, hidden.options().dtype(at::kFloat));
    Tensor dhidden = hidden_learns ? at::empty_like(hidden) : Tensor();
    Tensor dweight = weight_learns ? at::zeros(weight.sizes(), sum.options()) : Tensor();
    for (int64_t first = 0; first < hidden.size(0); first += chunk) {
      const int64_t rows = std::min(chunk, hidden.size(0) - first);
      const Tensor part = hidden.narrow(0, first, rows), wanted = targets.narrow(0, first, rows).unsqueeze(1);
      Tensor log_p = at::log_softmax(times_transposed(part, weight).to(at::kFloat), -1);
      sum.sub_(log_p.gather(1, wanted).sum());
      if (!hidden_learns && !weight_learns) continue;
      Tensor dlogits = log_p.exp_();
      dlogits.scatter_add_(1, wanted, at::full({rows, 1}, -1, dlogits.options()));
      dlogits = dlogits.to(hidden.scalar_type());
      if (hidden_learns) dhidden.narrow(0, first, rows).copy_(times(dlogits, weight));
      if (weight_learns) dweight += at::mm(dlogits.t(), part);
    }
    context->save_for_backward({dhidden, weight_learns ? dweight.to(weight.scalar_type()) : Tensor()});
    return sum;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto times_outer = [&](const Tensor& inner) { return inner.defined() ? inner * gradients[0] : Tensor(); };
    return {times_outer(saved[0]), times_outer(saved[1]), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  return RmsNorm::apply(x, weight, epsilon);
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  return Swiglu::apply(gate, up);
}

Tensor rope(const Tensor& x, const Tensor& turns) {
  const Tensor pairs = at::view_as_complex(x.to(at::kFloat).unflatten(-1, {-1, 2}));
  return at::view_as_real(pairs * turns.unsqueeze(1)).flatten(-2).to(x.scalar_type());
}

Tensor seeded_dropout(const Tensor& x, double p, uint64_t seed) {
  return p > 0 ? Dropout::apply(x, p, static_cast<int64_t>(seed)) : x;
}

Tensor frozen_linear(const Tensor& x, const std::optional<Tensor>& dropped, SharedInput& shared,
                     const FrozenMatrix& base, const std::optional<LoraWeights>& lora) {
  if (!lora) return FrozenLinear::apply(x, std::nullopt, std::nullopt, std::nullopt, &shared, &base, 1.0);
  return FrozenLinear::apply(x, dropped, lora->a, lora->b, &shared, &base, lora->scale);
}

Tensor summed_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& targets, int64_t chunk) {
  return SummedCrossEntropy::apply(hidden, weight, targets, chunk, at::GradMode::is_enabled());
}

}  // namespace haqa
