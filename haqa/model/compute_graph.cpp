#include "haqa/model/compute_graph.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/model/gguf_file.h"

namespace haqa {
namespace {

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Context = std::unique_ptr<ggml_context, Deleter<ggml_free>>;
using Buffer = std::unique_ptr<ggml_backend_buffer, Deleter<ggml_backend_buffer_free>>;
using Allocator = std::unique_ptr<ggml_gallocr, Deleter<ggml_gallocr_free>>;

/// Builds what llama.cpp computes for one batch. Names follow llama.cpp's.
class Graph {
 public:
  Graph(const ModelInfo& model, const MemoryUse& use, const GraphSize& size);
  uint64_t bytes() const;

 private:
  ggml_tensor* outside(ggml_type type, std::array<int64_t, 2> shape);
  ggml_tensor* input(ggml_type type, int64_t width, int64_t rows = 1);
  ggml_tensor* rotation(ggml_type cache, int64_t width);
  ggml_tensor* rotate(ggml_tensor* cur, ggml_tensor* rot);
  ggml_tensor* multiply(int64_t rows, ggml_tensor* cur);
  ggml_tensor* normalize(ggml_tensor* cur);
  ggml_tensor* rope(ggml_tensor* cur);
  std::array<ggml_tensor*, 3> project(ggml_tensor* cur);
  std::array<ggml_tensor*, 3> project_fused(ggml_tensor* cur);
  ggml_tensor* embed();
  ggml_tensor* attend(ggml_tensor* cur);
  ggml_tensor* attend_plainly(ggml_tensor* q, ggml_tensor* k, ggml_tensor* v);
  ggml_tensor* feed_forward(ggml_tensor* cur);
  ggml_tensor* layer(ggml_tensor* cur, bool last);
  void store(ggml_tensor* cache, ggml_tensor* cur, ggml_tensor* rows, bool transposed);

