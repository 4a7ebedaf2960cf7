#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/hardware/profile.h"

namespace haqa {

/// Instruction sets that the CPU has and the operating system lets programs use, by the names of
/// HardwareProfile::instruction_sets. "avx512" means F, CD, BW, DQ and VL together, what llama.cpp's build asks for.
std::vector<std::string> detect_instruction_sets();

/// The processor's name and vendor, from proc/cpuinfo under `root`; "unknown" where the kernel does not tell.
/// ARM kernels give numbers only: known ones become names ("ARM", "Cortex-A76"), others stay ("part 0xd99").
struct CpuName {
  std::string name = "unknown", vendor = "unknown";
};
CpuName read_cpu_name(const std::filesystem::path& root = "/");

/// Cores, hardware threads, NUMA nodes and caches, restricted to the CPUs this process may run on (cpuset, taskset).
struct Topology {
  int cores = 1, threads = 1, numa_nodes = 1;
  std::vector<Cache> caches;  ///< by level, the larger first where sizes differ (big and little cores)
};

/// `synthetic`: hwloc's description of a machine to take instead of this one ("pack:2 l3:1 core:8 pu:2"), for tests.
/// Throws Error where hwloc cannot read the machine or the description.
Topology read_topology(const char* synthetic = nullptr);

}  // namespace haqa
