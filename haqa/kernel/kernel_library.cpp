#include "haqa/kernel/kernel_library.h"

#include <dlfcn.h>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace haqa {
namespace fs = std::filesystem;

KernelFunctions open_kernel(const fs::path& file, std::string& why) {
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    why = dlerror();
    return {};
  }
  KernelFunctions f;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
  };
  find(f.compute, "haqa_kernel");
  find(f.packed_bytes, "haqa_packed_bytes");
  find(f.pack, "haqa_pack");
  find(f.pack_rows, "haqa_pack_rows");
  find(f.unpack, "haqa_unpack");
  if (!f.compute) why = "it has no function haqa_kernel";
  return f;
}

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

std::vector<fs::path> default_variants(const fs::path& folder, std::string_view kernel, std::string_view type) {
  std::vector<fs::path> variants;
  for (const char* level : processor_levels()) {
    const fs::path file = folder / std::string(kernel).append("-").append(type).append("-").append(level).append(".so");
    if (std::error_code error; fs::exists(file, error)) variants.push_back(file);
  }
  return variants;
}

}  // namespace haqa
