#include "haqa/train/adamw.h"

#include "haqa/base/error.h"
#include "haqa/quantization/adamw_8bit.h"
#include "haqa/quantization/dynamic_map.h"
#include "haqa/train/loop.h"

namespace haqa {

using torch::Tensor;

namespace {

template <typename T>
std::span<T> span_of(const Tensor& tensor) {
  return {tensor.data_ptr<T>(), static_cast<size_t>(tensor.numel())};
}

/// The tensors of floats on a device: themselves where they are there, else by one copy of all, as each copy would wait
/// for the device where they come from.
std::vector<Tensor> brought_to(at::Device device, const std::vector<Tensor>& tensors) {
  if (tensors.empty() || tensors.front().device() == device) return tensors;
  std::vector<Tensor> flat;
  for (const Tensor& tensor : tensors) flat.push_back(tensor.flatten());
  const Tensor all = at::cat(flat).to(device);
  std::vector<Tensor> brought;
  int64_t first = 0;
  for (const Tensor& tensor : tensors) {
    brought.push_back(all.narrow(0, first, tensor.numel()).view(tensor.sizes()));
    first += tensor.numel();
  }
  return brought;
}

}  // namespace

OptimizerStates optimizer_states_from(std::string_view name) {
  if (name == "fp32") return OptimizerStates::fp32;
  if (name == "int8") return OptimizerStates::int8;
  if (name == "offloaded") return OptimizerStates::offloaded;
  throw UsageError("'{}' is no way to keep AdamW's states; fp32, int8 and offloaded are", name);
}

AdamW::AdamW(const Parameters& parameters, const AdamWOptions& options) : options_(options) {
  for (const auto& [name, parameter] : parameters) {
    const at::Device device = options.states == OptimizerStates::fp32 ? parameter.device() : at::Device(at::kCPU);
    const auto zeros = [&](at::IntArrayRef sizes, at::ScalarType type) {
      return at::zeros(sizes, at::TensorOptions(type).device(device));
    };
    if (options.states == OptimizerStates::int8) {
      const int64_t n = parameter.numel(), blocks = (n + kBlock8Bit - 1) / kBlock8Bit;
      slots_.push_back({name, parameter, zeros({n}, at::kByte), zeros({n}, at::kByte), zeros({blocks}, at::kFloat),
                        zeros({blocks}, at::kFloat)});
    } else {
      slots_.push_back({name, parameter, zeros(parameter.sizes(), at::kFloat), zeros(parameter.sizes(), at::kFloat)});
    }
  }
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  ++steps_;
  std::vector<Slot*> learning;
  for (Slot& slot : slots_)
    if (slot.parameter.grad().defined()) learning.push_back(&slot);
  if (learning.empty()) return;
  // Where the states are elsewhere, the step is made there.
  std::vector<Tensor> tensors;
  for (const Slot* slot : learning) tensors.push_back(slot->parameter);
  for (const Slot* slot : learning) tensors.push_back(slot->parameter.grad());
  tensors = brought_to(learning.front()->first.device(), tensors);
  const auto half = tensors.begin() + static_cast<std::ptrdiff_t>(learning.size());
  const std::vector<Tensor> weights(tensors.begin(), half), gradients(half, tensors.end());
  options_.states == OptimizerStates::int8 ? step_8bit(learning, weights, gradients, learning_rate)
                                           : step_fused(learning, weights, gradients, learning_rate);
  for (size_t i = 0; i < learning.size(); ++i) {
    Tensor& parameter = learning[i]->parameter;
    if (!weights[i].is_same(parameter)) parameter.copy_(weights[i], /*non_blocking=*/true);
    parameter.mutable_grad() = Tensor();
  }
}

void AdamW::step_fused(const std::vector<Slot*>& slots, const std::vector<Tensor>& weights,
                       const std::vector<Tensor>& gradients, double learning_rate) {
  std::vector<Tensor> first, second, steps;
  for (const Slot* slot : slots) {
    first.push_back(slot->first);
    second.push_back(slot->second);
    steps.push_back(at::full({}, static_cast<double>(steps_), slot->first.options()));
  }
  at::_fused_adamw_(weights, gradients, first, second, {}, steps, learning_rate, options_.beta1, options_.beta2,
                    options_.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
}

void AdamW::step_8bit(const std::vector<Slot*>& slots, const std::vector<Tensor>& weights,
                      const std::vector<Tensor>& gradients, double learning_rate) {
  const AdamW8Bit hyperparameters{.learning_rate = learning_rate,
                                  .beta1 = options_.beta1,
                                  .beta2 = options_.beta2,
                                  .epsilon = options_.epsilon,
                                  .weight_decay = options_.weight_decay};
  for (size_t i = 0; i < slots.size(); ++i) {
    const Slot& slot = *slots[i];
    const Tensor gradient = gradients[i].contiguous();
    adamw_8bit_step(span_of<float>(weights[i]), span_of<float>(gradient),
                    {span_of<uint8_t>(slot.first), span_of<float>(slot.first_absmax), span_of<uint8_t>(slot.second),
                     span_of<float>(slot.second_absmax)},
                    hyperparameters, steps_, on_libtorchs_threads);
  }
}

std::map<std::string, Tensor> AdamW::state() const {
  std::map<std::string, Tensor> state{{"steps", torch::tensor(steps_)}};
  for (const Slot& slot : slots_) {
    state[slot.name + ".first"] = slot.first;
    state[slot.name + ".second"] = slot.second;
    if (!slot.first_absmax.defined()) continue;
    state[slot.name + ".first_absmax"] = slot.first_absmax;
    state[slot.name + ".second_absmax"] = slot.second_absmax;
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
    if (!slot.first_absmax.defined()) continue;
    take(slot.name + ".first_absmax", slot.first_absmax);
    take(slot.name + ".second_absmax", slot.second_absmax);
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
