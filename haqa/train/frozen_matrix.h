#pragma once
#include <memory>
#include <optional>
#include <string_view>

#include "haqa/model/tensor_data.h"
#include "haqa/quantization/int8.h"
#include "haqa/train/torch.h"

namespace haqa {

/// How the frozen weights of the base model are kept while adapters are trained.
enum class BaseFormat {
  gguf,        ///< as they are in the file, mapped, in whatever type it has; whole in the compute type on a GPU
  nf4,         ///< 4-bit NormalFloat in blocks of 64
  nf4_double,  ///< the same, the blocks' factors quantized too: 4.127 bits a weight
  fp4,         ///< 4-bit floating point in blocks of 64
  int8,        ///< LLM.int8: rows in 8 bits, products of integers, columns of outliers apart; on a CPU alone
};
/// "gguf", "nf4", "nf4_double", "fp4" or "int8". Throws UsageError that lists them.
BaseFormat base_format_from(std::string_view name);

/// What products of one input with several matrices share: made by the first that needs it.
struct SharedInput {
  std::optional<Int8Activations> int8;
};

/// A weight matrix [rows, columns] that is not trained: kept in few bits, and made whole only while a product needs it.
class FrozenMatrix {
 public:
  virtual ~FrozenMatrix() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t columns() const = 0;
  /// All of it, as `dtype` on the device where it is kept. Let go of it soon: it may be a new tensor each time.
  virtual torch::Tensor whole(at::ScalarType dtype) const = 0;
  /// x [n, columns] · itselfᵀ = [n, rows], without a gradient. shared: of this x.
  virtual torch::Tensor times_transposed(const torch::Tensor& x, SharedInput& shared) const;
  /// What it occupies.
  virtual uint64_t bytes() const = 0;
};

/// A tensor of a GGUF file as a frozen matrix in main memory. `data` must outlive it where the format is gguf.
std::unique_ptr<FrozenMatrix> frozen_matrix(const TensorData& data, const std::string& name, BaseFormat format);
/// The same on any device; compute: the type of products. Throws UsageError for int8 elsewhere than on a CPU.
std::unique_ptr<FrozenMatrix> frozen_matrix_on(at::Device device, at::ScalarType compute, const TensorData& data,
                                               const std::string& name, BaseFormat format);

}  // namespace haqa
