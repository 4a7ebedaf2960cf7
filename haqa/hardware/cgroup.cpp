#include "haqa/hardware/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace haqa {
namespace fs = std::filesystem;
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream{std::string(text)};
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

bool contains(const std::vector<std::string>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

/// The words of the file's first line; empty where it cannot be read.
std::vector<std::string> first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return split(line, ' ');
}

/// Empty for "max", "-1" and rubbish.
std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<uint64_t> number_in(const fs::path& file) {
  const std::vector<std::string> words = first_line(file);
  return words.empty() ? std::nullopt : number(words[0]);
}

/// A line "key value" of a file such as memory.stat.
uint64_t stat_value(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string name, value;
  while (in >> name >> value)
    if (name == key) return number(value).value_or(0);
  return 0;
}

/// The folders of one hierarchy that apply to this process, innermost first.
struct Hierarchy {
  bool v2 = false;
  std::vector<fs::path> groups;
};

/// The path of this process's group: the line "ID:controllers:path" with that controller; v2 has no controllers.
std::optional<std::string> group_path(const fs::path& root, std::string_view controller) {
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool match = controller.empty() ? controllers.empty() : contains(split(controllers, ','), controller);
    if (match) return line.substr(second + 1);
  }
  return std::nullopt;
}

/// The group's folder and those above it, up to the mount point. Inside a container without a cgroup namespace the
/// group's path still starts with that of the mounted folder, which is then cut off.
std::vector<fs::path> folders(const fs::path& mount_point, const std::string& mount_root, std::string path) {
  if (mount_root != "/" && path.rfind(mount_root, 0) == 0) path = path.substr(mount_root.size());
  fs::path folder = mount_point / fs::path(path).relative_path();
  // Some containers show a path that the mount does not contain: then the mount itself is the group.
  if (!fs::is_directory(folder)) folder = mount_point;
  std::vector<fs::path> found{folder};
  while (folder != mount_point && folder.has_relative_path() && folder != folder.parent_path()) {
    folder = folder.parent_path();
    found.push_back(folder);
  }
  return found;
}

/// The hierarchy of a v1 controller, or v2's where `controller` is empty.
Hierarchy find_hierarchy(const fs::path& root, std::string_view controller) {
  Hierarchy hierarchy{.v2 = controller.empty(), .groups = {}};
  const std::optional<std::string> path = group_path(root, controller);
  std::ifstream in(root / "proc/self/mountinfo");
  for (std::string line; path && std::getline(in, line);) {
    // "31 23 0:28 ROOT MOUNT_POINT options [tags] - TYPE source super_options"
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const std::vector<std::string> left = split(line.substr(0, dash), ' '), right = split(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    const bool match =
        hierarchy.v2 ? right[0] == "cgroup2" : right[0] == "cgroup" && contains(split(right[2], ','), controller);
    if (match) hierarchy.groups = folders(root / fs::path(left[4]).relative_path(), left[3], *path);
  }
  return hierarchy;
}

template <typename T>
void tighten(std::optional<T>& limit, T value) {
  limit = limit ? std::min(*limit, value) : value;
}

void read_cpu(const Hierarchy& hierarchy, CgroupLimits& limits) {
  for (const fs::path& group : hierarchy.groups) {
    std::optional<uint64_t> quota, period;
    if (hierarchy.v2) {
      const std::vector<std::string> words = first_line(group / "cpu.max");  // "max 100000" or "150000 100000"
      if (words.size() == 2) quota = number(words[0]), period = number(words[1]);
    } else {
      quota = number_in(group / "cpu.cfs_quota_us");
      period = number_in(group / "cpu.cfs_period_us");
    }
    if (quota && period && *quota > 0 && *period > 0)
      tighten(limits.cpus, static_cast<double>(*quota) / static_cast<double>(*period));
  }
}

void read_memory(const Hierarchy& hierarchy, CgroupLimits& limits) {
  for (const fs::path& group : hierarchy.groups) {
    const std::optional<uint64_t> limit = number_in(group / (hierarchy.v2 ? "memory.max" : "memory.limit_in_bytes"));
    // v1 writes "no limit" as the largest multiple of a page below 2^63.
    if (!limit || *limit >= (uint64_t{1} << 60)) continue;
    tighten(limits.memory_bytes, *limit);
    const std::optional<uint64_t> used = number_in(group / (hierarchy.v2 ? "memory.current" : "memory.usage_in_bytes"));
    if (!used) continue;
    const uint64_t droppable =
        std::min(*used, stat_value(group / "memory.stat", hierarchy.v2 ? "inactive_file" : "total_inactive_file"));
    const uint64_t held = *used - droppable;
    tighten(limits.free_bytes, *limit > held ? *limit - held : uint64_t{0});
  }
}

}  // namespace

CgroupLimits read_cgroup_limits(const fs::path& root) {
  CgroupLimits limits;
  const Hierarchy v2 = find_hierarchy(root, "");
  read_cpu(v2, limits);
  read_memory(v2, limits);
  read_cpu(find_hierarchy(root, "cpu"), limits);
  read_memory(find_hierarchy(root, "memory"), limits);
  return limits;
}

}  // namespace haqa
