#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace haqa {

/// A LLaMA to generate: random weights of a real model's shape with the real LLaMA-2 vocabulary, for tests of speed,
/// memory and numerical agreement where no trained model is at hand. It writes no sensible text.
struct ModelShape {
  std::string name;
  int n_layer = 2, n_embd = 256, n_head = 8, n_head_kv = 4, n_ff = 704, n_ctx_train = 2048;
  bool tied_output = false;
  int merges = 0;  ///< of the vocabulary, that stay (vocabulary_cut.h); 0: all
};

/// "tiny", "small", "demo" or any llama among architecture_names(). Throws UsageError that lists the names.
ModelShape model_shape(std::string_view name);

/// Writes the model as F16 GGUF; the same bytes for the same shape, vocabulary and seed on every machine.
/// vocabulary: a GGUF with tokenizer.ggml.* keys, such as llama.cpp's models/ggml-vocab-llama-spm.gguf.
/// progress: called with the share written, 0 to 1. Throws Error (no space, no vocabulary); nothing is left behind
/// then.
void make_model(const ModelShape& shape, const std::filesystem::path& vocabulary, uint64_t seed,
                const std::filesystem::path& file, const std::function<void(double)>& progress = {});

/// llama.cpp's LLaMA-2 vocabulary in the build that HAQA was linked with.
std::filesystem::path default_vocabulary();

}  // namespace haqa
