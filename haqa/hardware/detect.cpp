#include "haqa/hardware/detect.h"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <string_view>

#include "haqa/hardware/cgroup.h"
#include "haqa/hardware/cpu.h"
#include "haqa/hardware/text.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

/// NAME=value lines with shell quotes. Source: os-release(5).
std::string os_release_value(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const size_t equals = line.find('=');
    if (equals == std::string::npos || line.substr(0, equals) != key) continue;
    std::string value = line.substr(equals + 1);
    const bool quoted = value.size() >= 2 && (value[0] == '"' || value[0] == '\'') && value.back() == value[0];
    return clean_text(quoted ? value.substr(1, value.size() - 2) : value);
  }
  return "";
}

std::string architecture() {
  utsname name{};
  return uname(&name) == 0 ? clean_text(name.machine) : "unknown";
}

/// A quota of 3.5 CPUs feeds three busy threads; a fourth would make the others wait for it at every barrier.
void limit_cpus(HardwareProfile& profile, double cpus) {
  const int whole = std::max(1, static_cast<int>(std::min(std::floor(cpus + 1e-6), 1e6)));
  profile.threads = std::min(profile.threads, whole);
  profile.cores = std::min(profile.cores, profile.threads);
}

/// What the agent must know of the arithmetic to choose a bit width.
void add_arithmetic(HardwareProfile& profile) {
  std::vector<std::string>& notes = profile.notes;
  const bool x86 = profile.architecture == "x86_64";
  if (x86 && !profile.has("avx512_fp16"))
    notes.push_back(profile.has("f16c") ? "FP16 arithmetic is not native: weights are converted to FP32 by F16C"
                                        : "FP16 arithmetic is not native: weights are converted to FP32");
  if (x86 && !profile.has("avx512_vnni") && !profile.has("avx_vnni"))
    notes.push_back("INT8 has no dot-product instruction: it runs as multiply, widen and add");
  notes.push_back("INT4 is not native: it is unpacked to INT8 by shifts and masks");
  if (profile.has("amx_int8")) profile.matrix_units.push_back("AMX tiles (INT8)");
  if (profile.has("i8mm")) profile.matrix_units.push_back("INT8 matrix multiply (i8mm)");
}

}  // namespace

Memory read_memory(const fs::path& root) {
  Memory memory;
  std::ifstream in(root / "proc/meminfo");
  for (std::string line; std::getline(in, line);) {
    char key[64] = "";
    unsigned long long kib = 0;
    if (std::sscanf(line.c_str(), "%63[^:]: %llu kB", key, &kib) != 2) continue;
    if (std::string_view(key) == "MemTotal") memory.bytes = uint64_t{kib} * 1024;
    if (std::string_view(key) == "MemAvailable") memory.free_bytes = uint64_t{kib} * 1024;
  }
  const CgroupLimits limits = read_cgroup_limits(root);
  if (limits.memory_bytes) memory.bytes = std::min(memory.bytes, *limits.memory_bytes);
  if (limits.free_bytes) memory.free_bytes = std::min(memory.free_bytes, *limits.free_bytes);
  return memory;
}

CpuTime read_cpu_time(const fs::path& root) {
  std::ifstream in(root / "proc/stat");
  std::string word;
  std::array<uint64_t, 8> ticks{};  // user, nice, system, idle, iowait, irq, softirq, steal
  if (!(in >> word) || word != "cpu") return {};
  for (uint64_t& t : ticks)
    if (!(in >> t)) return {};
  CpuTime time;
  for (const uint64_t t : ticks) time.all += t;
  time.busy = time.all - ticks[3] - ticks[4];
  return time;
}

std::string read_platform(const fs::path& root) {
  for (const char* file : {"etc/os-release", "usr/lib/os-release"})
    if (const std::string name = os_release_value(root / file, "PRETTY_NAME"); !name.empty()) return name;
  utsname name{};
  return uname(&name) == 0 ? clean_text(std::string(name.sysname) + " " + name.release) : "unknown";
}

HardwareProfile detect_hardware(const DetectOptions& options) {
  HardwareProfile profile;
  profile.id = "this-machine";
  profile.here = true;
  const CpuName cpu = read_cpu_name(options.root);
  profile.name = cpu.name;
  profile.vendor = cpu.vendor;
  profile.architecture = architecture();
  profile.platform = read_platform(options.root);
  const Topology topology = read_topology(options.topology);
  profile.cores = topology.cores;
  profile.threads = topology.threads;
  profile.numa_nodes = topology.numa_nodes;
  profile.caches = topology.caches;
  if (const auto cpus = read_cgroup_limits(options.root).cpus) limit_cpus(profile, *cpus);
  profile.instruction_sets = detect_instruction_sets();
  const Memory memory = read_memory(options.root);
  profile.memory_bytes = memory.bytes;
  profile.free_bytes = memory.free_bytes;
  profile.gpus = detect_gpus(options.gpu_libraries);
  add_arithmetic(profile);
  return profile;
}

HardwareProfile detect_hardware() {
  return detect_hardware(DetectOptions{});
}

}  // namespace haqa
