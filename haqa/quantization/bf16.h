#pragma once
#include <bit>
#include <cstdint>

namespace haqa {

/// The upper half of a float, rounded to nearest, ties to even. Finite values only: what overflows becomes infinite.
constexpr uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace haqa
