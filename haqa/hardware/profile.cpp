#include "haqa/hardware/profile.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <string>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

/// Reads one JSON object key by key. Every complaint names the key with its path ("peak.fp16", "caches[0].level").
class Fields {
 public:
  Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object_.is_object()) fail(path_.empty() ? "the profile" : path_, "must be an object {...}");
  }

  const Json* find(const std::string& key) {
    known_.insert(key);
    const auto it = object_.find(key);
    return it == object_.end() ? nullptr : &*it;
  }

  /// A key without which a profile is of no use.
  void require(const std::string& key) {
    if (find(key) == nullptr) fail(name(key), "is missing; add it");
  }

  void read(const std::string& key, std::string& out) {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_string()) fail(name(key), "must be a text in quotes");
    out = value->get<std::string>();
  }

  void read(const std::string& key, bool& out) {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) fail(name(key), "must be true or false");
    out = value->get<bool>();
  }

  void read(const std::string& key, double& out) {
    if (const Json* value = find(key)) out = number(*value, name(key));
  }

  void read(const std::string& key, uint64_t& out) {
    if (const Json* value = find(key)) out = whole(*value, name(key), std::numeric_limits<int64_t>::max());
  }

  void read(const std::string& key, int& out) {
    if (const Json* value = find(key))
      out = static_cast<int>(whole(*value, name(key), std::numeric_limits<int>::max()));
  }

  void read(const std::string& key, std::vector<std::string>& out) {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_array()) fail(name(key), "must be a list [...]");
    out.clear();
    for (const Json& item : *value) {
      if (!item.is_string()) fail(name(key), "must hold texts in quotes only");
      out.push_back(item.get<std::string>());
    }
  }

  /// A list of objects, each read by `read_one(Fields&, T&)`.
  template <typename T, typename ReadOne>
  void read_each(const std::string& key, std::vector<T>& out, ReadOne read_one) {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_array()) fail(name(key), "must be a list [...]");
    out.clear();
    for (const Json& item : *value) {
      Fields fields(item, name(key) + "[" + std::to_string(out.size()) + "]");
      read_one(fields, out.emplace_back());
      fields.finish();
    }
  }

  std::string name(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }

  /// A misspelt key would otherwise be a figure that silently stays 0.
  void finish() const {
    for (const auto& item : object_.items())
      if (!known_.count(item.key())) fail(name(item.key()), "is not a key of a device profile; remove or rename it");
  }

  [[noreturn]] static void fail(const std::string& key, std::string_view what) {
    throw Error("device profile: {} {}", key, what);
  }

  static double number(const Json& value, const std::string& key) {
    if (!value.is_number()) fail(key, "must be a number");
    const double number = value.get<double>();
    if (!std::isfinite(number) || number < 0) fail(key, "must not be negative");
    return number;
  }

  static uint64_t whole(const Json& value, const std::string& key, int64_t largest) {
    const double given = number(value, key);
    if (given != std::floor(given)) fail(key, "must be a whole number");
    // As double, INT64_MAX rounds up to 2^63: ">=" keeps the conversion below defined.
    if (given >= static_cast<double>(largest)) fail(key, "is too large");
    return value.is_number_integer() ? value.get<uint64_t>() : static_cast<uint64_t>(given);
  }

 private:
  const Json& object_;
  std::string path_;
  std::set<std::string> known_;
};

void read_cache(Fields& fields, Cache& cache) {
  for (const char* key : {"level", "bytes", "count"}) fields.require(key);
  fields.read("level", cache.level);
  fields.read("bytes", cache.bytes);
  fields.read("count", cache.count);
}

void read_bandwidth(Fields& fields, Bandwidth& bandwidth) {
  for (const char* key : {"threads", "bytes_per_s"}) fields.require(key);
  fields.read("threads", bandwidth.threads);
  fields.read("bytes_per_s", bandwidth.bytes_per_s);
}

void read_gpu(Fields& fields, Gpu& gpu) {
  fields.require("name");
  fields.read("name", gpu.name);
  fields.read("vendor", gpu.vendor);
  fields.read("api", gpu.api);
  fields.read("compute_units", gpu.compute_units);
  fields.read("memory_bytes", gpu.memory_bytes);
  fields.read("free_bytes", gpu.free_bytes);
  fields.read("capability", gpu.capability);
}

void read_peak(Fields& profile, PeakRates& peak) {
  const Json* object = profile.find("peak");
  if (object == nullptr) return;
  Fields fields(*object, profile.name("peak"));
  fields.read("fp32", peak.fp32);
  fields.read("fp16", peak.fp16);
  fields.read("int8", peak.int8);
  fields.read("int4", peak.int4);
  fields.finish();
}

/// An object from names to positive numbers: a rate of 0 would divide a time by zero further on.
void read_rates(Fields& profile, Json& out) {
  const Json* object = profile.find("weight_rates");
  if (object == nullptr) return;
  if (!object->is_object()) Fields::fail("weight_rates", "must be an object {...}");
  for (const auto& item : object->items()) {
    const std::string key = "weight_rates." + item.key();
    if (Fields::number(item.value(), key) <= 0) Fields::fail(key, "must be above 0");
  }
  out = *object;
}

void read_sources(Fields& profile, Json& out) {
  const Json* object = profile.find("sources");
  if (object == nullptr) return;
  if (!object->is_object()) Fields::fail("sources", "must be an object {...}");
  for (const auto& item : object->items())
    if (!item.value().is_string() || item.value().get<std::string>().empty())
      Fields::fail("sources." + item.key(), "must be a text that says where the figure was taken from");
  out = *object;
}

