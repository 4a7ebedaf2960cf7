#pragma once
#include <gguf.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "haqa/model/model_info.h"

namespace haqa {

struct GgufDeleter {
  void operator()(gguf_context* context) const { gguf_free(context); }
};
using GgufPtr = std::unique_ptr<gguf_context, GgufDeleter>;

/// The header of a GGUF file: its keys and the list of its tensors, without their data.
class GgufFile {
 public:
  /// Safe on hostile files: at most 64 MB of the file are read, and the memory used stays within a few times that.
  /// Throws Error for: no such file, a folder, empty, not a GGUF, truncated or damaged.
  explicit GgufFile(std::filesystem::path file);

  const std::filesystem::path& file() const { return file_; }
  const gguf_context* context() const { return context_.get(); }
  uint64_t file_bytes() const { return file_bytes_; }

  /// An integer of any width, or an array whose elements are all equal (llama.cpp stores some keys once per layer).
  /// Empty where the key is missing. Throws Error where it has another type or lies outside [low, high].
  std::optional<int64_t> integer(const std::string& key, int64_t low, int64_t high) const;
  /// Text with what no terminal and no JSON can show replaced; empty where the key is missing or no text.
  std::string text(const std::string& key) const;
  std::vector<TensorInfo> tensors() const;

 private:
  std::filesystem::path file_;
  uint64_t file_bytes_ = 0;
  GgufPtr context_;
};

/// ggml's type of a name in capitals ("Q4_K"). Throws UsageError.
enum ggml_type ggml_type_named(std::string_view name);
/// "Q4_K".
std::string type_name(enum ggml_type type);

}  // namespace haqa
