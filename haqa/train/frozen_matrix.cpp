#include "haqa/train/frozen_matrix.h"

#include "haqa/base/error.h"
#include "haqa/quantization/nf4.h"
#include "haqa/train/device_matrix.h"
#include "haqa/train/loop.h"
#include "haqa/train/matmul.h"

namespace haqa {
namespace {

constexpr int64_t kRowsAtOnce = 16;
constexpr int64_t kNumbersAtOnce = 1 << 14;

std::span<const float> span_of(const torch::Tensor& floats) {
  return {floats.const_data_ptr<float>(), static_cast<size_t>(floats.numel())};
}

Quantized4Bit four_bits(const TensorData& data, const std::string& name, BaseFormat format) {
  return quantize_4bit(data.floats(name), format == BaseFormat::fp4 ? Format4Bit::fp4 : Format4Bit::nf4,
                       format == BaseFormat::nf4_double, on_libtorchs_threads);
}

/// A new tensor [rows, columns], floats or bf16, as dequantize(first, count, out) fills it: `out` are the numbers from
/// `first` on. Parts begin at multiples of `unit` numbers.
template <typename Dequantize>
torch::Tensor dequantized(at::IntArrayRef sizes, at::ScalarType dtype, int64_t unit, const Dequantize& dequantize) {
  const bool narrow = dtype == at::kBFloat16;
  torch::Tensor all = torch::empty(sizes, narrow ? at::kBFloat16 : at::kFloat);
  const int64_t numbers = all.numel();
  at::parallel_for(0, (numbers + unit - 1) / unit, std::max<int64_t>(1, kNumbersAtOnce / unit),
                   [&](int64_t begin, int64_t end) {
                     const int64_t first = begin * unit;
                     const auto count = static_cast<size_t>(std::min(end * unit, numbers) - first);
                     if (narrow)
                       dequantize(first, std::span(reinterpret_cast<uint16_t*>(all.data_ptr()) + first, count));
                     else
                       dequantize(first, std::span(all.data_ptr<float>() + first, count));
                   });
  return all;
}

/// Dequantized by ggml from the mapped file.
class MappedMatrix : public FrozenMatrix {
 public:
  MappedMatrix(const TensorData& data, const std::string& name)
      : data_(data), name_(name), rows_(data.info(name).shape.at(1)), columns_(data.info(name).shape.at(0)) {}

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }
  uint64_t bytes() const override { return data_.info(name_).bytes; }

  torch::Tensor whole(at::ScalarType dtype) const override {
    torch::Tensor all = torch::empty({rows_, columns_}, at::kFloat);
    float* out = all.data_ptr<float>();
    at::parallel_for(0, (rows_ + kRowsAtOnce - 1) / kRowsAtOnce, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kRowsAtOnce, last = std::min(end * kRowsAtOnce, rows_);
      data_.read_rows(name_, first, last - first,
                      {out + first * columns_, static_cast<size_t>((last - first) * columns_)});
    });
    return all.to(dtype);
  }

 private:
  const TensorData& data_;
  const std::string name_;
  const int64_t rows_, columns_;
};

/// Quantized when it is read, a part of the rows at a time, and dequantized on all cores.
class FourBitMatrix : public FrozenMatrix {
 public:
  FourBitMatrix(const TensorData& data, const std::string& name, BaseFormat format)
      : rows_(data.info(name).shape.at(1)),
        columns_(data.info(name).shape.at(0)),
        weights_(four_bits(data, name, format)) {}

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }
  uint64_t bytes() const override { return static_cast<uint64_t>(weights_.bytes()); }

  torch::Tensor whole(at::ScalarType dtype) const override {
    return dequantized({rows_, columns_}, dtype, kBlock4Bit,
                       [&](int64_t first, auto out) { dequantize(weights_, first, out); });
  }

 private:
  const int64_t rows_, columns_;
  const Quantized4Bit weights_;
};

/// Products of integers.
class Int8Matrix : public FrozenMatrix {
 public:
  static constexpr float kOutlier = 6;  // LLM.int8(), section 3.2

  Int8Matrix(const TensorData& data, const std::string& name)
      : weights_(quantize_rows(data.floats(name), data.info(name).shape.at(1), on_libtorchs_threads)) {}

  int64_t rows() const override { return weights_.rows; }
  int64_t columns() const override { return weights_.columns; }
  uint64_t bytes() const override { return static_cast<uint64_t>(weights_.bytes()); }

  torch::Tensor whole(at::ScalarType dtype) const override {
    return dequantized({rows(), columns()}, dtype, columns(),
                       [&](int64_t first, auto out) { dequantize_rows(weights_, first / columns(), out); });
  }

  torch::Tensor times_transposed(const torch::Tensor& x, SharedInput& shared) const override {
    if (!shared.int8)
      quantize_activations(span_of(x.to(at::kFloat).contiguous()), columns(), kOutlier, shared.int8.emplace(),
                           on_libtorchs_threads);
    torch::Tensor y = torch::empty({x.size(0), rows()}, at::kFloat);
    int8_matmul(*shared.int8, weights_, {y.data_ptr<float>(), static_cast<size_t>(y.numel())}, on_libtorchs_threads);
    return y.to(x.scalar_type());
  }

 private:
  const Int8Rows weights_;
};

}  // namespace

torch::Tensor FrozenMatrix::times_transposed(const torch::Tensor& x, SharedInput&) const {
  return haqa::times_transposed(x, whole(x.scalar_type()));
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
    case BaseFormat::fp4:
      return std::make_unique<FourBitMatrix>(data, name, format);
    case BaseFormat::int8:
      return std::make_unique<Int8Matrix>(data, name);
  }
  return nullptr;
}

std::unique_ptr<FrozenMatrix> frozen_matrix_on(at::Device device, at::ScalarType compute, const TensorData& data,
                                               const std::string& name, BaseFormat format) {
  if (device.is_cpu()) return frozen_matrix(data, name, format);
  if (format == BaseFormat::int8)
    throw UsageError("base int8 is for cpu, as products of integers are made there; on cuda take nf4_double");
  if (format == BaseFormat::gguf)
    return std::make_unique<DenseMatrix>(frozen_matrix(data, name, format)->whole(compute).to(device));
  return std::make_unique<DeviceFourBit>(four_bits(data, name, format), data.info(name).shape.at(0), device);
}

}  // namespace haqa
