#pragma once
#include <vector>

namespace haqa {

/// Vector instructions that this room has code for, each including those before it. All give the same bits: the choice
/// changes the speed alone.
enum class Simd {
  portable,
  avx2,         ///< AVX2
  avx2_vnni,    ///< and AVX-VNNI: 8-bit dot products
  avx512,       ///< AVX-512 F, BW and VL
  avx512_vnni,  ///< and AVX-512 VNNI
};

/// The best that this processor and its operating system run.
Simd best_simd();
/// All that they run: what tests go through.
std::vector<Simd> available_simd();

}  // namespace haqa
