#pragma once
#include "haqa/train/torch.h"

namespace haqa {

/// Products with a weight [rows, columns] by the fastest library at hand. libtorch's own choice for fp32 on a CPU is
/// MKL, which leaves AVX-512 unused on processors that are not Intel's; oneDNN, which libtorch carries too, does not,
/// and is taken there. Neither changes the precision.

/// x [n, columns] · weightᵀ = [n, rows].
torch::Tensor times_transposed(const torch::Tensor& x, const torch::Tensor& weight);
/// x [n, rows] · weight = [n, columns].
torch::Tensor times(const torch::Tensor& x, const torch::Tensor& weight);

}  // namespace haqa
