#include "haqa/evaluate/llama_handles.h"

#include <algorithm>
#include <thread>

#include "haqa/base/error.h"

namespace haqa {

LlamaModel load_model(const std::filesystem::path& gguf) {
  LlamaModel model(llama_model_load_from_file(gguf.c_str(), llama_model_default_params()));
  if (!model) throw Error("{}: llama.cpp cannot load it; is it a complete GGUF of a supported model?", gguf.string());
  return model;
}

llama_flash_attn_type flash_type(std::string_view name) {
  if (name == "on") return LLAMA_FLASH_ATTN_TYPE_ENABLED;
  if (name == "off") return LLAMA_FLASH_ATTN_TYPE_DISABLED;
  if (name == "auto") return LLAMA_FLASH_ATTN_TYPE_AUTO;
  throw Error("\"{}\" is no setting of flash attention; use on, off or auto", name);
}

int threads_or_all(int threads) {
  return threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace haqa
