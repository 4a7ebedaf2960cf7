#pragma once
#include <filesystem>
#include <string_view>

#include "haqa/adapter/adapter.h"

namespace haqa {

/// Writes the adapter as stock llama.cpp takes it (`llama-cli --lora FILE`, llama_adapter_lora_init), whole or not at
/// all. type: "F32" or "F16". Throws Error (another model's adapter, no space).
/// Source: llama.cpp's src/llama-adapter.cpp and convert_lora_to_gguf.py.
void write_gguf(const LoraAdapter& adapter, const ModelInfo& model, const std::filesystem::path& file,
                std::string_view type = "F32");

/// Reads such a file, of any type; safe on hostile ones. Throws Error: no adapter, damaged, one that changes more than
/// matrices, another model's.
LoraAdapter read_gguf_adapter(const std::filesystem::path& file, const ModelInfo& model);

}  // namespace haqa
