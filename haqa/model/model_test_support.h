#pragma once
// Model files for tests: real headers, and data that is a hole in the file, so that a 26 GB model costs a few kB of
// disk.
#include <ggml.h>
#include <gguf.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "haqa/base/temporary_folder.h"
#include "haqa/model/gguf_file.h"
#include "haqa/model/model_info.h"
#include "haqa/model/quant_rules.h"
#include "haqa/model/tensor_list.h"

namespace haqa {

struct TestShape {
  std::string architecture = "llama";
  int n_layer = 3, n_embd = 256, n_head = 4, n_head_kv = 2, n_ff = 512, n_vocab = 320, n_ctx_train = 1024;
  bool tied_output = false;
};

inline ModelInfo test_model(const TestShape& shape) {
  ModelInfo m;
  m.name = "test";
  m.architecture = shape.architecture;
  m.n_layer = shape.n_layer, m.n_embd = shape.n_embd, m.n_head = shape.n_head, m.n_head_kv = shape.n_head_kv;
  m.n_ff = shape.n_ff, m.n_vocab = shape.n_vocab, m.n_ctx_train = shape.n_ctx_train;
  m.n_embd_head_k = m.n_embd_head_v = m.n_embd / m.n_head;
  m.tied_output = shape.tied_output;
  m.tensors = converted_tensors(m);
  return m;
}

/// The keys that llama.cpp needs to load a model without a tokenizer.
inline void set_keys(gguf_context* g, const ModelInfo& m) {
  const auto u32 = [&](const std::string& key, int value) {
    gguf_set_val_u32(g, (m.architecture + "." + key).c_str(), static_cast<uint32_t>(value));
  };
  gguf_set_val_str(g, "general.architecture", m.architecture.c_str());
  gguf_set_val_str(g, "general.name", m.name.c_str());
  gguf_set_val_str(g, "tokenizer.ggml.model", "none");
  u32("vocab_size", m.n_vocab);
  u32("block_count", m.n_layer);
  u32("embedding_length", m.n_embd);
  u32("attention.head_count", m.n_head);
  u32("attention.head_count_kv", m.n_head_kv);
  u32("feed_forward_length", m.n_ff);
  u32("context_length", m.n_ctx_train);
  gguf_set_val_f32(g, (m.architecture + ".attention.layer_norm_rms_epsilon").c_str(), 1e-5f);
  gguf_set_val_f32(g, (m.architecture + ".attention.layer_norm_epsilon").c_str(), 1e-5f);
}

/// Writes `model` with the tensor types that it names. `change` may alter the header before it is written.
inline void write_model(const ModelInfo& model, const std::filesystem::path& file,
                        const std::function<void(gguf_context*)>& change = {}) {
  const GgufPtr g(gguf_init_empty());
  set_keys(g.get(), model);
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init(
          {.mem_size = ggml_tensor_overhead() * (model.tensors.size() + 1), .mem_buffer = nullptr, .no_alloc = true}),
      ggml_free);
  uint64_t bytes = 0;
  for (const TensorInfo& tensor : model.tensors) {
    ggml_tensor* added = ggml_new_tensor(context.get(), ggml_type_named(tensor.type),
                                         static_cast<int>(tensor.shape.size()), tensor.shape.data());
    ggml_set_name(added, tensor.name.c_str());
    gguf_add_tensor(g.get(), added);
    bytes += (ggml_nbytes(added) + 31) / 32 * 32;
  }
  if (change) change(g.get());
  gguf_write_to_file(g.get(), file.c_str(), /*only_meta=*/true);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) + bytes);
}

/// `model` as llama.cpp's quantizer would leave it, by HAQA's rules.
inline ModelInfo quantized(ModelInfo model, std::string_view gguf_type) {
  const ModelInfo source = model;
  for (TensorInfo& tensor : model.tensors) {
    tensor.type = quantized_type(source, tensor, gguf_type);
    tensor.bytes = tensor_bytes(tensor.shape, tensor.type);
  }
  return model;
}

}  // namespace haqa