  const ModelInfo& m_;
  const GraphSize size_;
  const bool flash_, gpt2_, fused_;
  Context context_;
  Buffer nowhere_;
  ggml_cgraph* graph_ = nullptr;
  ggml_tensor *positions_ = nullptr, *k_rows_ = nullptr, *v_rows_ = nullptr, *mask_ = nullptr, *k_rot_ = nullptr,
              *v_rot_ = nullptr, *out_ids_ = nullptr, *k_cache_ = nullptr, *v_cache_ = nullptr;
};

/// Stands for a tensor that lies in another buffer: a weight or the KV cache. As in llama.cpp's own dry run, an empty
/// buffer tells the allocator so.
ggml_tensor* Graph::outside(ggml_type type, std::array<int64_t, 2> shape) {
  ggml_tensor* tensor = ggml_new_tensor_2d(context_.get(), type, shape[0], shape[1]);
  tensor->buffer = nowhere_.get();
  return tensor;
}

ggml_tensor* Graph::input(ggml_type type, int64_t width, int64_t rows) {
  ggml_tensor* tensor = ggml_new_tensor_2d(context_.get(), type, width, rows);
  ggml_set_input(tensor);
  return tensor;
}

/// llama.cpp rotates keys and values before it quantizes them. The widest power of two that divides a head for K, 64
/// for V.
ggml_tensor* Graph::rotation(ggml_type cache, int64_t width) {
  if (!ggml_is_quantized(cache) || m_.n_embd_head_k % 64 != 0) return nullptr;
  return input(GGML_TYPE_F32, width, width);
}

ggml_tensor* Graph::rotate(ggml_tensor* cur, ggml_tensor* rot) {
  if (!rot) return cur;
  ggml_context* c = context_.get();
  const int64_t n = rot->ne[0], rows = ggml_nelements(cur) / n;
  ggml_tensor* flat = ggml_is_contiguous(cur) ? ggml_reshape_2d(c, cur, n, rows) : ggml_cont_2d(c, cur, n, rows);
  return ggml_reshape_4d(c, ggml_mul_mat(c, rot, flat), cur->ne[0], cur->ne[1], cur->ne[2], cur->ne[3]);
}

/// Result: [rows, tokens]. The weight's type does not matter: results are F32.
ggml_tensor* Graph::multiply(int64_t rows, ggml_tensor* cur) {
  ggml_context* c = context_.get();
  ggml_tensor* result = ggml_mul_mat(c, outside(GGML_TYPE_F16, {cur->ne[0], rows}), cur);
  return gpt2_ ? ggml_add(c, result, outside(GGML_TYPE_F32, {rows, 1})) : result;
}

ggml_tensor* Graph::normalize(ggml_tensor* cur) {
  ggml_context* c = context_.get();
  cur = gpt2_ ? ggml_norm(c, cur, 1e-5f) : ggml_rms_norm(c, cur, 1e-5f);
  cur = ggml_mul(c, cur, outside(GGML_TYPE_F32, {m_.n_embd, 1}));
  return gpt2_ ? ggml_add(c, cur, outside(GGML_TYPE_F32, {m_.n_embd, 1})) : cur;
}

ggml_tensor* Graph::rope(ggml_tensor* cur) {
  if (gpt2_) return cur;
  return ggml_rope_ext(context_.get(), cur, positions_, nullptr, m_.n_embd_head_k, GGML_ROPE_TYPE_NORMAL,
                       m_.n_ctx_train, 10000.0f, 1.0f, 0.0f, 1.0f, 32.0f, 1.0f);
}

/// Q, K, V: [head width, heads, tokens].
std::array<ggml_tensor*, 3> Graph::project(ggml_tensor* cur) {
  if (fused_) return project_fused(cur);
  const int64_t d = m_.n_embd_head_k;
  std::array<ggml_tensor*, 3> all{};
  const std::array<int64_t, 3> heads = {m_.n_head, m_.n_head_kv, m_.n_head_kv};
  for (size_t i = 0; i < 3; ++i) all[i] = multiply(d * heads[i], cur);
  for (size_t i = 0; i < 3; ++i) all[i] = ggml_reshape_3d(context_.get(), all[i], d, heads[i], size_.n_tokens);
  return all;
}

std::array<ggml_tensor*, 3> Graph::project_fused(ggml_tensor* cur) {
  const int64_t d = m_.n_embd_head_k;
  const std::array<int64_t, 3> heads = {m_.n_head, m_.n_head_kv, m_.n_head_kv};
  ggml_tensor* qkv = multiply(d * (heads[0] + heads[1] + heads[2]), cur);
  std::array<ggml_tensor*, 3> all{};
  size_t offset = 0;
  for (size_t i = 0; i < 3; ++i) {
    all[i] =
        ggml_view_3d(context_.get(), qkv, d, heads[i], size_.n_tokens, ggml_row_size(qkv->type, d), qkv->nb[1], offset);
    offset += ggml_row_size(qkv->type, d * heads[i]);
  }
  return all;
}

ggml_tensor* Graph::embed() {
  ggml_context* c = context_.get();
  ggml_tensor* tokens = input(GGML_TYPE_I32, size_.n_tokens);
  ggml_tensor* embeddings = input(GGML_TYPE_F32, m_.n_embd, size_.n_tokens);  // the other way to give a batch
  std::array<ggml_tensor*, 2> ways = {ggml_get_rows(c, outside(GGML_TYPE_F16, {m_.n_embd, m_.n_vocab}), tokens),
                                      embeddings};
  ggml_tensor* cur = ggml_build_forward_select(graph_, ways.data(), 2, 0);
  ggml_build_forward_expand(graph_, cur);
  return cur;
}

/// Writes the batch's keys or values into the cache. Without flash attention V is stored transposed, number by number.
void Graph::store(ggml_tensor* cache, ggml_tensor* cur, ggml_tensor* rows, bool transposed) {
  ggml_context* c = context_.get();
  const int64_t width = cur->ne[0] * cur->ne[1];
  if (!transposed) {
    cur = ggml_view_2d(c, cur, width, size_.n_tokens, cur->nb[2], 0);
  } else {
    const bool whole = ggml_row_size(cur->type, width) == cur->nb[2];
    cur = whole ? ggml_reshape_2d(c, cur, width, size_.n_tokens) : ggml_cont_2d(c, cur, width, size_.n_tokens);
    cache = ggml_reshape_2d(c, cache, 1, ggml_nelements(cache));
    cur = ggml_reshape_2d(c, cur, 1, ggml_nelements(cur));
  }
  ggml_build_forward_expand(graph_, ggml_set_rows(c, cache, cur, rows));
}

ggml_tensor* Graph::attend_plainly(ggml_tensor* q, ggml_tensor* k, ggml_tensor* v) {
  ggml_context* c = context_.get();
  ggml_tensor* kq = ggml_soft_max_ext(c, ggml_mul_mat(c, k, q), mask_, 1.0f, 0.0f);
  ggml_tensor* kqv = ggml_permute(c, ggml_mul_mat(c, v, kq), 0, 2, 1, 3);
  return ggml_cont_2d(c, kqv, kqv->ne[0] * kqv->ne[1], kqv->ne[2] * kqv->ne[3]);
}

ggml_tensor* Graph::attend(ggml_tensor* cur) {
  ggml_context* c = context_.get();
  auto [q, k_new, v_new] = project(cur);
  q = rotate(rope(q), k_rot_);
  k_new = rotate(rope(k_new), k_rot_);
  v_new = rotate(v_new, v_rot_);
  for (ggml_tensor* tensor : {q, v_new, k_new}) ggml_build_forward_expand(graph_, tensor);
  store(k_cache_, k_new, k_rows_, false);
  store(v_cache_, v_new, v_rows_, !flash_);

  const int64_t d = m_.n_embd_head_k, heads = m_.n_head_kv, n_kv = size_.n_kv;
  const auto view = [&](ggml_tensor* cache) {
    return ggml_view_4d(c, cache, d, heads, n_kv, 1, ggml_row_size(cache->type, d),
                        ggml_row_size(cache->type, d * heads), ggml_row_size(cache->type, d * heads * n_kv), 0);
  };
  ggml_tensor* v = v_cache_;
  if (flash_)
    v = view(v);
  else
    v = ggml_view_4d(c, v, n_kv, heads, d, 1, ggml_row_size(v->type, n_kv * d), ggml_row_size(v->type, n_kv),
                     ggml_row_size(v->type, n_kv * d * heads), 0);
  q = ggml_view_4d(c, q, q->ne[0], q->ne[1], q->ne[2], 1, q->nb[1], q->nb[2], q->nb[2] * static_cast<size_t>(q->ne[2]),
                   0);
  q = ggml_permute(c, q, 0, 2, 1, 3);
  ggml_tensor* k = ggml_permute(c, view(k_cache_), 0, 2, 1, 3);
  v = ggml_permute(c, v, 0, 2, 1, 3);
  if (flash_) {
    cur = ggml_flash_attn_ext(c, q, k, v, mask_, 1.0f, 0.0f, 0.0f);
    cur = ggml_reshape_2d(c, cur, cur->ne[0] * cur->ne[1], cur->ne[2] * cur->ne[3]);
  } else {
    cur = attend_plainly(q, k, v);
  }
  ggml_build_forward_expand(graph_, cur);
  return multiply(m_.n_embd, rotate(cur, v_rot_));
}

ggml_tensor* Graph::feed_forward(ggml_tensor* cur) {
  ggml_context* c = context_.get();
  ggml_tensor* up = multiply(m_.n_ff, cur);
  ggml_tensor* hidden = gpt2_ ? ggml_gelu(c, up) : ggml_swiglu_split(c, multiply(m_.n_ff, cur), up);
  return multiply(m_.n_embd, hidden);
}

ggml_tensor* Graph::layer(ggml_tensor* cur, bool last) {
  ggml_context* c = context_.get();
  ggml_tensor* skipped = cur;
  cur = attend(normalize(cur));
  if (last) {
    cur = ggml_get_rows(c, cur, out_ids_);
    skipped = ggml_get_rows(c, skipped, out_ids_);
  }
  ggml_tensor* ffn_inp = ggml_add(c, cur, skipped);
  return ggml_add(c, feed_forward(normalize(ffn_inp)), ffn_inp);
}

size_t context_bytes(const ModelInfo& model, size_t nodes) {
  const size_t tensors_per_layer = 80;  // nodes, views and stand-ins for weights; about 50 with everything
  const size_t tensors = static_cast<size_t>(model.n_layer) * tensors_per_layer + 64;
  return tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(nodes, false);
}

Graph::Graph(const ModelInfo& model, const MemoryUse& use, const GraphSize& size)
    : m_(model),
      size_(size),
      flash_(use.flash_attention),
      gpt2_(model.architecture == "gpt2"),
      fused_(gpt2_ || std::any_of(model.tensors.begin(), model.tensors.end(),
                                  [](const TensorInfo& t) { return t.name == "blk.0.attn_qkv.weight"; })) {
  const size_t nodes = static_cast<size_t>(model.n_layer) * 64 + 64;
  context_.reset(ggml_init({.mem_size = context_bytes(model, nodes), .mem_buffer = nullptr, .no_alloc = true}));
  nowhere_.reset(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), 0));
  if (!context_ || !nowhere_) throw Error("no memory to plan {}; close other programs", model.name);
  graph_ = ggml_new_graph_custom(context_.get(), nodes, false);

