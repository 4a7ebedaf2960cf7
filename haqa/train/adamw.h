#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/train/torch.h"

namespace haqa {

/// Where the two running means of each parameter are kept.
/// fp32: beside the parameter. int8: as 8-bit codes in blocks of 256, in main memory. offloaded: fp32 in main memory,
/// while the parameters are on a GPU. Where they are in main memory, the step is made there.
enum class OptimizerStates { fp32, int8, offloaded };
/// "fp32", "int8" or "offloaded". Throws UsageError that lists them.
OptimizerStates optimizer_states_from(std::string_view name);

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0.01;  ///< of every parameter, decoupled from the gradient
  OptimizerStates states = OptimizerStates::fp32;
};

/// AdamW, by libtorch's own fused step where the states are fp32. Source: Loshchilov and Hutter 2019; of the 8-bit
/// states: Dettmers et al. 2022 (quantization/adamw_8bit.h).
class AdamW {
 public:
  using Parameters = std::map<std::string, torch::Tensor>;
  AdamW(const Parameters& parameters, const AdamWOptions& options);

  /// One step along the gradients, which are cleared.
  void step(double learning_rate);

  /// What a checkpoint keeps, by name; load() takes it back. Throws Error where the names or sizes are others.
  std::map<std::string, torch::Tensor> state() const;
  void load(const std::map<std::string, torch::Tensor>& state);

 private:
  struct Slot {
    std::string name;
    torch::Tensor parameter;
    torch::Tensor first, second;                ///< running means of the gradient and of its square, or their codes
    torch::Tensor first_absmax, second_absmax;  ///< of each block of codes
  };

  void step_fused(const std::vector<Slot*>& slots, const std::vector<torch::Tensor>& weights,
                  const std::vector<torch::Tensor>& gradients, double learning_rate);
  void step_8bit(const std::vector<Slot*>& slots, const std::vector<torch::Tensor>& weights,
                 const std::vector<torch::Tensor>& gradients, double learning_rate);

  AdamWOptions options_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

/// Scales all gradients so that their common norm is at most `largest`; returns the norm before, on their device.
/// Source: torch.nn.utils.clip_grad_norm_.
torch::Tensor clip_gradients(const AdamW::Parameters& parameters, double largest);

}  // namespace haqa
