#pragma once
#include "haqa/quantization/nf4.h"
#include "haqa/train/frozen_matrix.h"

namespace haqa {

// Frozen matrices on a GPU. What is made there comes by operations of libtorch that run on any device, and nothing is
// copied from main memory after the beginning.

/// 4-bit codes and their scales, made whole where they are: bit for bit what quantization/nf4.h makes of them. On the
/// way it takes 6 bytes a weight.
class DeviceFourBit : public FrozenMatrix {
 public:
  DeviceFourBit(const Quantized4Bit& weights, int64_t columns, at::Device device);
  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }
  uint64_t bytes() const override;
  torch::Tensor whole(at::ScalarType dtype) const override;

 private:
  torch::Tensor block_absmax() const;

  const int64_t rows_, columns_, blocks_;
  torch::Tensor pairs_;                               ///< [256, 2]: the two values of a byte
  torch::Tensor codes_;                               ///< [blocks * 32] bytes
  torch::Tensor absmax_;                              ///< [blocks], where they are not quantized
  torch::Tensor map_, absmax_codes_, absmax_absmax_;  ///< [256], [blocks, whole times 256], [one in 256]
  const double absmax_mean_;
};

/// Kept whole.
class DenseMatrix : public FrozenMatrix {
 public:
  explicit DenseMatrix(torch::Tensor weight) : weight_(std::move(weight)) {}
  int64_t rows() const override { return weight_.size(0); }
  int64_t columns() const override { return weight_.size(1); }
  uint64_t bytes() const override { return weight_.nbytes(); }
  torch::Tensor whole(at::ScalarType dtype) const override { return weight_.to(dtype); }

 private:
  const torch::Tensor weight_;
};

}  // namespace haqa
