#include "haqa/quantization/dynamic_map.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "haqa/base/error.h"

namespace haqa {
namespace {

/// count + 1 numbers from 0.1 to 1, each from the nearer end and rounded once, as torch.linspace does in float.
std::vector<float> boundaries(int count) {
  const float step = (1.0f - 0.1f) / static_cast<float>(count);
  std::vector<float> all;
  for (int i = 0; i <= count; ++i)
    all.push_back(i < (count + 1) / 2 ? std::fma(step, static_cast<float>(i), 0.1f)
                                      : std::fma(-step, static_cast<float>(count - i), 1.0f));
  return all;
}

}  // namespace

DynamicMap::DynamicMap(Sign sign) {
  constexpr int kExponents = 7;
  std::vector<float> all = {0, 1};
  for (int i = 0; i < kExponents; ++i) {
    const auto power = static_cast<float>(std::pow(10.0, i - (kExponents - 1)));
    const std::vector<float> edges = boundaries(sign == Sign::both ? 1 << i : 2 << i);
    for (size_t k = 0; k + 1 < edges.size(); ++k) {
      const float value = power * ((edges[k] + edges[k + 1]) / 2);
      all.push_back(value);
      if (sign == Sign::both) all.push_back(-value);
    }
  }
  std::sort(all.begin(), all.end());
  std::copy(all.begin(), all.end(), values_.begin());

  for (size_t i = 0; i < 255; ++i) bounds_[i] = (values_[i] + values_[i + 1]) / 2;
  bounds_[255] = std::numeric_limits<float>::infinity();

  start_.resize(1 << 16);
  for (uint32_t upper = 0; upper < start_.size(); ++upper) {
    const bool negative = upper >> 15;
    const auto lowest = std::bit_cast<float>(upper << 16 | (negative ? 0xffff : 0));
    const auto below = std::lower_bound(bounds_.begin(), bounds_.end() - 1, lowest) - bounds_.begin();
    start_[upper] = static_cast<uint8_t>(below);
  }
}

const DynamicMap& signed_dynamic_map() {
  static const DynamicMap map(DynamicMap::Sign::both);
  return map;
}

const DynamicMap& unsigned_dynamic_map() {
  static const DynamicMap map(DynamicMap::Sign::positive);
  return map;
}

void quantize_blockwise(const DynamicMap& map, std::span<const float> values, std::span<uint8_t> codes,
                        std::span<float> absmax) {
  constexpr auto kBlock = static_cast<size_t>(kBlock8Bit);
  if (codes.size() != values.size() || absmax.size() != (values.size() + kBlock - 1) / kBlock)
    throw Error("{} values were to be quantized to {} codes and {} absmax", values.size(), codes.size(), absmax.size());
  for (size_t block = 0; block < absmax.size(); ++block) {
    const auto part = values.subspan(block * kBlock, std::min(kBlock, values.size() - block * kBlock));
    float largest = 0;
    for (const float value : part) {
      if (!std::isfinite(value)) throw Error("{} cannot be quantized: the numbers before it went wrong", value);
      largest = std::max(largest, std::abs(value));
    }
    absmax[block] = largest;
    const float scale = 1 / std::max(largest, 1e-38f);
    for (size_t i = 0; i < part.size(); ++i) codes[block * kBlock + i] = map.code(part[i] * scale);
  }
}

}  // namespace haqa
