#pragma once
#include "haqa/train/torch.h"
#include "haqa/vision/kernels.h"

namespace haqa {

/// Whether the kernels take it: dense in main memory, floats or bfloat16; `other` is the type of what goes with it.
inline bool runs_in_kernels(const torch::Tensor& tensor, at::ScalarType other) {
  const auto known = [](at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; };
  return tensor.is_cpu() && known(tensor.scalar_type()) && known(other) && tensor.is_non_overlapping_and_dense();
}

/// Calls work.operator()<T>() with the kernels' type of the numbers.
template <typename Work>
void by_type(at::ScalarType type, const Work& work) {
  type == at::kFloat ? work.template operator()<float>() : work.template operator()<uint16_t>();
}

/// Where the numbers are, as the kernels have them; null where there are none.
template <typename T>
T* memory(const torch::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

/// The tensor with its numbers in the order in memory that those of `model` have.
inline torch::Tensor as_dense_as(const torch::Tensor& model, const torch::Tensor& tensor) {
  if (!tensor.defined() || tensor.strides() == model.strides()) return tensor;
  return at::empty_like(model, model.options().dtype(tensor.scalar_type())).copy_(tensor);
}

inline Simd simd() {
  static const Simd best = best_simd();
  return best;
}

}  // namespace haqa
