#include "haqa/train/device_matrix.h"

#include "haqa/quantization/dynamic_map.h"

namespace haqa {
namespace {

using torch::Tensor;

template <typename Values>
Tensor tensor_on(at::Device device, const Values& values) {
  return torch::tensor(at::makeArrayRef(values.data(), values.size())).to(device);
}

/// With zeros behind it up to a multiple.
std::vector<uint8_t> filled_up(std::vector<uint8_t> values, size_t multiple) {
  values.resize((values.size() + multiple - 1) / multiple * multiple);
  return values;
}

/// What each byte stands for: the first value in its high nibble.
Tensor pairs_of(const std::array<float, 16>& codebook) {
  const Tensor values = torch::tensor(at::makeArrayRef(codebook.data(), codebook.size()));
  const Tensor bytes = at::arange(256);
  return at::stack({values.index_select(0, bytes.div(16, "floor")), values.index_select(0, bytes.remainder(16))}, 1);
}

/// values[codes], in the order of the codes.
Tensor looked_up(const Tensor& values, const Tensor& codes) {
  return values.index_select(0, codes.to(at::kInt));
}

}  // namespace

DeviceFourBit::DeviceFourBit(const Quantized4Bit& weights, int64_t columns, at::Device device)
    : rows_(weights.elements / columns),
      columns_(columns),
      blocks_(weights.blocks()),
      pairs_(pairs_of(codebook(weights.format)).to(device)),
      codes_(tensor_on(device, filled_up(weights.codes, kBlock4Bit / 2))),
      absmax_mean_(weights.absmax_mean) {
  if (!weights.doubly_quantized()) {
    absmax_ = tensor_on(device, weights.absmax);
    return;
  }
  map_ = tensor_on(device, signed_dynamic_map().values());
  absmax_codes_ = tensor_on(device, filled_up(weights.absmax_codes, kAbsmaxBlock));
  absmax_absmax_ = tensor_on(device, weights.absmax_absmax);
}

uint64_t DeviceFourBit::bytes() const {
  uint64_t sum = 0;
  for (const Tensor* tensor : {&pairs_, &codes_, &absmax_, &map_, &absmax_codes_, &absmax_absmax_})
    if (tensor->defined()) sum += tensor->nbytes();
  return sum;
}

Tensor DeviceFourBit::block_absmax() const {
  if (absmax_.defined()) return absmax_;
  // One operation after the other: together they might be rounded once.
  Tensor all = looked_up(map_, absmax_codes_).view({-1, kAbsmaxBlock}).mul_(absmax_absmax_.unsqueeze(1));
  return all.add_(absmax_mean_).flatten().narrow(0, 0, blocks_);
}

Tensor DeviceFourBit::whole(at::ScalarType dtype) const {
  Tensor all = looked_up(pairs_, codes_).view({blocks_, kBlock4Bit}).mul_(block_absmax().unsqueeze(1));
  return all.flatten().narrow(0, 0, rows_ * columns_).view({rows_, columns_}).to(dtype);
}

}  // namespace haqa
