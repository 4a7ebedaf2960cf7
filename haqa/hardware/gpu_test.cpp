#include "haqa/hardware/gpu.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

// The constants of gpu.cpp, against the official header where the machine has it.
#if __has_include(<CL/cl.h>)
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
static_assert(CL_DEVICE_TYPE_GPU == 1 << 2 && CL_DEVICE_MAX_COMPUTE_UNITS == 0x1002);
static_assert(CL_DEVICE_GLOBAL_MEM_SIZE == 0x101F && CL_DEVICE_NAME == 0x102B);
static_assert(CL_DEVICE_VENDOR == 0x102C && CL_DEVICE_VERSION == 0x102F);
static_assert(sizeof(cl_device_type) == 8 && sizeof(cl_ulong) == 8 && sizeof(cl_uint) == 4);
#endif

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// Two cards: one whole, one that CUDA sees as a part (MIG) of what NVML calls 80 GB.
constexpr const char* kCuda = R"(
#include <stdio.h>
#include <string.h>
#include <stddef.h>
int cuInit(unsigned flags) { return flags == 0 ? 0 : 1; }
int cuDeviceGetCount(int* n) { *n = 3; return 0; }
int cuDeviceGet(int* d, int i) { *d = 40 + i; return i == 2 ? 101 : 0; }
int cuDeviceGetName(char* s, int n, int d) { snprintf(s, n, d == 40 ? "Fake  RTX\t" : "Fake MIG"); return 0; }
int cuDeviceTotalMem_v2(size_t* n, int d) { *n = d == 40 ? 50000000000ull : 10000000000ull; return 0; }
int cuDeviceGetAttribute(int* v, int a, int d) { *v = a == 16 ? 84 : a == 75 ? 8 : a == 76 ? 6 : -1; return 0; }
int cuDeviceGetPCIBusId(char* s, int n, int d) { snprintf(s, n, "0000:%02d:00.0", d); return 0; }
)";

constexpr const char* kNvml = R"(
#include <string.h>
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** d) {
  *d = strcmp(id, "0000:40:00.0") == 0 ? (void*)1 : (void*)2;
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* d, struct memory* m) {
  m->total = d == (void*)1 ? 51000000000ull : 80000000000ull;
  m->free = d == (void*)1 ? 12345 : 70000000000ull;
  return 0;
}
)";

/// Platform 1 has a GPU of a phone, platform 2 one of NVIDIA, platform 3 only a CPU.
constexpr const char* kOpenCl = R"(
#include <stddef.h>
#include <string.h>
typedef unsigned uint;
int clGetPlatformIDs(uint n, void** ids, uint* count) {
  if (count) *count = 3;
  for (uint i = 0; ids && i < n; ++i) ids[i] = (void*)(size_t)(i + 1);
  return 0;
}
int clGetDeviceIDs(void* platform, unsigned long long type, uint n, void** ids, uint* count) {
  if (type != 4 || platform == (void*)3) return -1;
  if (count) *count = 1;
  if (ids && n) ids[0] = platform;
  return 0;
}
int clGetDeviceInfo(void* device, uint what, size_t size, void* out, size_t* need) {
  const char* text = what == 0x102B ? (device == (void*)1 ? "Adreno(TM) 740" : "Fake RTX")
                   : what == 0x102C ? (device == (void*)1 ? "QUALCOMM" : "NVIDIA Corporation") : "OpenCL 3.0 ";
  if (what == 0x1002 && size == 4) { *(uint*)out = 6; return 0; }
  if (what == 0x101F && size == 8) { *(unsigned long long*)out = 7000000000ull; return 0; }
  if (what < 0x1020) return -30;
  if (need) *need = strlen(text) + 1;
  if (out) memcpy(out, text, size < strlen(text) + 1 ? size : strlen(text) + 1);
  return 0;
}
)";

class FakeDrivers : public ::testing::Test {
 protected:
  /// One for all the tests, as compiling takes time.
  static const TemporaryFolder& folder() {
    static const TemporaryFolder made;
    return made;
  }

  /// Compiles a shared library and returns its path.
  static std::string build(const std::string& name, const std::string& source) {
    const fs::path c = folder() / (name + ".c"), so = folder() / (name + ".so");
    write_file(c, source);
    const std::string command = "cc -shared -fPIC -w -o '" + so.string() + "' '" + c.string() + "'";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return so.string();
  }

  static GpuLibraries none() { return {"libhaqa-none.so.1", "libhaqa-none.so.1", "libhaqa-none.so.1"}; }
};

TEST_F(FakeDrivers, NothingWithoutLibraries) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const std::vector<Gpu> gpus = detect_gpus(none());
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(gpus.empty());
}

