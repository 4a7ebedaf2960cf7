#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

struct Cache {
  int level = 0;       ///< 1, 2, 3
  uint64_t bytes = 0;  ///< size of one such cache
  int count = 0;       ///< how many of them the machine has
};

/// Read bandwidth from main memory with a number of threads, in bytes per second.
struct Bandwidth {
  int threads = 0;
  double bytes_per_s = 0;
};

/// Peak rates of the whole device in operations per second (a multiply-add counts as two); 0: unknown or not native.
struct PeakRates {
  double fp32 = 0, fp16 = 0, int8 = 0, int4 = 0;
};

struct Gpu {
  std::string name, vendor, api;              ///< api: "cuda" or "opencl"
  int compute_units = 0;                      ///< streaming multiprocessors or OpenCL compute units
  uint64_t memory_bytes = 0, free_bytes = 0;  ///< free_bytes is 0 where the driver does not tell
  std::string capability;                     ///< "8.6" for CUDA, the OpenCL version otherwise
};

/// What is known of the machine a model shall run on: this one (detected and measured) or one of data/devices/.
struct HardwareProfile {
  std::string id;     ///< "this-machine", or the file's name in data/devices/ such as "adreno-740"
  bool here = false;  ///< whether trials can be measured on it now
  std::string name, vendor, architecture, platform;  ///< "AMD EPYC", "AuthenticAMD", "x86_64", "Debian GNU/Linux 12"
  std::string engine = "cpu";                        ///< what runs the model: "cpu" or "gpu"
  int cores = 0, threads = 0, numa_nodes = 1;        ///< physical cores and hardware threads this process may use
  std::vector<Cache> caches;
  /// Of avx2 f16c fma avx512 avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_int8 neon dotprod i8mm fp16 bf16 sve
  std::vector<std::string> instruction_sets;
  uint64_t memory_bytes = 0, free_bytes = 0;  ///< the memory the model lives in, and what of it is free now
  std::vector<Bandwidth> bandwidth;           ///< by rising thread count; one entry with threads 0 for a GPU
  PeakRates peak;
  std::vector<std::string> matrix_units;  ///< "336 tensor cores (3rd generation)"
  std::vector<Gpu> gpus;
  /// Weights decoded and multiplied per second by GGUF type ("Q4_0"), where measurements of that device are known.
  Json weight_rates = Json::object();
  std::vector<std::string> notes;  ///< facts for the prompt, such as "INT4 is not native: unpacked to FP16"
  Json sources = Json::object();   ///< for profiles from data/: key of a figure -> where it was taken from

  bool has(std::string_view instruction_set) const;
  double best_bandwidth() const;  ///< bytes per second, the highest measured; 0 where unknown
};

/// Topology by hwloc, instruction sets by CPUID or hwcaps, GPUs through the CUDA driver and OpenCL where they are
/// installed. No measuring: bandwidth and peak stay empty. Takes milliseconds but for the GPU drivers' own start.
HardwareProfile detect_hardware();

/// detect_hardware() with bandwidth and peak measured (about two seconds), or read from the cache when this machine was
/// measured before (same CPU, cores and memory). `again`: measure even so.
HardwareProfile measure_hardware(bool again = false);

/// A machine of data/devices/NAME.json. Throws UsageError that lists the names there are.
HardwareProfile load_device(std::string_view name);
std::vector<std::string> device_names();

/// The form of data/devices/*.json and of `haqa hardware --json`. from_json throws Error naming the wrong key.
Json to_json(const HardwareProfile& profile);
HardwareProfile profile_from_json(const Json& json);

}  // namespace haqa
