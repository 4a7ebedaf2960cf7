#include "haqa/plugin/tuning.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "haqa/base/fnv.h"
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

bool stays_within(const fs::path& path) {
  return !path.empty() && path.is_relative() && std::find(path.begin(), path.end(), "..") == path.end();
}

/// Throws for a form that is not the documented one.
TunedKernel read_kernel(const nlohmann::json& entry, const fs::path& folder) {
  const fs::path file = entry.at("file").get<std::string>();
  if (!stays_within(file)) throw std::runtime_error("file must name one within the tuning file's folder");
  return {entry.at("kernel").get<std::string>(),
          entry.at("type").get<std::string>(),
          count_at(entry, "rows"),
          count_at(entry, "columns"),
          folder / file,
          OpenFile(folder / file)};
}

}  // namespace

fs::path tuning_file(const fs::path& module_folder) {
  const char* named = std::getenv("HAQA_TUNING");
  return named && *named ? fs::path(named) : module_folder / "haqa-tuning.json";
}

OpenFile::OpenFile(const fs::path& file) : descriptor_(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}

OpenFile::~OpenFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

OpenFile::OpenFile(OpenFile&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

OpenFile& OpenFile::operator=(OpenFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

fs::path OpenFile::name() const {
  return "/proc/self/fd/" + std::to_string(descriptor_);
}

std::string OpenFile::hash() const {
  struct stat status = {};
  if (descriptor_ < 0 || fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode))
    return {};  // a device is endless
  Fnv1a<uint64_t> hash;
  std::array<char, 1 << 16> part;
  off_t at = 0;
  ssize_t n = 0;
  for (; (n = pread(descriptor_, part.data(), part.size(), at)) > 0; at += n)
    hash.add(std::string_view(part.data(), static_cast<size_t>(n)));
  return n < 0 ? std::string() : hash.digits();
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
    const std::string hash = kernel.opened.hash();
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
