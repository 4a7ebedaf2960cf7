#include "haqa/plugin/operations.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace haqa {
namespace {

/// What ggml keeps as bits in a node (ggml_rope_impl).
struct RopeParameters {
  int32_t past, dimensions, mode, context, original_context;
  float base, scale, extrapolation, magnitude, beta_fast, beta_slow;
  int32_t sections[4], offset;
};
static_assert(sizeof(RopeParameters) == 64 && sizeof(RopeParameters) <= GGML_MAX_OP_PARAMS);

RopeParameters parameters_of(const ggml_tensor& node) {
  RopeParameters p;
  std::memcpy(&p, node.op_params, sizeof p);
  return p;
}

const char* row_of(const ggml_tensor& t, int64_t i1, int64_t i2, int64_t i3) {
  return static_cast<const char*>(t.data) + static_cast<size_t>(i1) * t.nb[1] + static_cast<size_t>(i2) * t.nb[2] +
         static_cast<size_t>(i3) * t.nb[3];
}

template <typename T>
const T* row_as(const ggml_tensor& t, int64_t i1, int64_t i2, int64_t i3) {
  return reinterpret_cast<const T*>(row_of(t, i1, i2, i3));
}

float* row_to_write(const ggml_tensor& t, int64_t i1, int64_t i2, int64_t i3) {
  return const_cast<float*>(row_as<float>(t, i1, i2, i3));
}

/// Calls work(i1, i2, i3) for a thread's part of the rows of `t`.
template <typename Work>
void for_rows(const ggml_tensor& t, Share share, Work work) {
  const auto [first, end] = share.of(ggml_nrows(&t));
  for (int64_t r = first; r < end; ++r) work(r % t.ne[1], r / t.ne[1] % t.ne[2], r / t.ne[1] / t.ne[2]);
}

bool has_dense_rows(const ggml_tensor* t, ggml_type type) {
  return t && t->type == type && t->nb[0] == ggml_type_size(type);
}

}  // namespace

// ---- rope ----

bool supports_rope(const ggml_tensor& node) {
  if (!has_dense_rows(node.src[0], GGML_TYPE_F32) || !has_dense_rows(&node, GGML_TYPE_F32)) return false;
  const RopeParameters p = parameters_of(node);
  if (p.mode != GGML_ROPE_TYPE_NORMAL && p.mode != GGML_ROPE_TYPE_NEOX) return false;
  // Positions and factors are read while the graph is planned anew only if nothing in it computes them.
  for (const ggml_tensor* t : {node.src[1], node.src[2]})
    if (t && (t->op != GGML_OP_NONE || !ggml_is_contiguous(t))) return false;
  return p.offset == 0 && p.dimensions % 2 == 0 && p.dimensions <= node.ne[0];
}

RopeTable::RopeTable(const ggml_tensor& node)
    : node_(&node), positions_(node.ne[2]), dimensions_(parameters_of(node).dimensions) {
  values_ = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(positions_ * dimensions_));
}

bool RopeTable::serves(const ggml_tensor& node) const {
  return node.src[1] == node_->src[1] && node.src[2] == node_->src[2] && node.ne[2] == positions_ &&
         std::memcmp(node.op_params, node_->op_params, sizeof(RopeParameters)) == 0;
}

/// By ggml's own arithmetic, rounding by rounding, so that results are those of its CPU code: angles are products one
/// after the other in single precision. YaRN as in https://arxiv.org/abs/2309.00071.
void RopeTable::compute(Share share) {
  const RopeParameters p = parameters_of(*node_);
  const auto* positions = static_cast<const int32_t*>(node_->src[1]->data);
  const auto* factors = node_->src[2] ? static_cast<const float*>(node_->src[2]->data) : nullptr;
  float ramp[2];
  ggml_rope_yarn_corr_dims(p.dimensions, p.original_context, p.base, p.beta_fast, p.beta_slow, ramp);
  const float step = powf(p.base, -2.0f / static_cast<float>(p.dimensions));
  const float magnitude = p.extrapolation != 0 ? p.magnitude * (1.0f + 0.1f * logf(1.0f / p.scale)) : p.magnitude;
  const auto [first, end] = share.of(positions_);
  for (int64_t i = first; i < end; ++i) {
    float* row = values_.get() + i * dimensions_;
    float angle = static_cast<float>(positions[i]);
    for (int64_t d = 0; d < dimensions_; d += 2, angle *= step) {
      const float extrapolated = factors ? angle / factors[d / 2] : angle;
      float theta = p.scale * extrapolated;
      if (p.extrapolation != 0) {
        const float y = (static_cast<float>(d / 2) - ramp[0]) / std::max(0.001f, ramp[1] - ramp[0]);
        const float mix = (1 - std::clamp(y, 0.0f, 1.0f)) * p.extrapolation;
        theta = theta * (1 - mix) + extrapolated * mix;
      }
      row[d] = cosf(theta) * magnitude;
      row[d + 1] = sinf(theta) * magnitude;
    }
  }
}

