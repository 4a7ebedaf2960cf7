#pragma once
#include <optional>

#include "haqa/train/frozen_matrix.h"
#include "haqa/train/torch.h"

namespace haqa {

/// The operations of a LLaMA that libtorch has not, or has in many passes over memory, each with its own backward pass.
/// n: tokens of the batch, laid one after another.

/// x [n, width] / rms(x) * weight [width]. Source: Zhang and Sennrich 2019.
/// Computed in fp32 whatever x is; the weight is trained where it requires a gradient.
torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double epsilon);

/// silu(gate) * up, both [n, width]. Source: Shazeer 2020. Keeps its two inputs and nothing else.
torch::Tensor swiglu(const torch::Tensor& gate, const torch::Tensor& up);

/// x [n, heads, width] with each pair of neighbours turned by its angle; turns: complex [n, width / 2].
/// Source: Su et al. 2021, in llama.cpp's order of pairs (LLAMA_ROPE_TYPE_NORM).
torch::Tensor rope(const torch::Tensor& x, const torch::Tensor& turns);

/// x with a share p of its numbers zeroed and the others divided by 1 - p. The same mask for the same seed.
torch::Tensor seeded_dropout(const torch::Tensor& x, double p, uint64_t seed);

/// The adapter of a linear layer: weight + scale * b · a. Source: Hu et al. 2021.
struct LoraWeights {
  torch::Tensor a;  ///< [rank, columns]
  torch::Tensor b;  ///< [rows, rank]
  double scale = 1;
};

/// x [n, columns] · baseᵀ + scale · (dropped · aᵀ) · bᵀ = [n, rows]. The base is made whole for the product and again
/// for the backward pass, and never kept. dropped: x after dropout, where there is one. shared: of this x, in all its
/// products. Without lora only x's gradient flows. The base must outlive the graph.
torch::Tensor frozen_linear(const torch::Tensor& x, const std::optional<torch::Tensor>& dropped, SharedInput& shared,
                            const FrozenMatrix& base, const std::optional<LoraWeights>& lora);

/// Sum over rows of -log softmax(hidden · weightᵀ)[target]: hidden [m, width], weight [vocabulary, width],
/// targets [m] int64. The logits exist for `chunk` rows at a time; the gradient is made on the way forward.
torch::Tensor summed_cross_entropy(const torch::Tensor& hidden, const torch::Tensor& weight,
                                   const torch::Tensor& targets, int64_t chunk = 256);

}  // namespace haqa
