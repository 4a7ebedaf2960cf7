#include "haqa/train/frozen_matrix.h"

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

}  // namespace

std::unique_ptr<FrozenMatrix> frozen_matrix(const TensorData& data, const std::string& name, BaseFormat format) {
  switch (format) {
    case BaseFormat::gguf:
      return std::make_unique<MappedMatrix>(data, name);
  }
  return nullptr;
}

}  // namespace haqa
