#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace haqa {

/// A file of Hugging Face's safetensors: tensors by name, without code. The header is read at once, data when asked
/// for. Source: https://huggingface.co/docs/safetensors, "Format".
class SafetensorsFile {
 public:
  struct Tensor {
    std::string type;  ///< "F32", "BF16", "I8", ...
    std::vector<int64_t> shape;
    uint64_t begin = 0, end = 0;  ///< bytes from the start of the data
    int64_t elements() const;
  };

  /// Safe on hostile files: the memory used stays within a few times the header, which is 16 MB at most.
  /// Throws Error: no such file, no safetensors, truncated, shapes that contradict sizes, data with holes or overlaps.
  explicit SafetensorsFile(std::filesystem::path file);

  const std::filesystem::path& file() const { return file_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  /// Texts beside the tensors.
  const std::map<std::string, std::string>& notes() const { return notes_; }
  /// Throws Error where there is no such tensor, or it is neither F32 nor F16 nor BF16.
  std::vector<float> floats(const std::string& name) const;

 private:
  std::filesystem::path file_;
  uint64_t data_ = 0;  ///< where the data starts
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> notes_;
};

/// A tensor to write, as F32; the numbers are the caller's.
struct TensorToSave {
  std::string name;
  std::vector<int64_t> shape;  ///< row-major: the row's length last
  std::span<const float> numbers;
};

/// Writes the file whole or not at all, with texts beside the tensors. Throws Error (no space, no permission).
void write_safetensors(const std::vector<TensorToSave>& tensors, const std::filesystem::path& file,
                       const std::map<std::string, std::string>& notes = {});

}  // namespace haqa
