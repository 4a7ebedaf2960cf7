#include "haqa/train/frozen_matrix.h"

#include "haqa/base/error.h"
#include "haqa/quantization/nf4.h"

namespace haqa {
namespace {

constexpr int64_t kRowsAtOnce = 16;

/// Dequantized by ggml from the mapped file.
class MappedMatrix : public FrozenMatrix {
 public:
  MappedMatrix(const TensorData& data, const std::string& name)
      : data_(data), name_(name), rows_(data.info(name).shape.at(1)), columns_(data.info(name).shape.at(0)) {}

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }
  uint64_t bytes() const override { return data_.info(name_).bytes; }

  torch::Tensor whole(at::ScalarType dtype, at::Device device) const override {
    torch::Tensor all = torch::empty({rows_, columns_}, at::kFloat);
    float* out = all.data_ptr<float>();
    at::parallel_for(0, (rows_ + kRowsAtOnce - 1) / kRowsAtOnce, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kRowsAtOnce, last = std::min(end * kRowsAtOnce, rows_);
      data_.read_rows(name_, first, last - first,
                      {out + first * columns_, static_cast<size_t>((last - first) * columns_)});
    });
    return all.to(device, dtype);
  }

 private:
  const TensorData& data_;
  const std::string name_;
  const int64_t rows_, columns_;
};

/// Quantized when it is read, a part of the rows at a time, and dequantized on all cores.
class FourBitMatrix : public FrozenMatrix {
 public:
  FourBitMatrix(const TensorData& data, const std::string& name, Format4Bit format, bool double_quantization)
      : rows_(data.info(name).shape.at(1)),
        columns_(data.info(name).shape.at(0)),
        weights_(quantize_4bit(data.floats(name), format, double_quantization, at::get_num_threads())) {}

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }
  uint64_t bytes() const override { return static_cast<uint64_t>(weights_.bytes()); }

  torch::Tensor whole(at::ScalarType dtype, at::Device device) const override {
    const bool narrow = dtype == at::kBFloat16;
    torch::Tensor all = torch::empty({rows_, columns_}, narrow ? at::kBFloat16 : at::kFloat);
    // libtorch's threads are there already; starting others for each matrix would cost more than the work.
    const int64_t blocks = weights_.blocks();
    at::parallel_for(0, blocks, 256, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kBlock4Bit, last = std::min(end * kBlock4Bit, weights_.elements);
      const auto count = static_cast<size_t>(last - first);
      if (narrow)
        dequantize(weights_, first, std::span(reinterpret_cast<uint16_t*>(all.data_ptr()) + first, count));
      else
        dequantize(weights_, first, std::span(all.data_ptr<float>() + first, count));
    });
    return all.to(device, dtype);
  }

 private:
  const int64_t rows_, columns_;
  const Quantized4Bit weights_;
};

}  // namespace

BaseFormat base_format_from(std::string_view name) {
  if (name == "gguf") return BaseFormat::gguf;
  if (name == "nf4") return BaseFormat::nf4;
  if (name == "nf4_double") return BaseFormat::nf4_double;
  if (name == "fp4") return BaseFormat::fp4;
  throw UsageError("'{}' is no format of frozen weights; gguf, nf4, nf4_double and fp4 are", name);
}

std::unique_ptr<FrozenMatrix> frozen_matrix(const TensorData& data, const std::string& name, BaseFormat format) {
  switch (format) {
    case BaseFormat::gguf:
      return std::make_unique<MappedMatrix>(data, name);
    case BaseFormat::nf4:
    case BaseFormat::nf4_double:
      return std::make_unique<FourBitMatrix>(data, name, Format4Bit::nf4, format == BaseFormat::nf4_double);
    case BaseFormat::fp4:
      return std::make_unique<FourBitMatrix>(data, name, Format4Bit::fp4, false);
  }
  return nullptr;
}

}  // namespace haqa
