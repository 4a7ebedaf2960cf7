#include "haqa/hardware/gpu.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "haqa/hardware/text.h"

namespace haqa {
namespace {

/// A library opened at run time. It is never closed: drivers start threads that would run on in unmapped code.
class Library {
 public:
  explicit Library(const std::string& name) : handle_(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {}

  /// Sets `function` to the named symbol. False where the library or the symbol is missing.
  template <typename Function>
  bool load(const char* name, Function*& function) const {
    if (handle_ != nullptr) function = reinterpret_cast<Function*>(dlsym(handle_, name));
    return function != nullptr;
  }

 private:
  void* handle_;
};

// ---- CUDA driver API (cuda.h) and NVML (nvml.h): only what is asked for here. ----

constexpr int kMultiprocessorCount = 16, kCapabilityMajor = 75, kCapabilityMinor = 76;  // CUdevice_attribute

struct Cuda {
  int (*init)(unsigned) = nullptr;
  int (*count)(int*) = nullptr;
  int (*get)(int*, int) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*memory)(size_t*, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  int (*bus_id)(char*, int, int) = nullptr;

  bool load(const Library& library) {
    return library.load("cuInit", init) && library.load("cuDeviceGetCount", count) &&
           library.load("cuDeviceGet", get) && library.load("cuDeviceGetName", name) &&
           library.load("cuDeviceTotalMem_v2", memory) && library.load("cuDeviceGetAttribute", attribute) &&
           library.load("cuDeviceGetPCIBusId", bus_id);
  }
};

struct NvmlMemory {
  unsigned long long total = 0, free = 0, used = 0;
};

struct Nvml {
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*by_bus_id)(const char*, void**) = nullptr;
  int (*memory)(void*, NvmlMemory*) = nullptr;

  bool load(const Library& library) {
    return library.load("nvmlInit_v2", init) && library.load("nvmlShutdown", shutdown) &&
           library.load("nvmlDeviceGetHandleByPciBusId_v2", by_bus_id) &&
           library.load("nvmlDeviceGetMemoryInfo", memory);
  }
};

/// 0 where NVML does not know the device, or knows a whole card where CUDA was given a part of it (MIG): the free
/// memory of the card is then not that of the part. The two totals of one card differ by what the driver reserves.
uint64_t free_memory(const Nvml& nvml, const char* bus_id, uint64_t total_bytes) {
  void* device = nullptr;
  NvmlMemory memory;
  if (nvml.by_bus_id(bus_id, &device) != 0 || nvml.memory(device, &memory) != 0) return 0;
  if (memory.total > total_bytes + total_bytes / 10) return 0;
  return std::min<uint64_t>(memory.free, total_bytes);
}

bool describe(const Cuda& cuda, const Nvml* nvml, int index, Gpu& gpu) {
  int device = 0, units = 0, major = 0, minor = 0;
  char name[256] = "", bus_id[32] = "";
  size_t bytes = 0;
  if (cuda.get(&device, index) != 0 || cuda.name(name, sizeof name, device) != 0) return false;
  if (cuda.memory(&bytes, device) != 0 || cuda.attribute(&units, kMultiprocessorCount, device) != 0) return false;
  if (cuda.attribute(&major, kCapabilityMajor, device) != 0) return false;
  if (cuda.attribute(&minor, kCapabilityMinor, device) != 0) return false;
  name[sizeof name - 1] = '\0';
  gpu.name = clean_text(name);
  gpu.vendor = "NVIDIA";
  gpu.api = "cuda";
  gpu.compute_units = units;
  gpu.memory_bytes = bytes;
  gpu.capability = fmt::format("{}.{}", major, minor);
  if (nvml != nullptr && cuda.bus_id(bus_id, sizeof bus_id, device) == 0)
    gpu.free_bytes = free_memory(*nvml, bus_id, bytes);
  return true;
}

// ---- OpenCL 1.0 (cl.h): the values are checked against the header by gpu_test.cpp. ----

constexpr uint64_t kDeviceTypeGpu = 1 << 2;
constexpr unsigned kMaxComputeUnits = 0x1002, kGlobalMemSize = 0x101F, kDeviceName = 0x102B, kDeviceVendor = 0x102C,
                   kDeviceVersion = 0x102F;

struct OpenCl {
  int (*platforms)(unsigned, void**, unsigned*) = nullptr;
  int (*devices)(void*, uint64_t, unsigned, void**, unsigned*) = nullptr;
  int (*info)(void*, unsigned, size_t, void*, size_t*) = nullptr;

