#pragma once
#include <map>
#include <string>
#include <vector>

#include "haqa/train/torch.h"

namespace haqa {

struct SgdOptions {
  double momentum = 0.9;
  bool nesterov = false;
  double weight_decay = 5e-4;  ///< added to the gradient
};

/// Stochastic gradient descent with momentum, by libtorch's fused step; used as AdamW is.
class Sgd {
 public:
  using Parameters = std::map<std::string, torch::Tensor>;
  Sgd(const Parameters& parameters, const SgdOptions& options);

  /// One step along the gradients, which are cleared.
  void step(double learning_rate);

  /// What a checkpoint keeps, by name; load() takes it back. Throws Error where the names or sizes are others.
  std::map<std::string, torch::Tensor> state() const { return velocities_; }
  void load(const std::map<std::string, torch::Tensor>& state);

 private:
  const SgdOptions options_;
  Parameters parameters_, velocities_;
};

}  // namespace haqa
