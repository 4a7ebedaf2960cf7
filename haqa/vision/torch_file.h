#pragma once
#include <filesystem>
#include <map>
#include <string>

#include "haqa/train/torch.h"

namespace haqa {

/// The tensors of a file of torch.save(), in its present form, a zip file, or in that before PyTorch 1.6: those of a
/// dictionary by name, or of the first such dictionary in it under "state_dict", "model", "net" or the like. Code and
/// objects that are no tensors are passed over, never run. Tensors share numbers where they do in the file. Safe on
/// hostile files: tensors take no more memory than the file has bytes. Throws Error: damaged, or no such file.
std::map<std::string, torch::Tensor> read_torch_file(const std::filesystem::path& file, bool zip);

}  // namespace haqa
