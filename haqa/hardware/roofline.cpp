#include "haqa/hardware/roofline.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "haqa/base/bytes.h"

namespace haqa {
namespace {

enum class Format { f16, q8, q4 };

Format format_of(std::string_view gguf_type) {
  if (gguf_type.starts_with("F") || gguf_type.starts_with("BF")) return Format::f16;
  // The first digit is the number of bits: Q5_K_M is nearer to 4 than to 8, Q6_K is not.
  const size_t digit = gguf_type.find_first_of("123456789");
  if (digit == std::string_view::npos) return Format::f16;
  return gguf_type[digit] <= '5' ? Format::q4 : Format::q8;
}

struct Rate {
  double weights_per_s = 0;
  std::string why;
};

/// Vector instructions for 32 weights in llama.cpp's vec_dot for F16, Q8_0 and Q4_0 (ggml-cpu/arch), loads included:
/// F16 converts to fp32 and multiplies; Q8_0 multiplies bytes and scales; Q4_0 shifts, masks and subtracts first.
struct InstructionSet {
  const char* needs;
  int lanes;  ///< fp32 numbers in a vector
  std::array<double, 3> instructions;
  const char* words;
};
constexpr std::array kInstructionSets = {
    InstructionSet{"avx512_vnni", 16, {6, 7, 10}, "AVX-512 VNNI multiplies and adds bytes in one instruction"},
    InstructionSet{"avx_vnni", 8, {12, 8, 11}, "AVX-VNNI multiplies and adds bytes in one instruction"},
    InstructionSet{"avx2", 8, {12, 9, 13}, "AVX2 without VNNI multiplies bytes in two steps (maddubs, madd)"},
    InstructionSet{"i8mm", 4, {20, 8, 12}, "Arm i8mm multiplies 2x8 by 8x2 bytes in one instruction"},
    InstructionSet{"dotprod", 4, {20, 9, 13}, "Arm dotprod multiplies and adds bytes in one instruction"},
    InstructionSet{"neon", 4, {24, 16, 20}, "NEON without dotprod widens bytes before it multiplies them"},
};

Rate cpu_rate(const HardwareProfile& profile, Format format) {
  for (const InstructionSet& set : kInstructionSets) {
    if (!profile.has(set.needs) || profile.peak.fp32 <= 0) continue;
    const double instructions_per_s = profile.peak.fp32 / (2.0 * set.lanes);
    const double needed = set.instructions[static_cast<size_t>(format)];
    std::string why = set.words;
    if (format == Format::q4) why += "; 4-bit weights are not native and are unpacked by shifts and masks first";
    if (format == Format::f16) why = "16-bit weights are converted to fp32 before they are multiplied";
    return {instructions_per_s / needed * 32, why};
  }
  return {};
}

/// A multiply-add is two operations. A type without native arithmetic is unpacked by ordinary fp16 instructions:
/// one conversion for 8 bits; shift, mask, offset and conversion for 4 bits.
Rate gpu_rate(const HardwareProfile& profile, Format format) {
  const PeakRates& peak = profile.peak;
  const double vector = peak.fp16 > 0 ? peak.fp16 : peak.fp32;
  if (format == Format::q4 && peak.int4 > 0) return {peak.int4 / 2, "INT4 is native"};
  if (format == Format::q4)
    return {vector / 6, "INT4 is not native: it is unpacked by shifts and masks to FP16 before each multiplication"};
  if (format == Format::q8 && peak.int8 > 0) return {peak.int8 / 2, "INT8 is native"};
  if (format == Format::q8) return {vector / 4, "INT8 is not native: each weight is converted to FP16 first"};
  return {vector / 2, "FP16 needs no unpacking"};
}

Rate known_rate(const HardwareProfile& profile, const DecodeWork& work, Format format) {
  constexpr std::array kNames = {"F16", "Q8_0", "Q4_0"};
  for (const std::string& name : {work.gguf_type, std::string(kNames[static_cast<size_t>(format)])}) {
    const double rate = profile.weight_rates.value(name, 0.0);
    if (rate > 0) {
      const Rate derived = profile.engine == "gpu" ? gpu_rate(profile, format) : cpu_rate(profile, format);
      const std::string why = derived.why.empty() ? "its rate is known" : derived.why;
      return {rate, why + " (as measured on such a device)"};
    }
  }
  return {};
}

}  // namespace

Prediction predict_generation(const HardwareProfile& profile, const DecodeWork& work) {
  const Format format = format_of(work.gguf_type);
  Rate rate = known_rate(profile, work, format);
  if (rate.weights_per_s <= 0) rate = profile.engine == "gpu" ? gpu_rate(profile, format) : cpu_rate(profile, format);
  const double bandwidth = profile.best_bandwidth();
  Prediction p;
  if (bandwidth <= 0 || rate.weights_per_s <= 0) {
    p.why = "the profile has no bandwidth or no arithmetic rate for this type";
    return p;
  }
  p.memory_s = static_cast<double>(work.bytes) / bandwidth;
  p.compute_s = work.weights / rate.weights_per_s;
  p.tokens_per_s = 1 / (p.memory_s + p.compute_s);
  p.why = fmt::format("reads {} a token ({:.3g} ms at {:.3g} GB/s) and spends {:.3g} ms on arithmetic: {}",
                      format_bytes(work.bytes), 1e3 * p.memory_s, bandwidth / 1e9, 1e3 * p.compute_s, rate.why);
  return p;
}

}  // namespace haqa
