#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "haqa/base/descriptor.h"
#include "haqa/base/file.h"
#include "haqa/model/gguf_file.h"

namespace haqa {

/// Adds tensors to a header, without data; their places in the file follow from the order.
void add_tensors(gguf_context* to, const std::vector<TensorInfo>& tensors);

/// A GGUF file in the making: its header is written at once, the data of its tensors in any order and by several
/// threads; the file is there after commit(), or not at all.
class GgufWriter {
 public:
  /// header: keys and tensors, complete. purpose: "the model", for the message where the disk is too full.
  /// Throws Error (no space, no permission).
  GgufWriter(GgufPtr header, const std::filesystem::path& file, std::string_view purpose);

  /// Writes part of the i-th tensor's data, from its byte `offset` on. Throws Error.
  void write(size_t tensor, uint64_t offset, std::span<const std::byte> data) const;
  /// All of the tensors' data must have been written. Throws Error.
  void commit();

 private:
  GgufPtr header_;
  std::filesystem::path file_;
  PendingFile pending_;
  Descriptor fd_;
};

}  // namespace haqa
