#include "haqa/model/tensor_list.h"

#include <ggml.h>

#include <cstdio>

#include "haqa/base/error.h"
#include "haqa/model/gguf_file.h"

namespace haqa {
namespace {

class TensorList {
 public:
  void matrix(const std::string& name, int64_t width, int64_t rows) { add(name + ".weight", "F16", {width, rows}); }
  void vector(const std::string& name, int64_t width) { add(name, "F32", {width}); }
  void add(const std::string& name, const std::string& type, std::vector<int64_t> shape) {
    const uint64_t bytes = tensor_bytes(shape, type);
    tensors_.push_back({name, type, std::move(shape), bytes});
  }
  std::vector<TensorInfo> take() { return std::move(tensors_); }

 private:
  std::vector<TensorInfo> tensors_;
};

void add_llama_layer(TensorList& list, const ModelInfo& m, const std::string& layer) {
  const int64_t q = int64_t{m.n_head} * m.n_embd_head_k;
  list.matrix(layer + "attn_q", m.n_embd, q);
  list.matrix(layer + "attn_k", m.n_embd, int64_t{m.n_head_kv} * m.n_embd_head_k);
  list.matrix(layer + "attn_v", m.n_embd, int64_t{m.n_head_kv} * m.n_embd_head_v);
  list.matrix(layer + "attn_output", q, m.n_embd);
  list.matrix(layer + "ffn_gate", m.n_embd, m.n_ff);
  list.matrix(layer + "ffn_up", m.n_embd, m.n_ff);
  list.matrix(layer + "ffn_down", m.n_ff, m.n_embd);
  list.vector(layer + "attn_norm.weight", m.n_embd);
  list.vector(layer + "ffn_norm.weight", m.n_embd);
}

void add_gpt2_layer(TensorList& list, const ModelInfo& m, const std::string& layer) {
  const auto with_bias = [&](const std::string& name, int64_t width, int64_t rows) {
    list.vector(layer + name + ".bias", rows);
    list.matrix(layer + name, width, rows);
  };
  for (const char* norm : {"attn_norm", "ffn_norm"}) {
    list.vector(layer + norm + ".weight", m.n_embd);
    list.vector(layer + norm + ".bias", m.n_embd);
  }
  with_bias("attn_qkv", m.n_embd, 3 * int64_t{m.n_embd});
  with_bias("attn_output", m.n_embd, m.n_embd);
  with_bias("ffn_up", m.n_embd, m.n_ff);
  with_bias("ffn_down", m.n_ff, m.n_embd);
}

}  // namespace

uint64_t tensor_bytes(const std::vector<int64_t>& shape, const std::string& type) {
  const ggml_type ggml = ggml_type_named(type);
  if (shape.empty() || shape[0] % ggml_blck_size(ggml) != 0)
    throw UsageError("rows of {} numbers cannot be stored as {}, whose blocks hold {}; choose another type",
                     shape.empty() ? 0 : shape[0], type, ggml_blck_size(ggml));
  uint64_t bytes = ggml_row_size(ggml, shape[0]);
  for (size_t i = 1; i < shape.size(); ++i) bytes *= static_cast<uint64_t>(shape[i]);
  return bytes;
}

int layer_of(const std::string& tensor_name) {
  int layer = -1;
  return std::sscanf(tensor_name.c_str(), "blk.%d.", &layer) == 1 ? layer : -1;
}

std::vector<TensorInfo> converted_tensors(const ModelInfo& m) {
  const bool gpt2 = m.architecture == "gpt2";
  TensorList list;
  list.matrix("token_embd", m.n_embd, m.n_vocab);
  if (gpt2) list.add("position_embd.weight", "F32", {m.n_embd, m.n_ctx_train});
  for (int i = 0; i < m.n_layer; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    gpt2 ? add_gpt2_layer(list, m, layer) : add_llama_layer(list, m, layer);
  }
  list.vector("output_norm.weight", m.n_embd);
  if (gpt2) list.vector("output_norm.bias", m.n_embd);
  if (!m.tied_output) list.matrix("output", m.n_embd, m.n_vocab);
  return list.take();
}

}  // namespace haqa
