#include "haqa/plugin/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

/// The only number in a file; nullopt where there is none, as for "max".
std::optional<uint64_t> number_in(const fs::path& file) {
  uint64_t number = 0;
  return std::ifstream(file) >> number ? std::optional(number) : std::nullopt;
}

/// The sum of the numbers behind these names, line by line.
uint64_t sum_in(const fs::path& file, std::initializer_list<std::string_view> names) {
  uint64_t sum = 0;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t number = 0;
    if (!(words >> name >> number)) continue;
    for (const std::string_view wanted : names) sum += name == wanted ? number : 0;
  }
  return sum;
}

/// Where a group's files are: those of version 2, or of version 1's controller of memory.
struct GroupFiles {
  const char *mount, *limit, *used;
  std::initializer_list<std::string_view> droppable;  ///< in memory.stat, of files
};
const GroupFiles kVersion2 = {"sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file", "active_file"}};
const GroupFiles kVersion1 = {"sys/fs/cgroup/memory",
                              "memory.limit_in_bytes",
                              "memory.usage_in_bytes",
                              {"total_inactive_file", "total_active_file"}};

/// Of the group and those that it lies in; in a container the first that there is may be the container's own.
uint64_t left_in_groups(const fs::path& root, const GroupFiles& files, const fs::path& group) {
  uint64_t least = kUnlimited;
  for (fs::path at = group.relative_path();; at = at.parent_path()) {
    const fs::path folder = root / files.mount / at;
    const auto limit = number_in(folder / files.limit), used = number_in(folder / files.used);
    if (limit && used) {
      const uint64_t droppable = sum_in(folder / "memory.stat", files.droppable);
      const uint64_t held = *used - std::min(*used, droppable);
      least = std::min(least, *limit - std::min(*limit, held));
    }
    if (at.empty()) return least;
  }
}

}  // namespace

/// proc(5), and the kernel's cgroup-v2 and cgroup-v1/memory.
uint64_t available_memory(const fs::path& root) {
  uint64_t least = sum_in(root / "proc/meminfo", {"MemAvailable:", "SwapFree:"});
  least = least == 0 ? kUnlimited : least << 10;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/path", "9:memory:/path"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path group = line.substr(second + 1);
    if (controllers == ",,") least = std::min(least, left_in_groups(root, kVersion2, group));
    if (controllers.find(",memory,") != std::string::npos)
      least = std::min(least, left_in_groups(root, kVersion1, group));
  }
  return least;
}

Memory::Memory(size_t bytes, Pages pages, Backing backing) {
  if (bytes == 0) return;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (backing == Backing::as_touched ? MAP_NORESERVE : 0);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) return;
  if (pages == Pages::large) madvise(memory, bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
  size_ = bytes;
}

Memory::~Memory() {
  if (data_) munmap(data_, size_);
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void release_file_pages(const void* data, size_t size) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(data) + size) / page * page;
  if (begin >= end) return;
  // Dropped anonymous pages would come back as zeros, so the mapping is looked up first (proc(5)): read only, and of a
  // file, whose inode is not 0.
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0, until = 0, inode = 0;
    char rights[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s %*x %*s %lu", &from, &until, rights, &inode) != 4) continue;
    if (begin < from || begin >= until) continue;
    if (end <= until && inode != 0 && rights[1] == '-')
      madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    return;
  }
}

}  // namespace haqa
