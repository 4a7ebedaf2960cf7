#include "haqa/onnx/onnx_model.h"

#include <onnx/onnx_pb.h>

#include <bit>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

using onnx::TensorProto;

constexpr int32_t kInt4 = 22;  // which Debian's headers are too old to name

/// The version of the file format that brought a version of the operators.
int64_t format_of(int64_t opset) {
  return opset >= 21 ? 10 : 7;
}

void describe(onnx::ValueInfoProto& value, const std::string& name, const std::vector<OnnxModel::Dimension>& shape) {
  value.set_name(name);
  onnx::TypeProto::Tensor& type = *value.mutable_type()->mutable_tensor_type();
  type.set_elem_type(TensorProto::FLOAT);
  for (const OnnxModel::Dimension& dimension : shape) {
    onnx::TensorShapeProto::Dimension& to = *type.mutable_shape()->add_dim();
    if (const auto* length = std::get_if<int64_t>(&dimension))
      to.set_dim_value(*length);
    else
      to.set_dim_param(std::get<std::string>(dimension));
  }
}

void set(onnx::AttributeProto& to, const OnnxModel::Attribute& from) {
  to.set_name(from.first);
  if (const auto* number = std::get_if<int64_t>(&from.second)) {
    to.set_type(onnx::AttributeProto::INT);
    to.set_i(*number);
  } else {
    to.set_type(onnx::AttributeProto::INTS);
    for (const int64_t entry : std::get<std::vector<int64_t>>(from.second)) to.add_ints(entry);
  }
}

}  // namespace

OnnxModel::OnnxModel(const std::string& name, int64_t opset) : model_(std::make_unique<onnx::ModelProto>()) {
  model_->set_ir_version(format_of(opset));
  model_->set_producer_name("haqa");
  model_->set_producer_version(HAQA_VERSION);
  onnx::OperatorSetIdProto& operators = *model_->add_opset_import();
  operators.set_domain("");
  operators.set_version(opset);
  model_->mutable_graph()->set_name(name);
}

OnnxModel::~OnnxModel() = default;

std::string OnnxModel::input(const std::string& name, const std::vector<Dimension>& shape) {
  describe(*model_->mutable_graph()->add_input(), name, shape);
  return name;
}

std::string OnnxModel::output(const std::string& name, const std::vector<Dimension>& shape) {
  describe(*model_->mutable_graph()->add_output(), name, shape);
  return name;
}

TensorProto& OnnxModel::tensor(const std::string& name, const std::vector<int64_t>& shape, int32_t type) {
  TensorProto& made = *model_->mutable_graph()->add_initializer();
  made.set_name(name);
  made.set_data_type(type);
  for (const int64_t length : shape) made.add_dims(length);
  return made;
}

template <typename T>
std::string OnnxModel::plain(const std::string& name, const std::vector<int64_t>& shape, int32_t type,
                             std::span<const T> numbers) {
  static_assert(std::endian::native == std::endian::little, "ONNX has the least byte first");
  tensor(name, shape, type).set_raw_data(numbers.data(), numbers.size_bytes());
  return name;
}

std::string OnnxModel::constant(const std::string& name, const std::vector<int64_t>& shape,
                                std::span<const float> numbers) {
  return plain(name, shape, TensorProto::FLOAT, numbers);
}
std::string OnnxModel::constant(const std::string& name, const std::vector<int64_t>& shape,
                                std::span<const int8_t> numbers) {
  return plain(name, shape, TensorProto::INT8, numbers);
}
std::string OnnxModel::constant(const std::string& name, const std::vector<int64_t>& shape,
                                std::span<const uint8_t> numbers) {
  return plain(name, shape, TensorProto::UINT8, numbers);
}
std::string OnnxModel::constant(const std::string& name, const std::vector<int64_t>& shape,
                                std::span<const int32_t> numbers) {
  return plain(name, shape, TensorProto::INT32, numbers);
}
std::string OnnxModel::constant(const std::string& name, const std::vector<int64_t>& shape,
                                std::span<const int64_t> numbers) {
  return plain(name, shape, TensorProto::INT64, numbers);
}

std::string OnnxModel::constant_of_4_bits(const std::string& name, const std::vector<int64_t>& shape,
                                          std::span<const int8_t> numbers) {
  std::string bytes((numbers.size() + 1) / 2, '\0');
  for (size_t i = 0; i < numbers.size(); ++i) {
    const int half = (numbers[i] & 15) << (i % 2 * 4);
    bytes[i / 2] = static_cast<char>(bytes[i / 2] | half);
  }
  tensor(name, shape, kInt4).set_raw_data(std::move(bytes));
  return name;
}

std::string OnnxModel::node(const std::string& name, const std::string& operation,
                            const std::vector<std::string>& inputs, const std::vector<Attribute>& attributes) {
  onnx::NodeProto& made = *model_->mutable_graph()->add_node();
  made.set_name(name);
  made.set_op_type(operation);
  for (const std::string& input : inputs) made.add_input(input);
  made.add_output(name);
  for (const Attribute& attribute : attributes) set(*made.add_attribute(), attribute);
  return name;
}

void OnnxModel::note(const std::string& key, const std::string& value) {
  onnx::StringStringEntryProto& entry = *model_->add_metadata_props();
  entry.set_key(key);
  entry.set_value(value);
}

void OnnxModel::write(const std::filesystem::path& file) const {
  std::string bytes;
  if (!model_->SerializeToString(&bytes)) throw Error("{}: the model is too large for a file of ONNX", file.string());
  write_file(file, bytes);
}

}  // namespace haqa
