#include "haqa/train/frozen_matrix.h"

#include "haqa/base/error.h"
#include "haqa/quantization/int8.h"
#include "haqa/quantization/nf4.h"
#include "haqa/train/matmul.h"

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

/// On a CPU products of integers; elsewhere the weights are made whole first, whose rounding is the same.
class Int8Matrix : public FrozenMatrix {
 public:
  static constexpr float kOutlier = 6;  // LLM.int8(), section 3.2

  Int8Matrix(const TensorData& data, const std::string& name)
      : weights_(quantize_rows(data.floats(name), data.info(name).shape.at(1), at::get_num_threads())) {}

  int64_t rows() const override { return weights_.rows; }
  int64_t columns() const override { return weights_.columns; }
  uint64_t bytes() const override { return static_cast<uint64_t>(weights_.bytes()); }

  torch::Tensor whole(at::ScalarType dtype, at::Device device) const override {
    torch::Tensor all = torch::empty({rows(), columns()}, at::kFloat);
    at::parallel_for(0, rows(), kRowsAtOnce, [&](int64_t first, int64_t last) {
      const auto count = static_cast<size_t>((last - first) * columns());
      dequantize_rows(weights_, first, std::span(all.data_ptr<float>() + first * columns(), count));
    });
    return all.to(device, dtype);
  }

  torch::Tensor times_transposed(const torch::Tensor& x) const override {
    if (!x.is_cpu()) return FrozenMatrix::times_transposed(x);
    const torch::Tensor wide = x.to(at::kFloat).contiguous();
    torch::Tensor y = torch::empty({x.size(0), rows()}, at::kFloat);
    int8_matmul(std::span(wide.const_data_ptr<float>(), static_cast<size_t>(wide.numel())), weights_, kOutlier,
                std::span(y.data_ptr<float>(), static_cast<size_t>(y.numel())), at::get_num_threads());
    return y.to(x.scalar_type());
  }

 private:
  const Int8Rows weights_;
};

}  // namespace

torch::Tensor FrozenMatrix::times_transposed(const torch::Tensor& x) const {
  return haqa::times_transposed(x, whole(x.scalar_type(), x.device()));
}

BaseFormat base_format_from(std::string_view name) {
  if (name == "gguf") return BaseFormat::gguf;
  if (name == "nf4") return BaseFormat::nf4;
  if (name == "nf4_double") return BaseFormat::nf4_double;
  if (name == "fp4") return BaseFormat::fp4;
  if (name == "int8") return BaseFormat::int8;
  throw UsageError("'{}' is no format of frozen weights; gguf, nf4, nf4_double, fp4 and int8 are", name);
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
    case BaseFormat::int8:
      return std::make_unique<Int8Matrix>(data, name);
  }
  return nullptr;
}

}  // namespace haqa
