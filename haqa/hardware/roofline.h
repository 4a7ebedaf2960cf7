#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "haqa/hardware/profile.h"

namespace haqa {

/// What generating one token costs in a GGUF type.
struct DecodeWork {
  std::string gguf_type;  ///< "F16", "Q8_0", "Q4_0"; others are taken for the nearest of these
  uint64_t bytes = 0;     ///< read per token: the weights and the keys and values so far
  double weights = 0;     ///< weights decoded and multiplied per token
};

struct Prediction {
  double tokens_per_s = 0;  ///< 0 where the profile knows too little
  double memory_s = 0;      ///< seconds a token spent reading
  double compute_s = 0;     ///< seconds a token spent unpacking and multiplying
  std::string why;          ///< in words: what decides it on this device
};

/// Generation speed by the roofline: reading at the device's bandwidth, then unpacking and multiplying at the rate that
/// its instruction sets allow for the type. The two are added, not overlapped, as stock llama.cpp on CPUs comes much
/// nearer to their sum. Rates are, in this order: profile.weight_rates (measured on such a device), matrix or vector
/// peaks of a GPU, and on a CPU the count of vector instructions that llama.cpp's dot products need for 32 weights.
Prediction predict_generation(const HardwareProfile& profile, const DecodeWork& work);

}  // namespace haqa