void read_identity(Fields& fields, HardwareProfile& profile) {
  for (const char* key : {"id", "name", "vendor", "architecture", "engine", "memory_bytes", "bandwidth", "peak"})
    fields.require(key);
  fields.read("id", profile.id);
  fields.read("here", profile.here);
  fields.read("name", profile.name);
  fields.read("vendor", profile.vendor);
  fields.read("architecture", profile.architecture);
  fields.read("platform", profile.platform);
  fields.read("engine", profile.engine);
  if (profile.engine != "cpu" && profile.engine != "gpu") Fields::fail("engine", "must be \"cpu\" or \"gpu\"");
}

Json list_caches(const HardwareProfile& profile) {
  Json list = Json::array();
  for (const Cache& cache : profile.caches)
    list.push_back({{"level", cache.level}, {"bytes", cache.bytes}, {"count", cache.count}});
  return list;
}

Json list_bandwidth(const HardwareProfile& profile) {
  Json list = Json::array();
  for (const Bandwidth& entry : profile.bandwidth)
    list.push_back({{"threads", entry.threads}, {"bytes_per_s", entry.bytes_per_s}});
  return list;
}

Json list_gpus(const HardwareProfile& profile) {
  Json list = Json::array();
  for (const Gpu& gpu : profile.gpus)
    list.push_back({{"name", gpu.name},
                    {"vendor", gpu.vendor},
                    {"api", gpu.api},
                    {"compute_units", gpu.compute_units},
                    {"memory_bytes", gpu.memory_bytes},
                    {"free_bytes", gpu.free_bytes},
                    {"capability", gpu.capability}});
  return list;
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

bool HardwareProfile::has(std::string_view instruction_set) const {
  return std::find(instruction_sets.begin(), instruction_sets.end(), instruction_set) != instruction_sets.end();
}

double HardwareProfile::best_bandwidth() const {
  double best = 0;
  for (const Bandwidth& entry : bandwidth) best = std::max(best, entry.bytes_per_s);
  return best;
}

Json to_json(const HardwareProfile& profile) {
  Json json;
  json["id"] = profile.id;
  json["here"] = profile.here;
  json["name"] = profile.name;
  json["vendor"] = profile.vendor;
  json["architecture"] = profile.architecture;
  json["platform"] = profile.platform;
  json["engine"] = profile.engine;
  json["cores"] = profile.cores;
  json["threads"] = profile.threads;
  json["numa_nodes"] = profile.numa_nodes;
  json["caches"] = list_caches(profile);
  json["instruction_sets"] = profile.instruction_sets;
  json["memory_bytes"] = profile.memory_bytes;
  json["free_bytes"] = profile.free_bytes;
  json["bandwidth"] = list_bandwidth(profile);
  json["peak"] = {{"fp32", profile.peak.fp32},
                  {"fp16", profile.peak.fp16},
                  {"int8", profile.peak.int8},
                  {"int4", profile.peak.int4}};
  json["matrix_units"] = profile.matrix_units;
  json["gpus"] = list_gpus(profile);
  json["weight_rates"] = profile.weight_rates;
  json["notes"] = profile.notes;
  json["sources"] = profile.sources;
  return json;
}

HardwareProfile profile_from_json(const Json& json) {
  HardwareProfile profile;
  Fields fields(json, "");
  read_identity(fields, profile);
  fields.read("cores", profile.cores);
  fields.read("threads", profile.threads);
  fields.read("numa_nodes", profile.numa_nodes);
  fields.read_each("caches", profile.caches, read_cache);
  fields.read("instruction_sets", profile.instruction_sets);
  fields.read("memory_bytes", profile.memory_bytes);
  fields.read("free_bytes", profile.free_bytes);
  fields.read_each("bandwidth", profile.bandwidth, read_bandwidth);
  read_peak(fields, profile.peak);
  fields.read("matrix_units", profile.matrix_units);
  fields.read_each("gpus", profile.gpus, read_gpu);
  read_rates(fields, profile.weight_rates);
  fields.read("notes", profile.notes);
  read_sources(fields, profile.sources);
  fields.finish();
  return profile;
}

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  std::error_code none;  // a missing folder means no names: load_device says so
  for (const fs::directory_entry& entry : fs::directory_iterator(data_folder() / "devices", none))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

HardwareProfile load_device(std::string_view name) {
  // Only names of the list are opened, so that a name such as "../x" cannot leave the folder.
  const std::vector<std::string> names = device_names();
  if (names.empty())
    throw UsageError("device \"{}\" is not known: {} holds no device profiles; set HAQA_DATA to HAQA's data folder",
                     name, (data_folder() / "devices").string());
  if (std::find(names.begin(), names.end(), name) == names.end())
    throw UsageError("device \"{}\" is not known; choose one of: {}", name, joined(names));
  const fs::path file = data_folder() / "devices" / (std::string(name) + ".json");
  const Json json = read_json(file);
  try {
    HardwareProfile profile = profile_from_json(json);
    if (profile.id != name) throw Error("device profile: id must be the file's name, \"{}\"", name);
    return profile;
  } catch (const Error& e) {
    throw Error("{}: {}", file.string(), e.what());
  }
}

}  // namespace haqa
