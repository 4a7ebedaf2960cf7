#include "haqa/kernel/processor_levels.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

#if defined(__aarch64__)
#include <sys/auxv.h>
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

/// FNV-1a of the sorted names.
uint32_t number_of(const std::set<std::string>& flags) {
  uint32_t hash = 2166136261u;
  for (const std::string& flag : flags)
    for (const char c : flag + " ") hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

}  // namespace

std::vector<const char*> processor_levels() {
  std::vector<const char*> levels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
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
  std::array<char, 16> number;
  std::snprintf(number.data(), number.size(), ", %08x", number_of(flags));
  return name + number.data();
}

}  // namespace haqa
