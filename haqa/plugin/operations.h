#pragma once
#include <memory>
#include <vector>

#include "haqa/plugin/ggml.h"
#include "haqa/plugin/team.h"

namespace haqa {

/// Sines and cosines of ggml's ROPE for each position, which all layers of a model share.
class RopeTable {
 public:
  /// Of the parameters and positions of a node; of another node with an equal key the table is the same.
  explicit RopeTable(const ggml_tensor& node);
  bool serves(const ggml_tensor& node) const;
  /// Fills in the rows of a thread's positions.
  void compute(Share share);
  /// cos, sin, cos, sin, ...: of the pairs of one position.
  const float* row(int64_t position) const { return values_.get() + position * dimensions_; }

 private:
  const ggml_tensor* node_;
  int64_t positions_, dimensions_;
  std::unique_ptr<float[]> values_;
};

/// What this module computes of ggml's operations by itself, beside kernels; each adds a thread's part of the node.
/// supports_...() says whether a node is of the kind that the function computes.
bool supports_rope(const ggml_tensor& node);
void rope(const ggml_tensor& node, const RopeTable& table, Share share);

/// ADD and MUL of floats, with the second operand repeated along all dimensions but the first.
bool supports_arithmetic(const ggml_tensor& node);
void arithmetic(const ggml_tensor& node, Share share);

/// SET_ROWS, GET_ROWS, CPY, CONT and DUP from floats to floats, halves or (SET_ROWS) Q8_0, row by row.
bool supports_rows(const ggml_tensor& node);
void rows(const ggml_tensor& node, Share share);

}  // namespace haqa
