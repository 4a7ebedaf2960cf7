#include "haqa/hardware/cpu.h"

#include <hwloc.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string_view>
#include <type_traits>

#include "haqa/base/error.h"
#include "haqa/hardware/text.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace haqa {
namespace {

// ---- Instruction sets ----

struct Feature {
  const char* name;
  bool present;
};

#if defined(__x86_64__) || defined(__i386__)

struct CpuId {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// Zeros where the CPU does not have that leaf.
CpuId cpuid(unsigned leaf, unsigned subleaf) {
  CpuId id;
  __get_cpuid_count(leaf, subleaf, &id.eax, &id.ebx, &id.ecx, &id.edx);
  return id;
}

/// The registers that the operating system saves when it switches between programs (XCR0). CPUID alone would promise
/// AVX-512 where a hypervisor or kernel has switched it off.
uint64_t saved_registers(const CpuId& basic) {
  if ((basic.ecx >> 27 & 1) == 0) return 0;  // no XGETBV
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

/// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID. Not
/// __builtin_cpu_supports, which does not know the later ones with every compiler.
std::vector<Feature> features() {
  const CpuId basic = cpuid(1, 0), extended = cpuid(7, 0);
  const CpuId more = extended.eax >= 1 ? cpuid(7, 1) : CpuId{};
  const uint64_t saved = saved_registers(basic);
  const auto bit = [](unsigned word, int n) { return (word >> n & 1) != 0; };
  const auto saves = [saved](uint64_t mask) { return (saved & mask) == mask; };
  const bool avx = saves(0x6), zmm = saves(0xe6), tiles = saves(0x60000);
  const bool avx512 = zmm && bit(extended.ebx, 16) && bit(extended.ebx, 17) && bit(extended.ebx, 28) &&
                      bit(extended.ebx, 30) && bit(extended.ebx, 31);  // F, DQ, CD, BW, VL
  return {{"avx2", avx && bit(extended.ebx, 5)},
          {"f16c", avx && bit(basic.ecx, 29)},
          {"fma", avx && bit(basic.ecx, 12)},
          {"avx512", avx512},
          {"avx512_vnni", avx512 && bit(extended.ecx, 11)},
          {"avx_vnni", avx && bit(more.eax, 4)},
          {"avx512_bf16", avx512 && bit(more.eax, 5)},
          {"avx512_fp16", avx512 && bit(extended.edx, 23)},
          {"amx_int8", tiles && bit(extended.edx, 24) && bit(extended.edx, 25)}};
}

#elif defined(__aarch64__)

/// Bits of Linux's uapi/asm/hwcap.h, by value: older headers lack the later ones.
std::vector<Feature> features() {
  const unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
  const auto bit = [](unsigned long word, int n) { return (word >> n & 1) != 0; };
  return {{"neon", bit(caps, 1)},  {"dotprod", bit(caps, 20)}, {"i8mm", bit(caps2, 13)},
          {"fp16", bit(caps, 10)}, {"bf16", bit(caps2, 14)},   {"sve", bit(caps, 22)}};
}

#else

std::vector<Feature> features() {
  return {};
}

#endif

// ---- Name ----

/// The first value of each key of /proc/cpuinfo ("model name" -> "AMD EPYC").
std::map<std::string, std::string> read_cpuinfo(const std::filesystem::path& root) {
  std::map<std::string, std::string> values;
  std::ifstream in(root / "proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(':');
    if (colon != std::string::npos)
      values.emplace(clean_text(line.substr(0, colon)), clean_text(line.substr(colon + 1)));
  }
  return values;
}

/// Arm's register MIDR_EL1: implementer and part number. Source: Linux, arch/arm64/include/asm/cputype.h.
std::string arm_vendor(const std::string& implementer) {
  static const std::map<std::string, std::string> names{
      {"0x41", "ARM"},    {"0x42", "Broadcom"}, {"0x43", "Cavium"}, {"0x46", "Fujitsu"},   {"0x48", "HiSilicon"},
      {"0x4e", "NVIDIA"}, {"0x51", "Qualcomm"}, {"0x61", "Apple"},  {"0x6d", "Microsoft"}, {"0xc0", "Ampere"}};
  const auto it = names.find(implementer);
  return it == names.end() ? "implementer " + implementer : it->second;
}

std::string arm_part(const std::string& implementer, const std::string& part) {
  static const std::map<std::string, std::string> names{
      {"0xd03", "Cortex-A53"},  {"0xd05", "Cortex-A55"},  {"0xd07", "Cortex-A57"}, {"0xd08", "Cortex-A72"},
      {"0xd09", "Cortex-A73"},  {"0xd0a", "Cortex-A75"},  {"0xd0b", "Cortex-A76"}, {"0xd0c", "Neoverse-N1"},
      {"0xd0d", "Cortex-A77"},  {"0xd40", "Neoverse-V1"}, {"0xd41", "Cortex-A78"}, {"0xd44", "Cortex-X1"},
      {"0xd46", "Cortex-A510"}, {"0xd47", "Cortex-A710"}, {"0xd48", "Cortex-X2"},  {"0xd49", "Neoverse-N2"},
      {"0xd4d", "Cortex-A715"}, {"0xd4e", "Cortex-X3"},   {"0xd4f", "Neoverse-V2"}};
  const auto it = names.find(part);
  return implementer != "0x41" || it == names.end() ? "part " + part : it->second;
}

// ---- Topology ----

using TopologyHandle = std::unique_ptr<std::remove_pointer_t<hwloc_topology_t>, decltype(&hwloc_topology_destroy)>;
using Bitmap = std::unique_ptr<std::remove_pointer_t<hwloc_bitmap_t>, decltype(&hwloc_bitmap_free)>;

TopologyHandle load_topology(const char* synthetic) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) throw Error("hwloc cannot start; is there memory left on this machine?");
  TopologyHandle topology(raw, &hwloc_topology_destroy);
  if (synthetic != nullptr && hwloc_topology_set_synthetic(raw, synthetic) != 0)
    throw Error("hwloc does not understand the machine \"{}\"; see lstopo --input", synthetic);
  if (hwloc_topology_load(raw) != 0) throw Error("hwloc cannot read this machine; check that lstopo works");
  return topology;
}

/// Leaves only the CPUs this process may use, as taskset and Slurm set them; hwloc itself knows of cpusets only.
void restrict_to_process(hwloc_topology_t topology) {
  if (!hwloc_topology_is_thissystem(topology)) return;
  const Bitmap allowed(hwloc_bitmap_alloc(), &hwloc_bitmap_free);
  if (allowed && hwloc_get_cpubind(topology, allowed.get(), HWLOC_CPUBIND_PROCESS) == 0)
    hwloc_topology_restrict(topology, allowed.get(), HWLOC_RESTRICT_FLAG_REMOVE_CPULESS);
}

int count(hwloc_topology_t topology, hwloc_obj_type_t type) {
  return std::max(0, hwloc_get_nbobjs_by_type(topology, type));
}

std::vector<Cache> list_caches(hwloc_topology_t topology) {
  const hwloc_obj_type_t levels[] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE};
  std::vector<Cache> caches;
  for (int level = 1; level <= static_cast<int>(std::size(levels)); ++level) {
    std::map<uint64_t, int, std::greater<>> counts;  // big and little cores have caches of different sizes
    hwloc_obj_t cache = nullptr;
    while ((cache = hwloc_get_next_obj_by_type(topology, levels[level - 1], cache)) != nullptr)
      if (cache->attr != nullptr && cache->attr->cache.size > 0) ++counts[cache->attr->cache.size];
    for (const auto& [bytes, number] : counts) caches.push_back({level, bytes, number});
  }
  return caches;
}

}  // namespace

