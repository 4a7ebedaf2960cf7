#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "haqa/base/error.h"
#include "haqa/train/torch.h"

namespace haqa {

/// A file that is no whole checkpoint.
class DamagedCheckpoint : public Error {
 public:
  using Error::Error;
};

/// What a training goes on from, by name.
using CheckpointEntries = c10::impl::GenericDict;
CheckpointEntries empty_checkpoint();

/// Tensors by name as an entry of a checkpoint, and back.
c10::IValue as_entry(const std::map<std::string, torch::Tensor>& tensors);
std::map<std::string, torch::Tensor> tensors_of(const c10::IValue& entry);

/// Writes the file whole or not at all. Throws Error (no space).
void write_checkpoint(const CheckpointEntries& checkpoint, const std::filesystem::path& file);

/// Hands what the file holds to `take`. Throws DamagedCheckpoint, and Error where an entry that `take` looks for is not
/// there or is something else.
void read_checkpoint(const std::filesystem::path& file, const std::function<void(const CheckpointEntries&)>& take);

/// The message of an Error about a checkpoint.
std::string checkpoint_error(const std::filesystem::path& file, std::string_view what);

}  // namespace haqa
