#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>

namespace haqa {

/// What the control groups of this process (v1 or v2, the group itself and all above it) leave to it.
/// Empty where nothing limits it. Containers, Slurm and systemd limit through these; /proc/meminfo does not show it.
struct CgroupLimits {
  std::optional<double> cpus;            ///< CPU time per wall time: 1.5 is one and a half CPUs; above 0
  std::optional<uint64_t> memory_bytes;  ///< the tightest memory limit
  /// What is left until the first limit is reached; file pages that are dropped under pressure count as left.
  std::optional<uint64_t> free_bytes;
};

/// `root`: the folder that holds proc/ and sys/; tests write one of their own.
/// Never throws for missing or odd files: they limit nothing.
CgroupLimits read_cgroup_limits(const std::filesystem::path& root = "/");

}  // namespace haqa
