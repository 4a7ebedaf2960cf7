#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/kernel/kernel_spec.h"

namespace haqa {

/// One element as it should be; `scale` is what Tolerance::norm refers to.
struct Expected {
  double value = 0, scale = 0;
};

/// What a kernel should compute, in double precision and as plainly as can be, from its inputs as they lie in memory.
class Reference {
 public:
  virtual ~Reference() = default;
  /// Of the output's rows, of which there are ne[1] * ne[2].
  virtual void begin_row(int64_t row) = 0;
  /// An element of that row.
  virtual Expected at(int64_t column) = 0;
  /// Whether an element costs as much as a row of its inputs.
  virtual bool is_product() const { return false; }
};

/// How many inputs a reference reads, the weights included, and how many scalars; of a name that is_reference().
size_t reference_inputs(const std::string& name);
size_t reference_scalars(const std::string& name);
/// The first of the tensors that is not as the reference reads it beside the others, in shape or type: it would read
/// beyond it.
std::optional<size_t> misfit(const std::string& name, std::span<const TensorShape> shapes);
bool is_reference(const std::string& name);
std::vector<std::string> reference_names();

/// inputs: where each input begins. Both must outlive what is returned.
std::unique_ptr<Reference> make_reference(const KernelSpec& spec, std::span<const TensorShape> shapes,
                                          std::span<const std::byte* const> inputs);

/// A row of any type as numbers. Source: ggml-common.h of llama.cpp, block_q8_0 and block_q4_0.
void decode_row(ElementType type, const std::byte* row, std::span<double> out);

/// IEEE 754 half precision, by its bits.
double half_to_double(uint16_t bits);
uint16_t double_to_half(double value);  ///< to the nearest, ties to even; finite values within its range

}  // namespace haqa