TEST_F(FakeDrivers, CudaFigures) {
  GpuLibraries libraries = none();
  libraries.cuda = build("cuda", kCuda);
  libraries.nvml = build("nvml", kNvml);
  const std::vector<Gpu> gpus = cuda_gpus(libraries);
  ASSERT_EQ(gpus.size(), 2u);  // the third cannot be opened
  EXPECT_EQ(gpus[0].name, "Fake RTX");
  EXPECT_EQ(gpus[0].vendor, "NVIDIA");
  EXPECT_EQ(gpus[0].api, "cuda");
  EXPECT_EQ(gpus[0].compute_units, 84);
  EXPECT_EQ(gpus[0].memory_bytes, 50'000'000'000u);
  EXPECT_EQ(gpus[0].free_bytes, 12'345u);
  EXPECT_EQ(gpus[0].capability, "8.6");
  EXPECT_EQ(gpus[1].name, "Fake MIG");
  EXPECT_EQ(gpus[1].free_bytes, 0u) << "the free memory of a whole card is not that of its part";
}

TEST_F(FakeDrivers, CudaWithoutNvmlHasNoFreeMemory) {
  GpuLibraries libraries = none();
  libraries.cuda = build("cuda_alone", kCuda);
  const std::vector<Gpu> gpus = cuda_gpus(libraries);
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[0].free_bytes, 0u);
}

TEST_F(FakeDrivers, BrokenDriversHaveNoGpus) {
  GpuLibraries libraries = none();
  struct Case {
    const char *name, *from, *to;
  };
  for (const Case& c : {Case{"init_fails", "return flags == 0 ? 0 : 1", "return 100"},
                        Case{"no_count", "*n = 3; return 0", "*n = 3; return 3"}, Case{"zero", "*n = 3", "*n = 0"},
                        Case{"old_driver", "cuDeviceTotalMem_v2", "cuDeviceTotalMem"}}) {
    std::string source = kCuda;
    source.replace(source.find(c.from), std::string(c.from).size(), c.to);
    libraries.cuda = build(c.name, source);
    EXPECT_TRUE(cuda_gpus(libraries).empty()) << c.name;
  }
}

TEST_F(FakeDrivers, OpenClTakesGpusOnly) {
  GpuLibraries libraries = none();
  libraries.opencl = build("opencl", kOpenCl);
  const std::vector<Gpu> gpus = opencl_gpus(libraries);
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[0].name, "Adreno(TM) 740");
  EXPECT_EQ(gpus[0].vendor, "QUALCOMM");
  EXPECT_EQ(gpus[0].api, "opencl");
  EXPECT_EQ(gpus[0].compute_units, 6);
  EXPECT_EQ(gpus[0].memory_bytes, 7'000'000'000u);
  EXPECT_EQ(gpus[0].capability, "OpenCL 3.0");
}

TEST_F(FakeDrivers, OneCardIsListedOnce) {
  GpuLibraries libraries = none();
  libraries.opencl = build("opencl_both", kOpenCl);
  EXPECT_EQ(detect_gpus(libraries).size(), 2u) << "without CUDA, NVIDIA's card is known from OpenCL";
  libraries.cuda = build("cuda_both", kCuda);
  std::vector<std::string> names;
  for (const Gpu& gpu : detect_gpus(libraries)) names.push_back(gpu.api + " " + gpu.name);
  EXPECT_THAT(names, ::testing::ElementsAre("cuda Fake RTX", "cuda Fake MIG", "opencl Adreno(TM) 740"));
}

#ifdef CL_TARGET_OPENCL_VERSION
/// The real loader: as many GPUs as the header's own types count. With PoCL alone, devices there are, GPUs none.
TEST(RealOpenCl, CpuDevicesAreNoGpus) {
  void* library = dlopen("libOpenCL.so.1", RTLD_NOW);
  if (library == nullptr) GTEST_SKIP() << "no OpenCL on this machine";
  const auto platforms = reinterpret_cast<decltype(&clGetPlatformIDs)>(dlsym(library, "clGetPlatformIDs"));
  const auto devices = reinterpret_cast<decltype(&clGetDeviceIDs)>(dlsym(library, "clGetDeviceIDs"));
  cl_platform_id ids[16];
  cl_uint count = 0, all = 0, gpus = 0;
  if (platforms(16, ids, &count) != CL_SUCCESS) GTEST_SKIP() << "no OpenCL platform on this machine";
  for (cl_uint i = 0; i < std::min(count, 16u); ++i) {
    cl_uint n = 0;
    if (devices(ids[i], CL_DEVICE_TYPE_ALL, 0, nullptr, &n) == CL_SUCCESS) all += n;
    n = 0;
    if (devices(ids[i], CL_DEVICE_TYPE_GPU, 0, nullptr, &n) == CL_SUCCESS) gpus += n;
  }
  if (all == 0) GTEST_SKIP() << "no OpenCL device on this machine";
  EXPECT_EQ(opencl_gpus().size(), gpus);
}
#endif

}  // namespace
}  // namespace haqa
