#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// A compiled variant in the place of a kernel's default one.
struct ServedVariant {
  std::string kernel, type;  ///< "matvec", "Q4_0"
  std::string file, source;  ///< relative to the tuning file
  std::string hash;          ///< of the file, as the module computes it
  Json parameters;           ///< that it was compiled with
  std::string name() const { return kernel + "-" + type; }
};

/// What the module is told (docs/plugin.md): which variants serve, and for which kernels stock code does.
struct ModelTuning {
  std::vector<std::string> stock;  ///< "matvec-Q4_0"
  std::vector<ServedVariant> variants;

  /// With a variant in the place of whatever served its kernel; with stock code for a kernel.
  ModelTuning with(const ServedVariant& variant) const;
  ModelTuning with_stock(const std::string& kernel) const;
};

Json to_json(const ServedVariant& variant);
ServedVariant variant_from_json(const Json& json);

/// FNV-1a of a file in 16 hexadecimal digits. Throws Error where it cannot be read.
std::string variant_hash(const std::filesystem::path& file);

/// Writes the tuning file for this machine's processor.
void write_tuning(const ModelTuning& tuning, const std::filesystem::path& file);

}  // namespace haqa
