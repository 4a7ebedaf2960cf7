#pragma once
#include <llama.h>

#include <filesystem>
#include <memory>
#include <string_view>

namespace haqa {

/// llama.cpp's handles, freed at the end.
struct FreeLlama {
  void operator()(llama_model* model) const { llama_model_free(model); }
  void operator()(llama_context* context) const { llama_free(context); }
};
using LlamaModel = std::unique_ptr<llama_model, FreeLlama>;
using LlamaContext = std::unique_ptr<llama_context, FreeLlama>;

/// Throws Error where llama.cpp cannot load the file.
LlamaModel load_model(const std::filesystem::path& gguf);

/// "on", "off" or "auto". Throws Error.
llama_flash_attn_type flash_type(std::string_view name);

/// 0: all cores.
int threads_or_all(int threads);

}  // namespace haqa
