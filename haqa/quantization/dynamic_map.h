#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace haqa {

/// An 8-bit number format: 256 values in rising order, those near zero closer together.
class DynamicMap {
 public:
  enum class Sign { both, positive };
  /// Seven exponent bits at most, the rest fraction, as bitsandbytes' create_dynamic_map(signed), bit for bit: both
  /// signs reach from -0.993 to 1 (there is no -1), positive ones from 0 to 1.
  /// Source: Dettmers, 8-Bit Approximations for Parallelism in Deep Learning, arXiv:1511.04561.
  explicit DynamicMap(Sign sign);

  const std::array<float, 256>& values() const { return values_; }
  float operator[](uint8_t code) const { return values_[code]; }
  /// The nearest value's; in the middle between two, the lower one's.
  uint8_t code(float value) const {
    const uint8_t start = start_[std::bit_cast<uint32_t>(value) >> 16];
    return static_cast<uint8_t>(start + (value > bounds_[start]));
  }

 private:
  std::array<float, 256> values_;
  std::array<float, 256> bounds_;  ///< the middle between a value and the next; none follows the last: infinity
  /// By the upper half of a float's bits: how many bounds lie below all floats that share it. Among these lies one
  /// more bound at most, so that one comparison finds the code.
  std::vector<uint8_t> start_;
};

/// Made once; what double quantization and the states of 8-bit AdamW use.
const DynamicMap& signed_dynamic_map();
const DynamicMap& unsigned_dynamic_map();

/// Values in one block, which share one absmax, of the states of 8-bit optimizers.
inline constexpr int64_t kBlock8Bit = 256;

/// codes: as many as values; absmax: one a block of 256, the last block may be shorter. The nearest value of the map
/// after multiplication by 1 / absmax, so that a value is about map[code] * absmax; a block of zeros has absmax 0 and
/// the code of 0. Throws Error where a value is infinite or not a number, or where the sizes do not fit. Source:
/// bitsandbytes 0.50.2, quantize_blockwise; its own lookup on CPUs sees steps of 1/65536 alone, which loses values
/// below 1e-5 of a block's largest; ours does not.
void quantize_blockwise(const DynamicMap& map, std::span<const float> values, std::span<uint8_t> codes,
                        std::span<float> absmax);

}  // namespace haqa
