#include "haqa/hardware/detect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/hardware/cgroup.h"
#include "haqa/hardware/cpu.h"
#include "haqa/hardware/text.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// What a program of the system prints: the independent references of these tests.
std::string output_of(const std::string& command) {
  std::string text;
  std::array<char, 4096> part{};
  FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  while (pipe != nullptr && fgets(part.data(), part.size(), pipe) != nullptr) text += part.data();
  if (pipe != nullptr) pclose(pipe);
  return text;
}

/// /proc/cpuinfo's list of what the kernel lets programs use.
std::set<std::string> kernel_flags() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    return {std::istream_iterator<std::string>(words), {}};
  }
  return {};
}

std::map<std::string, uint64_t> meminfo_kib() {
  std::map<std::string, uint64_t> values;
  std::ifstream in("/proc/meminfo");
  std::string key, unit;
  for (uint64_t value = 0; in >> key >> value; std::getline(in, unit)) values[key.substr(0, key.size() - 1)] = value;
  return values;
}

/// A folder that stands for "/": write("proc/cpuinfo", ...).
class FakeRoot : public ::testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  const TemporaryFolder temporary_;
  const fs::path root_ = temporary_.path();
};

// ---- This machine, against the kernel and the system's own programs ----

TEST(InstructionSets, AreTheKernels) {
  const std::set<std::string> flags = kernel_flags();
  if (flags.empty()) GTEST_SKIP() << "the kernel lists no CPU features";
  const std::map<std::string, std::set<std::string>> names {
#if defined(__x86_64__)
    {"avx2", {"avx2"}}, {"f16c", {"f16c"}}, {"fma", {"fma"}},
        {"avx512", {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}},
        {"avx512_vnni", {"avx512_vnni", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}},
        {"avx_vnni", {"avx_vnni"}}, {"avx512_bf16", {"avx512_bf16"}}, {"avx512_fp16", {"avx512_fp16"}},
        {"amx_int8", {"amx_int8", "amx_tile"}},
#elif defined(__aarch64__)
    {"neon", {"asimd"}}, {"dotprod", {"asimddp"}}, {"i8mm", {"i8mm"}}, {"fp16", {"asimdhp"}}, {"bf16", {"bf16"}},
        {"sve", {"sve"}},
#endif
  };
  const std::vector<std::string> found = detect_instruction_sets();
  for (const auto& [name, needs] : names) {
    const bool expected = std::includes(flags.begin(), flags.end(), needs.begin(), needs.end());
    EXPECT_EQ(std::count(found.begin(), found.end(), name), expected ? 1 : 0) << name;
  }
  for (const std::string& name : found) EXPECT_TRUE(names.count(name)) << name << " is not documented";
}

TEST(Topology, ThreadsAreThoseOfNproc) {
  const std::string nproc = output_of("env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc");
  if (nproc.empty()) GTEST_SKIP() << "no nproc";
  EXPECT_EQ(read_topology().threads, std::stoi(nproc));
}

TEST(Topology, CoresAndNodesAreThoseOfLscpu) {
  // One line per CPU that is online: CORE,NODE. Only those of this process count.
  const std::string list = output_of("lscpu -p=CPU,CORE,NODE");
  if (list.empty()) GTEST_SKIP() << "no lscpu";
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  std::set<std::string> cores, nodes;
  std::istringstream lines(list);
  for (std::string line; std::getline(lines, line);) {
    if (line[0] == '#') continue;
    const size_t first = line.find(','), second = line.find(',', first + 1);
    if (!CPU_ISSET(std::stoi(line), &allowed)) continue;
    cores.insert(line.substr(first + 1, second - first - 1));
    nodes.insert(line.substr(second + 1));
  }
  EXPECT_EQ(read_topology().cores, static_cast<int>(cores.size()));
  EXPECT_EQ(read_topology().numa_nodes, static_cast<int>(nodes.size()));
}

