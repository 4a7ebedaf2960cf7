#pragma once
#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "haqa/model/gguf_file.h"

namespace haqa {

/// The weights of a GGUF file, mapped into memory: pages are read as they are touched.
class TensorData {
 public:
  /// Throws Error as GgufFile and GgufFile::tensors() do.
  explicit TensorData(const std::filesystem::path& file);
  ~TensorData();
  TensorData(const TensorData&) = delete;
  TensorData& operator=(const TensorData&) = delete;

  const GgufFile& header() const { return header_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  bool contains(const std::string& name) const;
  /// Throws Error that names the file where it holds no such tensor.
  const TensorInfo& info(const std::string& name) const;
  /// As stored, in the tensor's own type.
  std::span<const std::byte> bytes(const std::string& name) const;
  /// `rows` rows from `first` on as floats, dequantized by ggml; out holds rows * the row's length (shape[0]).
  /// A tensor of more than two dimensions counts all others as rows.
  void read_rows(const std::string& name, int64_t first, int64_t rows, std::span<float> out) const;
  /// Tells models of one shape apart by the beginning of each tensor, without reading all of a large file.
  uint64_t fingerprint() const;
  /// All of it.
  std::vector<float> floats(const std::string& name) const;

 private:
  /// Rows are read by the thousand, so that a tensor must be found at once.
  struct Place {
    size_t index = 0, offset = 0;
    enum ggml_type type = GGML_TYPE_F32;
  };
  const Place& place(const std::string& name) const;

  GgufFile header_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, Place> places_;
  std::span<const std::byte> mapped_;
};

}  // namespace haqa
