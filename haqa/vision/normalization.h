#pragma once
#include <optional>

#include "haqa/vision/quantizer.h"

namespace haqa {

/// Activations, which are codes * scale. Both tensors are the same memory: a shortcut reads `again`, so that the
/// gradients of both readers are added up where they are used, and not in a pass of their own.
struct Activations {
  torch::Tensor codes;
  torch::Tensor again;
  double scale = 1;
};

/// What follows a normalization.
struct ActivationLayer {
  enum class Kind { none, relu, quantized } kind = Kind::none;
  int bits = kFullPrecision;
  torch::Tensor clip;  ///< PACT's learned bound; undefined: 1
};

struct BatchNorm {
  torch::Tensor weight, bias, running_mean, running_var;
  double momentum = 0.1, epsilon = 1e-5;
};

/// activation(batch_norm(y * y_scale) + shortcut), in two passes over memory forward and two backward where y has its
/// channels last, a multiple of 16, in main memory; by libtorch's operations elsewhere, with codes that are the
/// activations themselves. training: normalized by the batch's own statistics, which go into the running ones.
/// Source: Ioffe and Szegedy 2015.
Activations normalized(const torch::Tensor& y, double y_scale, const BatchNorm& norm,
                       const std::optional<Activations>& shortcut, const ActivationLayer& activation, bool training);

}  // namespace haqa
