#include "haqa/plugin/tuning.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "haqa/kernel/processor_levels.h"
#include "haqa/plugin/log.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr int kFormat = 1;

/// 0 where there is none.
int64_t count_at(const nlohmann::json& entry, const char* key) {
  if (!entry.contains(key)) return 0;
  if (!entry[key].is_number_unsigned()) throw std::runtime_error(std::string(key) + " must be a whole number");
  return entry[key].get<int64_t>();
}

/// Throws for a form that is not the documented one.
TunedKernel read_kernel(const nlohmann::json& entry, const fs::path& folder) {
  TunedKernel k;
  k.kernel = entry.at("kernel").get<std::string>();
  k.type = entry.at("type").get<std::string>();
  k.rows = count_at(entry, "rows");
  k.columns = count_at(entry, "columns");
  k.file = folder / entry.at("file").get<std::string>();
  return k;
}

}  // namespace

fs::path tuning_file(const fs::path& module_folder) {
  const char* named = std::getenv("HAQA_TUNING");
  return named && *named ? fs::path(named) : module_folder / "haqa-tuning.json";
}

std::string file_hash(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return {};  // a device may never end
  std::ifstream in(file, std::ios::binary);
  if (!in) return {};
  uint64_t hash = 0xcbf29ce484222325;
  std::array<char, 1 << 16> part;
  while (in.read(part.data(), part.size()), in.gcount() > 0)
    for (std::streamsize i = 0; i < in.gcount(); ++i)
      hash = (hash ^ static_cast<unsigned char>(part[static_cast<size_t>(i)])) * 0x100000001b3;
  std::array<char, 17> digits;
  std::snprintf(digits.data(), digits.size(), "%016lx", static_cast<unsigned long>(hash));
  return digits.data();
}

Tuning read_tuning(const fs::path& file) try {
  std::error_code error;
  if (!fs::exists(file, error)) {
    if (std::getenv("HAQA_TUNING")) log_warning("there is no " + file.string() + "; default kernels serve");
    return {};
  }
  std::ifstream in(file);
  const nlohmann::json json = nlohmann::json::parse(in);
  if (json.at("format").get<int>() != kFormat) {
    log_warning(file.string() + " is of another version; default kernels serve");
    return {};
  }
  if (const auto made_on = json.at("processor").get<std::string>(); made_on != processor_identity()) {
    log_warning(file.string() + " was made on another processor (" + made_on + "); default kernels serve");
    return {};
  }
  Tuning tuning;
  for (const auto& stock : json.at("stock")) tuning.stock.push_back(stock.get<std::string>());
  for (const auto& entry : json.at("kernels")) {
    TunedKernel kernel = read_kernel(entry, file.parent_path());
    const std::string hash = file_hash(kernel.file);
    if (hash.empty() || hash != entry.at("hash").get<std::string>())
      log_warning(kernel.file.string() + " is missing or not the one that was measured; the default serves");
    else
      tuning.kernels.push_back(std::move(kernel));
  }
  return tuning;
} catch (const std::exception& e) {
  log_warning(file.string() + " cannot be used (" + e.what() + "); default kernels serve");
  return {};
}

}  // namespace haqa
