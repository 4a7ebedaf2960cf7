#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace haqa {

/// What is needed of CUDA's driver (cuda.h) and of NVRTC, its compiler of kernels (nvrtc.h): opened at run time, so
/// that neither is needed to build. Every function returns 0 for success. Tests give functions of their own.
struct CudaApi {
  using Device = int;
  using Address = unsigned long long;  ///< CUdeviceptr
  using Context = void*;
  using Module = void*;
  using Function = void*;
  using Program = void*;

  // The driver's.
  int (*init)(unsigned flags) = nullptr;
  int (*driver_version)(int* version) = nullptr;  ///< 1000 * major + 10 * minor
  int (*device_count)(int* count) = nullptr;
  int (*device)(Device* device, int index) = nullptr;
  int (*device_name)(char* name, int length, Device device) = nullptr;
  int (*device_attribute)(int* value, int attribute, Device device) = nullptr;
  int (*set_flags)(Device device, unsigned flags) = nullptr;
  int (*retain_context)(Context* context, Device device) = nullptr;
  int (*use_context)(Context context) = nullptr;
  int (*synchronize)() = nullptr;
  int (*load_module)(Module* module, const void* image) = nullptr;
  int (*find_function)(Function* function, Module module, const char* name) = nullptr;
  int (*allocate)(Address* address, size_t bytes) = nullptr;
  int (*free)(Address address) = nullptr;
  int (*upload)(Address to, const void* from, size_t bytes) = nullptr;
  int (*download)(void* to, Address from, size_t bytes) = nullptr;
  int (*copy)(Address to, Address from, size_t bytes) = nullptr;
  int (*launch)(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** parameters,
                void** extra) = nullptr;
  int (*error_name)(int error, const char** name) = nullptr;
  int (*error_text)(int error, const char** text) = nullptr;

  // NVRTC's.
  int (*create_program)(Program* program, const char* source, const char* name, int headers,
                        const char* const* header_texts, const char* const* header_names) = nullptr;
  int (*destroy_program)(Program* program) = nullptr;
  int (*compile)(Program program, int options, const char* const* texts) = nullptr;
  int (*log_size)(Program program, size_t* bytes) = nullptr;
  int (*log)(Program program, char* text) = nullptr;
  int (*ptx_size)(Program program, size_t* bytes) = nullptr;
  int (*ptx)(Program program, char* text) = nullptr;
  const char* (*compiler_error)(int error) = nullptr;
  // Of CUDA 11.2 and later; null before.
  int (*cubin_size)(Program program, size_t* bytes) = nullptr;
  int (*cubin)(Program program, char* image) = nullptr;
  int (*architectures)(int* count) = nullptr;
  int (*list_architectures)(int* numbers) = nullptr;  ///< 75, 80, 86, ...
};

/// CUdevice_attribute.
inline constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;

/// The libraries, as they are called where they are installed.
struct CudaLibraryNames {
  std::string driver = "libcuda.so.1";
  std::string nvrtc;  ///< empty: $HAQA_NVRTC, else the one that suits the driver best
};

/// Opens both. Throws UsageError that says what to install.
CudaApi open_cuda(const CudaLibraryNames& names = {});

/// NVRTC's names, the one of the driver's own major version first, older ones next: what a newer one makes, a driver
/// may not know.
std::vector<std::string> nvrtc_names(int driver_version);

}  // namespace haqa
