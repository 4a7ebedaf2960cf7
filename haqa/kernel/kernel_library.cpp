#include "haqa/kernel/kernel_library.h"

#include <dlfcn.h>

#include "haqa/kernel/processor_levels.h"

namespace haqa {
namespace fs = std::filesystem;

KernelFunctions open_kernel(const fs::path& file, std::string& why, std::string_view name) {
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    why = dlerror();
    return {};
  }
  const auto* said = static_cast<const char*>(dlsym(handle, "haqa_interface"));
  if (const std::string wanted = std::string(HAQA_INTERFACE).append(name); !name.empty() && (!said || said != wanted)) {
    why =
        "it is not \"" + wanted + "\" but " + (said ? "\"" + std::string(said).substr(0, 60) + "\"" : "without a name");
    return {};
  }
  KernelFunctions f;
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, symbol));
  };
  find(f.compute, "haqa_kernel");
  find(f.packed_bytes, "haqa_packed_bytes");
  find(f.pack, "haqa_pack");
  find(f.pack_rows, "haqa_pack_rows");
  find(f.unpack, "haqa_unpack");
  if (!f.compute) why = "it has no function haqa_kernel";
  return f;
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
