#include "haqa/kernel/cuda_api.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

/// A library opened at run time. It is never closed: drivers start threads that would run on in unmapped code.
class Library {
 public:
  explicit Library(const std::string& name) : name_(name), handle_(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (!handle_) reason_ = dlerror();
  }
  explicit operator bool() const { return handle_ != nullptr; }
  const std::string& reason() const { return reason_; }

  template <typename Function>
  void need(const char* symbol, Function*& function) const {
    want(symbol, function);
    if (!function) throw UsageError("{} has no function {}; it is too old, or no library of CUDA's", name_, symbol);
  }
  template <typename Function>
  void want(const char* symbol, Function*& function) const {
    function = reinterpret_cast<Function*>(dlsym(handle_, symbol));
  }

 private:
  std::string name_;
  void* handle_;
  std::string reason_;
};

void load_driver(const Library& library, CudaApi& api) {
  library.need("cuInit", api.init);
  library.need("cuDriverGetVersion", api.driver_version);
  library.need("cuDeviceGetCount", api.device_count);
  library.need("cuDeviceGet", api.device);
  library.need("cuDeviceGetName", api.device_name);
  library.need("cuDeviceGetAttribute", api.device_attribute);
  library.need("cuDevicePrimaryCtxSetFlags_v2", api.set_flags);
  library.need("cuDevicePrimaryCtxRetain", api.retain_context);
  library.need("cuCtxSetCurrent", api.use_context);
  library.need("cuCtxSynchronize", api.synchronize);
  library.need("cuModuleLoadData", api.load_module);
  library.need("cuModuleGetFunction", api.find_function);
  library.need("cuMemAlloc_v2", api.allocate);
  library.need("cuMemFree_v2", api.free);
  library.need("cuMemcpyHtoD_v2", api.upload);
  library.need("cuMemcpyDtoH_v2", api.download);
  library.need("cuMemcpyDtoD_v2", api.copy);
  library.need("cuLaunchKernel", api.launch);
  library.need("cuGetErrorName", api.error_name);
  library.need("cuGetErrorString", api.error_text);
}

void load_nvrtc(const Library& library, CudaApi& api) {
  library.need("nvrtcCreateProgram", api.create_program);
  library.need("nvrtcDestroyProgram", api.destroy_program);
  library.need("nvrtcCompileProgram", api.compile);
  library.need("nvrtcGetProgramLogSize", api.log_size);
  library.need("nvrtcGetProgramLog", api.log);
  library.need("nvrtcGetPTXSize", api.ptx_size);
  library.need("nvrtcGetPTX", api.ptx);
  library.need("nvrtcGetErrorString", api.compiler_error);
  library.want("nvrtcGetCUBINSize", api.cubin_size);
  library.want("nvrtcGetCUBIN", api.cubin);
  library.want("nvrtcGetNumSupportedArchs", api.architectures);
  library.want("nvrtcGetSupportedArchs", api.list_architectures);
}

/// The first of them that there is.
Library open_nvrtc(const std::vector<std::string>& names, int driver_version) {
  std::string reason;
  for (const std::string& name : names) {
    Library library(name);
    if (library) return library;
    if (reason.empty()) reason = library.reason();
  }
  const int major = std::clamp(driver_version / 1000, 11, 13);
  throw UsageError(
      "NVRTC, which compiles CUDA kernels, cannot be opened ({}): {}. Install it, by apt-get install libnvrtc{} where "
      "the system has that, else by pip install nvidia-cuda-nvrtc-cu{} (of CUDA 13: nvidia-cuda-nvrtc), and name the "
      "library that pip put below site-packages/nvidia in HAQA_NVRTC",
      fmt::join(names, ", "), reason, major == 11 ? "11.2" : std::to_string(major), std::min(major, 12));
}

}  // namespace

std::vector<std::string> nvrtc_names(int driver_version) {
  std::vector<std::string> newest_first = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"};
  const int too_new = std::clamp(13 - driver_version / 1000, 0, 2);
  std::rotate(newest_first.begin(), newest_first.begin() + too_new, newest_first.end());
  return newest_first;
}

CudaApi open_cuda(const CudaLibraryNames& names) {
  CudaApi api;
  const Library driver(names.driver);
  if (!driver)
    throw UsageError("there is no CUDA driver here ({}); install NVIDIA's driver, or choose another engine",
                     driver.reason());
  load_driver(driver, api);
  int version = 0;
  api.driver_version(&version);
  const std::string named = names.nvrtc.empty() ? environment("HAQA_NVRTC") : names.nvrtc;
  load_nvrtc(open_nvrtc(named.empty() ? nvrtc_names(version) : std::vector{named}, version), api);
  return api;
}

}  // namespace haqa