std::vector<std::string> detect_instruction_sets() {
  std::vector<std::string> names;
  for (const Feature& feature : features())
    if (feature.present) names.emplace_back(feature.name);
  return names;
}

CpuName read_cpu_name(const std::filesystem::path& root) {
  const std::map<std::string, std::string> info = read_cpuinfo(root);
  const auto get = [&](const char* key) {
    const auto it = info.find(key);
    return it == info.end() ? std::string() : it->second;
  };
  CpuName cpu;
  if (!get("vendor_id").empty()) cpu.vendor = get("vendor_id");
  if (const std::string implementer = get("CPU implementer"); !implementer.empty()) {
    cpu.vendor = arm_vendor(implementer);
    cpu.name = arm_part(implementer, get("CPU part"));
  }
  // "Model" is the board on ARM ("Raspberry Pi 5 Model B Rev 1.0"), which says more than the core.
  for (const char* key : {"model name", "Model", "cpu model", "uarch"})
    if (const std::string name = get(key); !name.empty()) return {name, cpu.vendor};
  return cpu;
}

Topology read_topology(const char* synthetic) {
  const TopologyHandle topology = load_topology(synthetic);
  restrict_to_process(topology.get());
  Topology found;
  found.threads = std::max(1, count(topology.get(), HWLOC_OBJ_PU));
  // Some ARM kernels tell no cores: each thread is then its own.
  const int cores = count(topology.get(), HWLOC_OBJ_CORE);
  found.cores = cores > 0 ? cores : found.threads;
  found.numa_nodes = std::max(1, count(topology.get(), HWLOC_OBJ_NUMANODE));
  found.caches = list_caches(topology.get());
  return found;
}

}  // namespace haqa
