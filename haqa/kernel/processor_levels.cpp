#include "haqa/kernel/processor_levels.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace haqa {

std::vector<const char*> processor_levels() {
  std::vector<const char*> levels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (v3 && v4 && __builtin_cpu_supports("avx512vnni")) levels.push_back("x86-64-v4-vnni");
  if (v3 && v4) levels.push_back("x86-64-v4");
  if (v3) levels.push_back("x86-64-v3");
#elif defined(__aarch64__)
  constexpr unsigned long kHalf = 1 << 10, kDotProduct = 1 << 20;  // HWCAP_ASIMDHP, HWCAP_ASIMDDP
  const unsigned long has = getauxval(AT_HWCAP);
  if ((has & kHalf) && (has & kDotProduct)) levels.push_back("armv8.2-dotprod");
#endif
  return levels;
}

}  // namespace haqa
