#pragma once
#include <string>
#include <vector>

#include "haqa/hardware/profile.h"

namespace haqa {

/// The vendors' libraries, opened at run time so that HAQA builds and starts without them. Tests put their own here.
struct GpuLibraries {
  std::string cuda = "libcuda.so.1";
  std::string nvml = "libnvidia-ml.so.1";  ///< comes with NVIDIA's driver; knows the free memory
  std::string opencl = "libOpenCL.so.1";
};

/// GPUs the CUDA driver shows, in its order. Empty without the library, a driver or a device; prints nothing.
/// free_bytes is NVML's; asking CUDA itself would create a context, which takes memory and a good part of a second.
std::vector<Gpu> cuda_gpus(const GpuLibraries& libraries = {});

/// OpenCL devices of type GPU, platform by platform. CPU devices (PoCL) and accelerators are none; prints nothing.
std::vector<Gpu> opencl_gpus(const GpuLibraries& libraries = {});

/// Those of CUDA, then those of OpenCL but for NVIDIA's, which CUDA has listed already.
std::vector<Gpu> detect_gpus(const GpuLibraries& libraries = {});

}  // namespace haqa
