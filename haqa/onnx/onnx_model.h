#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace onnx {
class ModelProto;
class TensorProto;
}  // namespace onnx

namespace haqa {

/// A model in ONNX's format while it is put together: nodes in the order in which they are computed, each with one
/// output, which is named as the node is. Source: https://onnx.ai/onnx/repo-docs/IR.html.
class OnnxModel {
 public:
  /// A length that is known, or the name of one that is not.
  using Dimension = std::variant<int64_t, std::string>;
  using Attribute = std::pair<std::string, std::variant<int64_t, std::vector<int64_t>>>;

  /// opset: the version of the operators, 13 or above; 4-bit numbers are known from 21 on.
  OnnxModel(const std::string& name, int64_t opset);
  ~OnnxModel();

  /// Both of floats. Return the name.
  std::string input(const std::string& name, const std::vector<Dimension>& shape);
  std::string output(const std::string& name, const std::vector<Dimension>& shape);

  /// Numbers of the model's own, row-major. Return the name.
  std::string constant(const std::string& name, const std::vector<int64_t>& shape, std::span<const float> numbers);
  std::string constant(const std::string& name, const std::vector<int64_t>& shape, std::span<const int8_t> numbers);
  std::string constant(const std::string& name, const std::vector<int64_t>& shape, std::span<const uint8_t> numbers);
  std::string constant(const std::string& name, const std::vector<int64_t>& shape, std::span<const int32_t> numbers);
  std::string constant(const std::string& name, const std::vector<int64_t>& shape, std::span<const int64_t> numbers);
  /// Of -8 to 7, two in a byte.
  std::string constant_of_4_bits(const std::string& name, const std::vector<int64_t>& shape,
                                 std::span<const int8_t> numbers);

  /// An empty input is one left out. Returns the name.
  std::string node(const std::string& name, const std::string& operation, const std::vector<std::string>& inputs,
                   const std::vector<Attribute>& attributes = {});

  /// What others read beside the graph.
  void note(const std::string& key, const std::string& value);

  /// Writes the file whole or not at all. Throws Error (no space, no permission).
  void write(const std::filesystem::path& file) const;

 private:
  onnx::TensorProto& tensor(const std::string& name, const std::vector<int64_t>& shape, int32_t type);
  template <typename T>
  std::string plain(const std::string& name, const std::vector<int64_t>& shape, int32_t type,
                    std::span<const T> numbers);

  std::unique_ptr<onnx::ModelProto> model_;
};

/// The numbers that ONNX has for the types of tensors: TensorProto.DataType.
inline constexpr int64_t kOnnxFloat = 1, kOnnxInt8 = 3;

}  // namespace haqa