void rope(const ggml_tensor& node, const RopeTable& table, Share share) {
  const RopeParameters p = parameters_of(node);
  const int64_t n = p.dimensions;
  for_rows(node, share, [&](int64_t i1, int64_t i2, int64_t i3) {
    const float* x = row_as<float>(*node.src[0], i1, i2, i3);
    float* y = row_to_write(node, i1, i2, i3);
    const float* angles = table.row(i2);
    const bool neighbours = p.mode == GGML_ROPE_TYPE_NORMAL;
    for (int64_t d = 0; d < n; d += 2) {
      const int64_t a = neighbours ? d : d / 2, b = neighbours ? d + 1 : d / 2 + n / 2;
      const float xa = x[a], xb = x[b];  // y may be x
      y[a] = xa * angles[d] - xb * angles[d + 1];
      y[b] = xa * angles[d + 1] + xb * angles[d];
    }
    if (y != x) std::copy(x + n, x + node.ne[0], y + n);
  });
}

// ---- arithmetic ----

bool supports_arithmetic(const ggml_tensor& node) {
  const ggml_tensor *a = node.src[0], *b = node.src[1];
  if (!has_dense_rows(a, GGML_TYPE_F32) || !has_dense_rows(b, GGML_TYPE_F32) || !has_dense_rows(&node, GGML_TYPE_F32))
    return false;
  return b->ne[0] == node.ne[0];
}

void arithmetic(const ggml_tensor& node, Share share) {
  const ggml_tensor &a = *node.src[0], &b = *node.src[1];
  const int64_t n = node.ne[0];
  for_rows(node, share, [&](int64_t i1, int64_t i2, int64_t i3) {
    const float* x = row_as<float>(a, i1, i2, i3);
    const float* w = row_as<float>(b, i1 % b.ne[1], i2 % b.ne[2], i3 % b.ne[3]);
    float* y = row_to_write(node, i1, i2, i3);
    if (node.op == GGML_OP_ADD)
      for (int64_t i = 0; i < n; ++i) y[i] = x[i] + w[i];
    else
      for (int64_t i = 0; i < n; ++i) y[i] = x[i] * w[i];
  });
}

// ---- rows ----

namespace {

void copy_row(const float* x, void* y, ggml_type type, int64_t n) {
  if (type == GGML_TYPE_F32)
    std::memcpy(y, x, static_cast<size_t>(n) * sizeof(float));
  else
    ggml_get_type_traits(type)->from_float_ref(x, y, n);
}

int64_t index_at(const ggml_tensor& indices, int64_t i0, int64_t i1, int64_t i2) {
  const char* at = static_cast<const char*>(indices.data) + static_cast<size_t>(i0) * indices.nb[0] +
                   static_cast<size_t>(i1) * indices.nb[1] + static_cast<size_t>(i2) * indices.nb[2];
  return indices.type == GGML_TYPE_I64 ? *reinterpret_cast<const int64_t*>(at) : *reinterpret_cast<const int32_t*>(at);
}

/// Of caches: what else there is goes to ggml's own code.
bool is_target(const ggml_tensor* t) {
  return has_dense_rows(t, GGML_TYPE_F32) || has_dense_rows(t, GGML_TYPE_F16) || has_dense_rows(t, GGML_TYPE_Q8_0);
}

}  // namespace

bool supports_rows(const ggml_tensor& node) {
  const ggml_tensor *a = node.src[0], *b = node.src[1];
  if (!has_dense_rows(a, GGML_TYPE_F32) || !is_target(&node)) return false;
  switch (node.op) {
    case GGML_OP_SET_ROWS:
      return b->type == GGML_TYPE_I64 || b->type == GGML_TYPE_I32;
    case GGML_OP_GET_ROWS:
      return node.type == GGML_TYPE_F32 && b->type == GGML_TYPE_I32;
    case GGML_OP_CPY:
    case GGML_OP_CONT:
    case GGML_OP_DUP:
      return ggml_are_same_shape(a, &node) && !ggml_is_quantized(node.type);
    default:
      return false;
  }
}

void rows(const ggml_tensor& node, Share share) {
  const ggml_tensor& a = *node.src[0];
  const ggml_tensor* b = node.src[1];
  const int64_t n = a.ne[0];
  if (node.op == GGML_OP_SET_ROWS) {
    for_rows(a, share, [&](int64_t i1, int64_t i2, int64_t i3) {
      const int64_t target = index_at(*b, i1, i2 % b->ne[1], i3 % b->ne[2]);
      copy_row(row_as<float>(a, i1, i2, i3), row_to_write(node, target, i2, i3), node.type, n);
    });
  } else if (node.op == GGML_OP_GET_ROWS) {
    for_rows(node, share, [&](int64_t i1, int64_t i2, int64_t i3) {
      copy_row(row_as<float>(a, index_at(*b, i1, i2, i3), i2, i3), row_to_write(node, i1, i2, i3), node.type, n);
    });
  } else {
    for_rows(node, share, [&](int64_t i1, int64_t i2, int64_t i3) {
      copy_row(row_as<float>(a, i1, i2, i3), row_to_write(node, i1, i2, i3), node.type, n);
    });
  }
}

}  // namespace haqa
