#include "haqa/plugin/memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <map>

#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

struct Case {
  const char* name;
  std::map<std::string, std::string> files;
  uint64_t available;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class AvailableMemory : public testing::TestWithParam<Case> {};

TEST_P(AvailableMemory, IsWhatTheTightestLimitLeaves) {
  const TemporaryFolder root;
  for (const auto& [name, text] : GetParam().files) {
    const std::filesystem::path file = root.path() / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  EXPECT_EQ(available_memory(root.path()), GetParam().available);
}

const std::string kMachine = "MemTotal: 900 kB\nMemAvailable:     500 kB\nSwapTotal: 99 kB\nSwapFree: 12 kB\n";

INSTANTIATE_TEST_SUITE_P(
    All, AvailableMemory,
    testing::Values(Case{"Unknown", {}, kUnlimited}, Case{"Machine", {{"proc/meminfo", kMachine}}, 512 << 10},
                    Case{"GroupWithoutLimit",
                         {{"proc/meminfo", kMachine},
                          {"proc/self/cgroup", "0::/a/b\n"},
                          {"sys/fs/cgroup/a/b/memory.max", "max\n"},
                          {"sys/fs/cgroup/a/b/memory.current", "5\n"}},
                         512 << 10},
                    Case{"Group",
                         {{"proc/meminfo", kMachine},
                          {"proc/self/cgroup", "0::/a/b\n"},
                          {"sys/fs/cgroup/a/b/memory.max", "100000\n"},
                          {"sys/fs/cgroup/a/b/memory.current", "30000\n"},
                          {"sys/fs/cgroup/a/b/memory.stat", "anon 9000\ninactive_file 6000\nactive_file 4000\n"}},
                         80000},
                    Case{"GroupAboveIt",
                         {{"proc/self/cgroup", "0::/a/b\n"},
                          {"sys/fs/cgroup/a/b/memory.max", "max\n"},
                          {"sys/fs/cgroup/a/b/memory.current", "30000\n"},
                          {"sys/fs/cgroup/a/memory.max", "50000\n"},
                          {"sys/fs/cgroup/a/memory.current", "40000\n"}},
                         10000},
                    Case{"Container",
                         {{"proc/self/cgroup", "0::/../deep/path\n"},
                          {"sys/fs/cgroup/memory.max", "70000\n"},
                          {"sys/fs/cgroup/memory.current", "80000\n"}},
                         0},
                    Case{
                        "Version1",
                        {{"proc/meminfo", kMachine},
                         {"proc/self/cgroup", "9:cpu,cpuacct:/x\n8:memory:/docker/1\n0::/\n"},
                         {"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "60000"},
                         {"sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", "50000"},
                         {"sys/fs/cgroup/memory/docker/1/memory.stat", "inactive_file 1\ntotal_inactive_file 20000\n"}},
                        30000}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(AvailableMemoryHere, OfThisMachineIsANumber) {
  EXPECT_GT(available_memory(), 1u << 20);
  EXPECT_LT(available_memory(), uint64_t{1} << 50);
}

}  // namespace
}  // namespace haqa