  const ggml_type type_k = kv_cache_type(use.type_k), type_v = kv_cache_type(use.type_v);
  const int64_t d = m_.n_embd_head_k, width = d * m_.n_head_kv;
  ggml_tensor* cur = embed();
  positions_ = input(GGML_TYPE_I32, size.n_tokens);
  k_rows_ = input(GGML_TYPE_I64, size.n_tokens);
  v_rows_ = input(GGML_TYPE_I64, flash_ ? size.n_tokens : size.n_tokens * width);
  mask_ = input(flash_ ? GGML_TYPE_F16 : GGML_TYPE_F32, size.n_kv, size.n_tokens);
  k_rot_ = rotation(type_k, d & -d);
  v_rot_ = rotation(type_v, 64);
  k_cache_ = outside(type_k, {width, size.n_kv});
  v_cache_ = outside(type_v, {width, size.n_kv});
  if (gpt2_)
    cur = ggml_add(context_.get(), cur,
                   ggml_get_rows(context_.get(), outside(GGML_TYPE_F32, {m_.n_embd, m_.n_ctx_train}), positions_));
  out_ids_ = input(GGML_TYPE_I32, size.n_outputs);
  for (int i = 0; i < m_.n_layer; ++i) cur = layer(cur, i == m_.n_layer - 1);
  ggml_tensor* logits = ggml_mul_mat(context_.get(), outside(GGML_TYPE_F16, {m_.n_embd, m_.n_vocab}), normalize(cur));
  ggml_set_output(logits);
  ggml_build_forward_expand(graph_, logits);
}

uint64_t Graph::bytes() const {
  const Allocator allocator(ggml_gallocr_new(ggml_backend_cpu_buffer_type()));
  size_t size = 0;
  ggml_gallocr_reserve_n_size(allocator.get(), graph_, nullptr, nullptr, &size);
  return size;
}

}  // namespace

ggml_type kv_cache_type(std::string_view name) {
  constexpr std::array types = {GGML_TYPE_F16,  GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_F32,   GGML_TYPE_BF16,
                                GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL};
  std::vector<std::string> names;
  for (const ggml_type type : types) {
    if (names.emplace_back(ggml_type_name(type)) == name) return type;
  }
  throw UsageError("'{}' is no type of llama.cpp's KV cache; choose one of {}", one_line(name), fmt::join(names, ", "));
}

uint64_t compute_graph_bytes(const ModelInfo& model, const MemoryUse& use, const GraphSize& size) {
  return Graph(model, use, size).bytes();
}

}  // namespace haqa
