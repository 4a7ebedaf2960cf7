// What tests of adapters share: random ones, and what stock llama.cpp makes of them.
#pragma once
#include <gtest/gtest.h>
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "haqa/adapter/adapter.h"
#include "haqa/base/error.h"

namespace haqa {

/// Random numbers for the named tensors.
inline LoraAdapter random_adapter(const ModelInfo& model, const std::vector<std::string>& tensors, int rank,
                                  float alpha, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.1f);
  std::unordered_map<std::string, std::vector<int64_t>> shapes;
  for (const TensorInfo& tensor : model.tensors) shapes[tensor.name] = tensor.shape;
  LoraAdapter adapter{rank, alpha, {}, {}};
  for (const std::string& name : tensors) {
    LoraPair& pair = adapter.pairs.emplace_back(LoraPair{name, {}, {}});
    pair.a.resize(static_cast<size_t>(rank * shapes.at(name)[0]));
    pair.b.resize(static_cast<size_t>(rank * shapes.at(name)[1]));
    for (float& value : pair.a) value = normal(random);
    for (float& value : pair.b) value = normal(random);
  }
  return adapter;
}

/// The seven matrices of every layer.
inline std::vector<std::string> all_matrices(const ModelInfo& model) {
  std::vector<std::string> names;
  for (int layer = 0; layer < model.n_layer; ++layer)
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
      names.push_back("blk." + std::to_string(layer) + "." + name + ".weight");
  return names;
}

struct FreeLlama {
  void operator()(llama_model* m) const { llama_model_free(m); }
  void operator()(llama_context* c) const { llama_free(c); }
};

/// Logits of every token, [position][vocabulary] in one row, by libllama in F32, with an adapter's file where given.
inline std::vector<float> llama_logits(const std::filesystem::path& model_file, std::vector<llama_token> tokens,
                                       const std::filesystem::path& adapter_file = {}, float scale = 1) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model_params model_params = llama_model_default_params();
  model_params.n_gpu_layers = 0;
  const std::unique_ptr<llama_model, FreeLlama> model(llama_model_load_from_file(model_file.c_str(), model_params));
  if (!model) throw Error("{}: libllama cannot load it", model_file.string());
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = 64;
  params.n_threads = params.n_threads_batch = 2;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  const std::unique_ptr<llama_context, FreeLlama> context(llama_init_from_model(model.get(), params));
  if (!adapter_file.empty()) {
    llama_adapter_lora* adapter = llama_adapter_lora_init(model.get(), adapter_file.c_str());  // freed with the model
    if (!adapter) throw Error("{}: libllama cannot load it", adapter_file.string());
    if (llama_set_adapters_lora(context.get(), &adapter, 1, &scale) != 0) throw Error("libllama takes no adapter");
  }
  std::vector<int8_t> wanted(tokens.size(), 1);
  llama_batch batch = llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()));
  batch.logits = wanted.data();
  if (llama_decode(context.get(), batch) != 0) throw Error("libllama cannot decode");
  const auto n_vocab = static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model.get())));
  std::vector<float> all;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const float* row = llama_get_logits_ith(context.get(), static_cast<int32_t>(i));
    all.insert(all.end(), row, row + n_vocab);
  }
  return all;
}

inline void expect_near(const std::vector<float>& got, const std::vector<float>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_LE(std::abs(got[i] - want[i]), tolerance) << i;
}

/// The largest difference; what a test needs to know that two things differ at all.
inline float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace haqa