TEST(Topology, CachesAreThoseOfSysfs) {
  const fs::path folder = "/sys/devices/system/cpu/cpu0/cache";
  if (!fs::exists(folder)) GTEST_SKIP() << "the kernel tells no caches";
  for (const fs::directory_entry& index : fs::directory_iterator(folder)) {
    if (!fs::exists(index.path() / "size")) continue;
    if (read_file(index.path() / "type") == "Instruction\n") continue;
    const int level = std::stoi(read_file(index.path() / "level"));
    const uint64_t bytes = std::stoull(read_file(index.path() / "size")) * 1024;
    const std::vector<Cache> caches = read_topology().caches;
    EXPECT_TRUE(std::any_of(caches.begin(), caches.end(),
                            [&](const Cache& c) { return c.level == level && c.bytes == bytes && c.count > 0; }))
        << "L" << level << ", " << bytes << " bytes";
  }
}

/// As taskset does it. The affinity of this thread is what hwloc reads, too.
TEST(CpuTime, IsThatOfProcStat) {
  TemporaryFolder folder;
  std::filesystem::create_directories(folder / "proc");
  const auto read = [&](const char* text) {
    std::ofstream(folder / "proc/stat") << text;
    const CpuTime t = read_cpu_time(folder.path());
    return std::pair(t.busy, t.all);
  };
  EXPECT_EQ(read("cpu  100 20 30 1000 50 4 6 40 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"), std::pair(200ul, 1250ul));
  for (const char* text : {"", "cpu", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu a b c d e f g h"})
    EXPECT_EQ(read(text), std::pair(0ul, 0ul)) << text;
  const CpuTime before = read_cpu_time();
  EXPECT_GT(before.busy, 0u);
  EXPECT_LT(before.busy, before.all);
}

TEST(Topology, OnlyTheCpusOfThisProcessCount) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  if (CPU_COUNT(&before) < 2) GTEST_SKIP() << "one CPU only";
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  // A program of its own, for other threads of this one (a driver's) keep their affinity.
  const pid_t child = fork();
  if (child == 0) {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task"))  // a sanitizer's thread too
      sched_setaffinity(std::stoi(task.path().filename()), sizeof one, &one);
    const Topology topology = read_topology();
    _exit(topology.threads == 1 && topology.cores == 1 && topology.numa_nodes == 1 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Topology, Synthetic) {
  struct Case {
    const char* machine;
    int cores, threads, numa_nodes;
    std::vector<std::array<uint64_t, 3>> caches;  // level, bytes, count
  };
  const Case cases[] = {
      {"pack:2 [numa] l3:1(size=32MiB) l2:8(size=512KiB) l1:1(size=32KiB) core:1 pu:2",
       16,
       32,
       2,
       {{1, 32 << 10, 16}, {2, 512 << 10, 16}, {3, 32 << 20, 2}}},
      {"core:4 pu:1", 4, 4, 1, {}},
      {"pu:3", 3, 3, 1, {}},  // no cores told
  };
  for (const Case& c : cases) {
    const Topology found = read_topology(c.machine);
    EXPECT_EQ(found.cores, c.cores) << c.machine;
    EXPECT_EQ(found.threads, c.threads) << c.machine;
    EXPECT_EQ(found.numa_nodes, c.numa_nodes) << c.machine;
    std::vector<std::array<uint64_t, 3>> caches;
    for (const Cache& cache : found.caches)
      caches.push_back({static_cast<uint64_t>(cache.level), cache.bytes, static_cast<uint64_t>(cache.count)});
    EXPECT_EQ(caches, c.caches) << c.machine;
  }
  EXPECT_THROW(read_topology("nonsense:x"), Error);
}

TEST(Detect, ThisMachine) {
  const HardwareProfile p = detect_hardware();
  EXPECT_EQ(p.id, "this-machine");
  EXPECT_TRUE(p.here);
  EXPECT_EQ(p.engine, "cpu");
  EXPECT_EQ(p.architecture + "\n", output_of("uname -m"));
  EXPECT_GE(p.threads, p.cores);
  EXPECT_TRUE(p.bandwidth.empty());
  EXPECT_EQ(p.peak.fp32, 0);
  std::map<std::string, uint64_t> kib = meminfo_kib();
  EXPECT_LE(p.memory_bytes, kib["MemTotal"] * 1024);
  if (!read_cgroup_limits().memory_bytes) {
    EXPECT_EQ(p.memory_bytes, kib["MemTotal"] * 1024);
  }
  EXPECT_GT(p.free_bytes, 0u);
  EXPECT_LT(p.free_bytes, p.memory_bytes);
  EXPECT_EQ(to_json(profile_from_json(to_json(p))), to_json(p));
  const std::string os = output_of(". /etc/os-release && echo \"$PRETTY_NAME\"");
  if (os.size() > 1) {
    EXPECT_EQ(p.platform + "\n", os);
  }
  const std::string model = output_of("LC_ALL=C lscpu | sed -n 's/^Model name: *//p' | head -1");
  if (p.architecture == "x86_64" && !model.empty()) {
    EXPECT_EQ(p.name, clean_text(model));
  }
}

TEST(Detect, IsFastWithoutGpuDrivers) {
  DetectOptions options;
  options.gpu_libraries = {"libhaqa-none.so", "libhaqa-none.so", "libhaqa-none.so"};
  double best = 1e9;  // of five: other programs on the machine only slow it down
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    detect_hardware(options);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  EXPECT_LT(best, 0.05);
}

// ---- Machines made of files ----

TEST_F(FakeRoot, CpuNames) {
  struct Case {
    const char *cpuinfo, *name, *vendor;
  };
  const Case cases[] = {
      {"processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R)  Gold 6338 CPU   @ 2.00GHz\n"
       "model name\t: another\n",
       "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", "GenuineIntel"},
      {"processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
       "Raspberry Pi 5 Model B Rev 1.0", "ARM"},
      {"CPU implementer\t: 0x41\nCPU part\t: 0xd4f\n", "Neoverse-V2", "ARM"},
      {"CPU implementer\t: 0x51\nCPU part\t: 0xd4f\n", "part 0xd4f", "Qualcomm"},
      {"CPU implementer\t: 0x99\nCPU part\t: 0x1\n", "part 0x1", "implementer 0x99"},
      {"model name\t: bad \xff\xfe bytes\x01\n", "bad bytes", "unknown"},
      {"", "unknown", "unknown"},
  };
  for (const Case& c : cases) {
    write("proc/cpuinfo", c.cpuinfo);
    EXPECT_EQ(read_cpu_name(root_).name, c.name);
    EXPECT_EQ(read_cpu_name(root_).vendor, c.vendor);
  }
  EXPECT_EQ(read_cpu_name(root_ / "missing").name, "unknown");
}

TEST_F(FakeRoot, Platform) {
  write("usr/lib/os-release", "NAME='Other'\nPRETTY_NAME='Other OS 3'\n");
  EXPECT_EQ(read_platform(root_), "Other OS 3");
  write("etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
  EXPECT_EQ(read_platform(root_), "Debian GNU/Linux 12 (bookworm)");
  write("etc/os-release", "PRETTY_NAME=Plain\n");
  EXPECT_EQ(read_platform(root_), "Plain");
  EXPECT_THAT(read_platform(root_ / "missing"), HasSubstr("Linux"));
}

TEST_F(FakeRoot, MemoryWithoutLimits) {
  write("proc/meminfo", "MemTotal:       24684000 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\n");
  EXPECT_EQ(read_memory(root_).bytes, uint64_t{24'684'000} * 1024);
  EXPECT_EQ(read_memory(root_).free_bytes, uint64_t{20'000'000} * 1024);
  EXPECT_EQ(read_memory(root_ / "missing").bytes, 0u);
}

constexpr const char* kMountV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

TEST_F(FakeRoot, CgroupV2) {
  write("proc/meminfo", "MemTotal: 100000000 kB\nMemAvailable: 90000000 kB\n");
  write("proc/self/cgroup", "0::/slurm/job\n");
  write("proc/self/mountinfo", kMountV2);
  write("sys/fs/cgroup/slurm/job/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/slurm/cpu.max", "350000 100000\n");
  write("sys/fs/cgroup/slurm/job/memory.max", "16000000000\n");
  write("sys/fs/cgroup/slurm/job/memory.current", "6000000000\n");
  write("sys/fs/cgroup/slurm/job/memory.stat", "anon 1\ninactive_file 2000000000\n");
  write("sys/fs/cgroup/slurm/memory.max", "20000000000\n");
  write("sys/fs/cgroup/slurm/memory.current", "19000000000\n");
  const CgroupLimits limits = read_cgroup_limits(root_);
  EXPECT_EQ(limits.cpus, 3.5);
  EXPECT_EQ(limits.memory_bytes, 16'000'000'000u);
  EXPECT_EQ(limits.free_bytes, 1'000'000'000u) << "the parent group is fuller";
  EXPECT_EQ(read_memory(root_).bytes, 16'000'000'000u);
  EXPECT_EQ(read_memory(root_).free_bytes, 1'000'000'000u);

  DetectOptions options{root_, {"none.so", "none.so", "none.so"}, "core:8 pu:2"};
  const HardwareProfile p = detect_hardware(options);
  EXPECT_EQ(p.threads, 3);
  EXPECT_EQ(p.cores, 3);
  write("sys/fs/cgroup/slurm/job/cpu.max", "50000 100000\n");
  EXPECT_EQ(detect_hardware(options).threads, 1) << "half a CPU is one thread";
  write("sys/fs/cgroup/slurm/job/memory.current", "17000000000\n");
  write("sys/fs/cgroup/slurm/job/memory.stat", "");
  EXPECT_EQ(read_memory(root_).free_bytes, 0u) << "over the limit for a moment";
}

TEST_F(FakeRoot, CgroupV1InAContainer) {
  // As docker mounts it without a cgroup namespace: the group's own folder is the mount's root.
  write("proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n");
  write("proc/self/mountinfo",
        "40 39 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro master:12 - cgroup cgroup rw,cpu,cpuacct\n"
        "41 39 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "4000000000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "3000000000\n");
  write("sys/fs/cgroup/memory/memory.stat", "inactive_file 5\ntotal_inactive_file 500000000\n");
  const CgroupLimits limits = read_cgroup_limits(root_);
  EXPECT_EQ(limits.cpus, 2.0);
  EXPECT_EQ(limits.memory_bytes, 4'000'000'000u);
  EXPECT_EQ(limits.free_bytes, 1'500'000'000u);
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_FALSE(read_cgroup_limits(root_).cpus);
  EXPECT_FALSE(read_cgroup_limits(root_).memory_bytes);
}

TEST_F(FakeRoot, OddCgroupFilesLimitNothing) {
  write("proc/self/mountinfo", std::string("rubbish\n - \n1 2 3 - cgroup2 x y\n") + kMountV2);
  for (const char* group : {"0::/\n", "0::/../../elsewhere\n", "0::\n", "nonsense\n", "::\n", ""}) {
    write("proc/self/cgroup", group);
    write("sys/fs/cgroup/cpu.max", "0 0\n");
    write("sys/fs/cgroup/memory.max", "12x\n");
    EXPECT_FALSE(read_cgroup_limits(root_).cpus) << group;
    EXPECT_FALSE(read_cgroup_limits(root_).memory_bytes) << group;
  }
  EXPECT_FALSE(read_cgroup_limits(root_ / "missing").cpus);
}

TEST(CleanText, Table) {
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"   ", ""},
                                                       {" a  b ", "a b"},
                                                       {"a\tb\n", "a b"},
                                                       {"\xff"
                                                        "a",
                                                        "a"},
                                                       {"a\x7f\x80z", "a z"}};
  for (const auto& [raw, clean] : cases) EXPECT_EQ(clean_text(raw), clean);
}

}  // namespace
}  // namespace haqa
