#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "haqa/model/model_info.h"
#include "haqa/worker/worker.h"

namespace haqa {

/// "tinyllama" of "tinyllama-f16.gguf": the base of the names of quantized files.
std::string model_stem(const std::filesystem::path& file);

/// Writes `model` in another GGUF type with llama.cpp's quantizer, in a worker; the file is there whole or not at all.
/// Does nothing where `output` exists already. Throws Error (no space), WorkerError (llama.cpp refuses).
/// allow_requantize: accept a source that is quantized already, at a loss.
void quantize_model(const ModelInfo& model, std::string_view gguf_type, const std::filesystem::path& output,
                    bool allow_requantize, const std::function<void(double)>& progress = {});

}  // namespace haqa
