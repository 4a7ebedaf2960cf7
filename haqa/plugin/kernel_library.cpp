#include "haqa/plugin/kernel_library.h"

#include <dlfcn.h>

#include "haqa/kernel/processor_levels.h"

namespace haqa {
namespace fs = std::filesystem;

fs::path module_folder() {
  Dl_info info = {};
  if (!dladdr(reinterpret_cast<const void*>(&module_folder), &info) || !info.dli_fname) return {};
  std::error_code error;
  const fs::path file = fs::canonical(info.dli_fname, error);
  return error ? fs::path() : file.parent_path();
}

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
  find(f.pack_rows, "haqa_pack_rows");
  find(f.unpack, "haqa_unpack");
  if (!f.compute) why = file.string() + " has no function haqa_kernel";
  return f;
}

KernelFunctions open_default_kernel(const fs::path& folder, std::string_view kernel, std::string_view type) {
  std::string name(kernel);
  name.append("-").append(type).append("-");
  for (const char* level : processor_levels()) {
    std::error_code error;
    const fs::path file = folder / (name + level + ".so");
    if (std::string why; fs::exists(file, error))
      if (const KernelFunctions f = open_kernel(file, why)) return f;
  }
  return {};
}

}  // namespace haqa
