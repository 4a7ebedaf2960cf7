#pragma once
#include <filesystem>

#include "haqa/train/llama.h"

namespace haqa {

/// Writes what was trained into a folder: adapter.gguf, which stock llama.cpp takes with --lora, and adapter/, which
/// PEFT loads; or model.gguf, in the types of the file that was read (F16 for quantized ones), where every weight was
/// trained. Throws Error (no space).
void save(const Llama& llama, const std::filesystem::path& folder);

}  // namespace haqa
