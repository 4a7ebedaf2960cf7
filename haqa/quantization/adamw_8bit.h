#pragma once
#include <cstdint>
#include <span>

#include "haqa/quantization/parallel.h"
#include "haqa/quantization/simd.h"

namespace haqa {

struct AdamW8Bit {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};

/// The moments of one parameter, kept by the caller, in memory or in a mapped file: 2 bytes a value and 8 a block. At
/// the start all zeros. codes: as many as weights; absmax: one a block of 256 (kBlock8Bit), the last may be shorter.
struct AdamW8BitState {
  std::span<uint8_t> m_codes;  ///< the mean of gradients, of signed_dynamic_map()
  std::span<float> m_absmax;
  std::span<uint8_t> v_codes;  ///< the mean of their squares, of unsigned_dynamic_map()
  std::span<float> v_absmax;
};

/// One step of AdamW in float with both moments in 8 bits between steps. step: 1 for the first. A second moment above
/// zero never becomes zero, so that no first moment is divided by epsilon alone where a gradient vanishes: bitsandbytes
/// lets that happen.
/// Throws Error, and changes nothing, where a gradient is not below 1e19 in size, as its square would be no
/// float, and where sizes do not fit. Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization,
/// arXiv:2110.02861; the order of operations is that of bitsandbytes 0.50.2, optimizer_update_8bit_blockwise on CPUs.
void adamw_8bit_step(std::span<float> weights, std::span<const float> gradient, const AdamW8BitState& state,
                     const AdamW8Bit& hyperparameters, int64_t step, const Loop& loop = in_turn,
                     Simd simd = best_simd());

}  // namespace haqa
