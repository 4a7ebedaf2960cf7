#pragma once
#include <filesystem>
#include <string_view>

#include "haqa/base/progress.h"

namespace haqa {

/// Writes the model in a Hugging Face folder as GGUF, by llama.cpp's own converter, whole or not at all.
/// type: "f16", "bf16" or "f32".
/// Throws Error: no such model, unsupported by the converter, code of its own, no space, no Python environment.
void convert_folder(const std::filesystem::path& folder, std::string_view type, const std::filesystem::path& file,
                    Progress& progress);

/// The Python that runs the converter, in a virtual environment in the cache folder with what the converter needs. The
/// first call makes it, which takes a minute and needs a network; several processes at once make it once.
/// Throws Error that says what pip said; the next call tries again.
std::filesystem::path converter_python(Progress& progress);

/// llama.cpp's folder with convert_hf_to_gguf.py. Throws Error where HAQA was built with a llama.cpp without its
/// source.
std::filesystem::path converter_folder();

}  // namespace haqa
