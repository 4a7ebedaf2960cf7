#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace haqa {

/// A loop of independent multiply-adds, as dense as its instruction set allows, all in registers.
struct PeakKernel {
  std::string_view needs;  ///< name as in HardwareProfile::instruction_sets; empty: runs everywhere
  double operations = 0;   ///< per iteration; a multiply-add counts as two
  /// Runs `iterations` (below 2^28) and returns the multiply-adds its accumulators have counted, which is exact up to
  /// 2000 iterations: where the compiler drops or merges work, it shows there.
  double (*run)(int64_t iterations) = nullptr;
};

/// Best first. What is counted:
/// fp32: fused multiply-adds (AVX-512, AVX2, NEON); elsewhere a multiply and an add of 16-byte vectors.
/// fp16: AVX512-FP16 or ARM's fp16 only; otherwise none, as converting to FP32 is not FP16 arithmetic.
/// int8: dot products into int32 by VNNI, i8mm or dotprod. AVX-512BW and AVX2 without VNNI: maddubs, madd and add.
/// NEON: mull and padal. Elsewhere what the compiler makes of a plain loop. AMX is not counted.
std::vector<PeakKernel> fp32_kernels();
std::vector<PeakKernel> fp16_kernels();
std::vector<PeakKernel> int8_kernels();

/// The sum of all words modulo 2^64, read with the widest loads of this CPU: one pass over memory.
/// words.data() is aligned to 64 bytes and words.size() a multiple of 64.
using SumWords = uint64_t (*)(std::span<const uint64_t> words);
SumWords portable_sum_words();
/// `avx2`: whether this CPU has it.
SumWords best_sum_words(bool avx2);

}  // namespace haqa
