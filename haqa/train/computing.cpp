#include "haqa/train/computing.h"

#include <fstream>

#include "haqa/base/error.h"

namespace haqa {

at::ScalarType compute_type(const std::string& name) {
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  throw UsageError("'{}' is no type to compute in; fp32 and bf16 are", name);
}

at::Device device_named(const std::string& name) {
  const at::Device device(name == "cuda" ? at::kCUDA : at::kCPU);
  if (name != "cpu" && name != "cuda") throw UsageError("'{}' is no device to train on; cpu and cuda are", name);
  if (device.is_cuda() && !at::hasCUDA()) throw UsageError("libtorch finds no CUDA here; train on cpu");
  return device;
}

uint64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  uint64_t peak = 0, files = 0;
  for (std::string name; status >> name; status.ignore(1 << 12, '\n')) {
    if (name == "VmHWM:") status >> peak;
    if (name == "RssFile:") status >> files;
  }
  return peak > files ? (peak - files) * 1024 : 0;
}

}  // namespace haqa
