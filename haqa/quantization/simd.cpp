#include "haqa/quantization/simd.h"

namespace haqa {
namespace {

bool runs([[maybe_unused]] Simd simd) {
#if defined(__x86_64__)
  switch (simd) {
    case Simd::portable:
      return true;
    case Simd::avx2:
      return __builtin_cpu_supports("avx2");
    case Simd::avx2_vnni:
#if !defined(__clang__)  // clang 14 does not know the name
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avxvnni");
#else
      return false;
#endif
    case Simd::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl");
    case Simd::avx512_vnni:
      return runs(Simd::avx512) && __builtin_cpu_supports("avx512vnni");
  }
#endif
  return simd == Simd::portable;
}

}  // namespace

std::vector<Simd> available_simd() {
  std::vector<Simd> all;
  for (const Simd simd : {Simd::portable, Simd::avx2, Simd::avx2_vnni, Simd::avx512, Simd::avx512_vnni})
    if (runs(simd)) all.push_back(simd);
  return all;
}

Simd best_simd() {
  for (const Simd simd : {Simd::avx512_vnni, Simd::avx512, Simd::avx2_vnni, Simd::avx2})
    if (runs(simd)) return simd;
  return Simd::portable;
}

}  // namespace haqa
