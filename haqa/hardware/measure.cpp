#include <fmt/format.h>

#include <string>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/hardware/detect.h"
#include "haqa/hardware/microbench.h"
#include "haqa/hardware/profile.h"

namespace haqa {
namespace {

/// Raised when the way of measuring changes: figures of older versions are then measured anew.
constexpr int kVersion = 1;

/// A debug build measures its own slowness, which a release build must not find in the cache.
#ifdef __OPTIMIZE__
constexpr const char* kBuild = "optimized";
#else
constexpr const char* kBuild = "not optimized";
#endif

/// The cache's content, or an empty one where it is missing, unreadable or of another version: it can be made again.
Json read_cache() {
  const Json empty = {{"version", kVersion}, {"machines", Json::object()}};
  try {
    const Json cache = Json::parse(read_file(hardware_cache_file()));
    return cache.at("version") == kVersion && cache.at("machines").is_object() ? cache : empty;
  } catch (const Error&) {
    return empty;
  } catch (const Json::exception&) {
    return empty;
  }
}

}  // namespace

bool recall_rates(HardwareProfile& profile) {
  const Json cache = read_cache();
  const auto entry = cache["machines"].find(machine_identity(profile));
  if (entry == cache["machines"].end() || !entry->is_object()) return false;
  Json json = to_json(profile);
  json["bandwidth"] = entry->value("bandwidth", Json());
  json["peak"] = entry->value("peak", Json());
  try {
    HardwareProfile read = profile_from_json(json);
    if (read.best_bandwidth() <= 0 || read.peak.fp32 <= 0) return false;
    profile = std::move(read);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void remember_rates(const HardwareProfile& profile) {
  const Json json = to_json(profile);
  Json cache = read_cache();
  cache["machines"][machine_identity(profile)] = {{"bandwidth", json["bandwidth"]}, {"peak", json["peak"]}};
  try {
    make_folder(cache_folder());
    write_file(hardware_cache_file(), cache.dump(2) + "\n");
  } catch (const Error&) {
    // A home folder that is full or read-only costs the next run two seconds; that is no reason to fail this one.
  }
}

std::filesystem::path hardware_cache_file() {
  return cache_folder() / "hardware.json";
}

std::string machine_identity(const HardwareProfile& profile) {
  std::string text = fmt::format("{}, {}, {}, {} cores, {} threads, {} NUMA nodes, {:.0f} GB, {}", profile.name,
                                 profile.vendor, profile.architecture, profile.cores, profile.threads,
                                 profile.numa_nodes, static_cast<double>(profile.memory_bytes) / 1e9, kBuild);
  for (const Cache& cache : profile.caches)
    text += fmt::format(", L{} {} x {} KiB", cache.level, cache.count, cache.bytes / 1024);
  return text + ", " + fmt::format("{}", fmt::join(profile.instruction_sets, " "));
}

HardwareProfile measure_hardware(bool again) {
  HardwareProfile profile = detect_hardware();
  if (!again && recall_rates(profile)) return profile;
  measure_rates(profile);
  if (profile.best_bandwidth() > 0) remember_rates(profile);
  return profile;
}

}  // namespace haqa
