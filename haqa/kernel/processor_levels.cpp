#include "haqa/kernel/processor_levels.h"

#include <cstdint>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

#include "haqa/base/fnv.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace haqa {
namespace {

/// Those that code is compiled for; other words of the list change with the system's version.
bool is_instruction_set(std::string_view flag) {
  for (const std::string_view family : {"sse", "ssse", "avx", "amx", "fma", "f16c", "bmi", "popcnt", "movbe", "lzcnt",
                                        "vaes", "vpclmul", "gfni", "asimd", "sve", "sme", "i8mm", "bf16", "fphp"})
    if (flag.starts_with(family)) return true;
  return false;
}

#if defined(__x86_64__)
/// MOVBE, F16C and LZCNT, which not all compilers have a name for (psABI, table 3.1; Intel SDM, CPUID).
bool has_rest_of_v3() {
  constexpr unsigned kMovbe = 1u << 22, kF16c = 1u << 29, kLzcnt = 1u << 5;
  unsigned a = 0, b = 0, basic = 0, extended = 0, d = 0;
  return __get_cpuid(1, &a, &b, &basic, &d) && __get_cpuid(0x80000001, &a, &b, &extended, &d) && (basic & kMovbe) &&
         (basic & kF16c) && (extended & kLzcnt);
}
#endif

/// FNV-1a of the sorted names.
std::string number_of(const std::set<std::string>& flags) {
  Fnv1a<uint32_t> hash;
  for (const std::string& flag : flags) hash.add(flag).add(' ');
  return hash.digits();
}

}  // namespace

std::vector<const char*> processor_levels() {
  std::vector<const char*> levels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2") && has_rest_of_v3();
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v3 && v4 && __builtin_cpu_supports("avx512vnni")) levels.push_back("x86-64-v4-vnni");
  if (v3) levels.push_back("x86-64-v3");
#elif defined(__aarch64__)
  constexpr unsigned long kHalf = 1 << 10, kDotProduct = 1 << 20;  // HWCAP_ASIMDHP, HWCAP_ASIMDDP
  const unsigned long has = getauxval(AT_HWCAP);
  if ((has & kHalf) && (has & kDotProduct)) levels.push_back("armv8.2-dotprod");
#endif
  return levels;
}

std::string processor_identity() {
  std::ifstream info("/proc/cpuinfo");
  std::string name = "unknown processor";
  std::set<std::string> flags;
  for (std::string line; std::getline(info, line) && !line.empty();) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    const std::string value = line.substr(colon + 2);
    if (line.starts_with("model name") || line.starts_with("CPU part")) name = value;
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(value);
    for (std::string word; words >> word;)
      if (is_instruction_set(word)) flags.insert(word);
  }
  for (const char* level : processor_levels()) name.append(", ").append(level);
  return name + ", " + number_of(flags);
}

}  // namespace haqa
