#pragma once
#include <filesystem>

#include "haqa/adapter/adapter.h"

namespace haqa {

/// Writes the folder that Hugging Face's PEFT loads (PeftModel.from_pretrained): adapter_config.json and
/// adapter_model.safetensors (F32), in the names and the layout of the Hugging Face model. For llamas.
/// Throws Error (another model's adapter, another architecture, no space).
/// Source: PEFT 0.21, LoraConfig; LlamaModel.permute in llama.cpp's conversion/llama.py.
void write_peft(const LoraAdapter& adapter, const ModelInfo& model, const std::filesystem::path& folder);

/// Reads such a folder. Ranks and alphas that differ by module and rank-stabilized LoRA become one rank and one alpha:
/// smaller ranks are filled up with zeros and B is scaled. Throws Error for what no plain LoRA can express (DoRA,
/// trained biases, norms, embeddings, whole modules), damaged files and another model's adapter.
LoraAdapter read_peft(const std::filesystem::path& folder, const ModelInfo& model);

}  // namespace haqa
