#include "haqa/vision/sgd.h"

#include "haqa/base/error.h"

namespace haqa {

using torch::Tensor;

Sgd::Sgd(const Parameters& parameters, const SgdOptions& options) : options_(options), parameters_(parameters) {
  for (const auto& [name, parameter] : parameters) velocities_[name] = at::zeros_like(parameter.detach());
}

void Sgd::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> weights, gradients, velocities;
  for (auto& [name, parameter] : parameters_)
    if (parameter.grad().defined()) {
      weights.push_back(parameter);
      gradients.push_back(parameter.grad());
      velocities.push_back(velocities_.at(name));
    }
  if (weights.empty()) return;
  at::_fused_sgd_(weights, gradients, velocities, options_.weight_decay, options_.momentum, learning_rate,
                  /*dampening=*/0, options_.nesterov, /*maximize=*/false, /*is_first_step=*/false);
  for (const Tensor& weight : weights) weight.mutable_grad() = Tensor();
}

void Sgd::load(const std::map<std::string, Tensor>& state) {
  for (auto& [name, velocity] : velocities_) {
    const auto found = state.find(name);
    if (found == state.end() || found->second.sizes() != velocity.sizes())
      throw Error("the checkpoint's optimizer state lacks '{}' in this size; it belongs to another training", name);
    velocity.copy_(found->second);
  }
}

}  // namespace haqa
