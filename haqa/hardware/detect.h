#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "haqa/hardware/gpu.h"
#include "haqa/hardware/profile.h"

namespace haqa {

/// Main memory and what programs can still take of it without swapping, in bytes; 0 where the kernel does not tell.
struct Memory {
  uint64_t bytes = 0, free_bytes = 0;
};

/// proc/meminfo under `root`, but no more than the control groups leave to this process.
Memory read_memory(const std::filesystem::path& root = "/");

/// Time that the processors were busy so far, and all of it: sums over them, in ticks. Stolen time, which a virtual
/// machine's host gave to others, is busy; waiting for a disk is not. Zero where the kernel does not tell.
struct CpuTime {
  uint64_t busy = 0, all = 0;
};
/// proc/stat under `root`. Source: proc(5).
CpuTime read_cpu_time(const std::filesystem::path& root = "/");

/// "Debian GNU/Linux 12 (bookworm)", from etc/os-release under `root`; the kernel's name and release without it.
std::string read_platform(const std::filesystem::path& root = "/");

/// Where detect_hardware looks; tests point it elsewhere.
struct DetectOptions {
  std::filesystem::path root = "/";  ///< holds proc/, sys/ and etc/
  GpuLibraries gpu_libraries;
  const char* topology = nullptr;  ///< hwloc's synthetic description; null: this machine
};
HardwareProfile detect_hardware(const DetectOptions& options);

/// Where measure_hardware keeps the rates of the machines that share this cache folder (a cluster's home, say).
std::filesystem::path hardware_cache_file();

/// Fills bandwidth and peak from the cache. False, and nothing changed, where the cache is missing or corrupt, or does
/// not know machine_identity(profile).
bool recall_rates(HardwareProfile& profile);

/// Writes bandwidth and peak to the cache, beside those of other machines. Does nothing where it cannot be written.
void remember_rates(const HardwareProfile& profile);

/// What must be equal for a measurement to hold for `profile`: CPU, cores, caches, instruction sets, memory to the
/// GB (kernels reserve a little more or less at each start), and whether this program was compiled with optimization.
std::string machine_identity(const HardwareProfile& profile);

}  // namespace haqa
