#include "haqa/train/adamw.h"

#include "haqa/base/error.h"

namespace haqa {

using torch::Tensor;

OptimizerStates optimizer_states_from(std::string_view name) {
  if (name == "fp32") return OptimizerStates::fp32;
  if (name == "offloaded") return OptimizerStates::offloaded;
  throw UsageError("'{}' is no way to keep AdamW's states; fp32 and offloaded are", name);
}

AdamW::AdamW(const Parameters& parameters, const AdamWOptions& options) : options_(options) {
  for (const auto& [name, parameter] : parameters) {
    const at::Device device = options.states == OptimizerStates::fp32 ? parameter.device() : at::Device(at::kCPU);
    const Tensor zeros = at::zeros(parameter.sizes(), at::TensorOptions(at::kFloat).device(device));
    slots_.push_back({name, parameter, zeros, zeros.clone()});
  }
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  ++steps_;
  std::vector<Tensor> parameters, gradients, first, second, steps;
  for (Slot& slot : slots_) {
    if (!slot.parameter.grad().defined()) continue;
    // Where the states are elsewhere, the step is made there; on the same device these are no copies.
    parameters.push_back(slot.parameter.to(slot.first.device()));
    gradients.push_back(slot.parameter.grad().to(slot.first.device()));
    first.push_back(slot.first);
    second.push_back(slot.second);
    steps.push_back(at::full({}, static_cast<double>(steps_), slot.first.options()));
  }
  if (parameters.empty()) return;
  at::_fused_adamw_(parameters, gradients, first, second, {}, steps, learning_rate, options_.beta1, options_.beta2,
                    options_.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  size_t i = 0;
  for (Slot& slot : slots_) {
    if (!slot.parameter.grad().defined()) continue;
    if (const Tensor& stepped = parameters[i++]; !stepped.is_same(slot.parameter)) slot.parameter.copy_(stepped);
    slot.parameter.mutable_grad() = Tensor();
  }
}

std::map<std::string, Tensor> AdamW::state() const {
  std::map<std::string, Tensor> state{{"steps", torch::tensor(steps_)}};
  for (const Slot& slot : slots_) {
    state[slot.name + ".first"] = slot.first;
    state[slot.name + ".second"] = slot.second;
  }
  return state;
}

void AdamW::load(const std::map<std::string, Tensor>& state) {
  const at::NoGradGuard no_grad;
  const auto take = [&](const std::string& name, Tensor& to) {
    const auto found = state.find(name);
    if (found == state.end() || found->second.sizes() != to.sizes())
      throw Error("the checkpoint's optimizer state lacks '{}' in this size; it belongs to another training", name);
    to.copy_(found->second);
  };
  Tensor steps = torch::tensor(steps_);
  take("steps", steps);
  steps_ = steps.item<int64_t>();
  for (Slot& slot : slots_) {
    take(slot.name + ".first", slot.first);
    take(slot.name + ".second", slot.second);
  }
}

Tensor clip_gradients(const AdamW::Parameters& parameters, double largest) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> gradients;
  for (const auto& [name, parameter] : parameters)
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  if (gradients.empty()) return at::zeros({});
  const Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients)));
  at::_foreach_mul_(gradients, at::clamp_max(largest / (norm + 1e-6), 1.0));
  return norm;
}

}  // namespace haqa