  bool load(const Library& library) {
    return library.load("clGetPlatformIDs", platforms) && library.load("clGetDeviceIDs", devices) &&
           library.load("clGetDeviceInfo", info);
  }

  std::string text(void* device, unsigned what) const {
    size_t size = 0;
    if (info(device, what, 0, nullptr, &size) != 0 || size == 0) return "";
    std::string value(size, '\0');
    if (info(device, what, size, value.data(), nullptr) != 0) return "";
    return clean_text(value.substr(0, value.find('\0')));
  }

  template <typename T>
  T number(void* device, unsigned what) const {
    T value = 0;
    return info(device, what, sizeof value, &value, nullptr) == 0 ? value : T{0};
  }

  Gpu describe(void* device) const {
    Gpu gpu;
    gpu.name = text(device, kDeviceName);
    gpu.vendor = text(device, kDeviceVendor);
    gpu.api = "opencl";
    gpu.compute_units = static_cast<int>(number<uint32_t>(device, kMaxComputeUnits));
    gpu.memory_bytes = number<uint64_t>(device, kGlobalMemSize);
    gpu.capability = text(device, kDeviceVersion);
    return gpu;
  }
};

/// The usual two calls of OpenCL: how many, then which. `get(n, ids, count)` returns 0 for success.
template <typename Get>
std::vector<void*> list_ids(Get get) {
  unsigned count = 0;
  if (get(0u, static_cast<void**>(nullptr), &count) != 0 || count == 0) return {};
  std::vector<void*> ids(count);
  if (get(count, ids.data(), static_cast<unsigned*>(nullptr)) != 0) return {};
  return ids;
}

}  // namespace

std::vector<Gpu> cuda_gpus(const GpuLibraries& libraries) {
  const Library cuda_library(libraries.cuda);
  Cuda cuda;
  int count = 0;
  if (!cuda.load(cuda_library) || cuda.init(0) != 0 || cuda.count(&count) != 0) return {};
  Nvml nvml;
  const Library nvml_library(libraries.nvml);
  const bool with_nvml = count > 0 && nvml.load(nvml_library) && nvml.init() == 0;
  std::vector<Gpu> gpus;
  for (int i = 0; i < count; ++i) {
    Gpu gpu;
    if (describe(cuda, with_nvml ? &nvml : nullptr, i, gpu)) gpus.push_back(gpu);
  }
  if (with_nvml) nvml.shutdown();
  return gpus;
}

std::vector<Gpu> opencl_gpus(const GpuLibraries& libraries) {
  const Library library(libraries.opencl);
  OpenCl cl;
  if (!cl.load(library)) return {};
  std::vector<Gpu> gpus;
  for (void* platform : list_ids([&](unsigned n, void**ids, unsigned*count) { return cl.platforms(n, ids, count); }))
    for (void* device : list_ids([&](unsigned n, void**ids, unsigned*count) {
           return cl.devices(platform, kDeviceTypeGpu, n, ids, count);
         }))
      gpus.push_back(cl.describe(device));
  return gpus;
}

std::vector<Gpu> detect_gpus(const GpuLibraries& libraries) {
  std::vector<Gpu> gpus = cuda_gpus(libraries);
  const bool has_cuda = !gpus.empty();
  for (Gpu& gpu : opencl_gpus(libraries)) {
    const bool listed = has_cuda && gpu.vendor.find("NVIDIA") != std::string::npos;
    if (!listed) gpus.push_back(std::move(gpu));
  }
  return gpus;
}

}  // namespace haqa
