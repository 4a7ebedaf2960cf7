#pragma once
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// The value that a piece of YAML stands for: plain words are null, truth values and numbers where they read so, quoted
/// ones are texts. Throws UsageError for broken YAML.
Json yaml_value(const std::string& text);

/// One mapping of a YAML file, read key by key with checks: every fault is a UsageError that names file, line and what
/// is allowed. Call finish() after the last key: it refuses those that nobody asked for.
class YamlMap {
 public:
  /// The file's outermost mapping. An empty file, a list or broken YAML is a UsageError, which names `example` as one
  /// that is right.
  static YamlMap load(const std::filesystem::path& file, const std::string& example = "examples/quickstart.yaml");

  std::vector<std::string> keys() const;  ///< in the order of the file

  std::optional<std::string> text(const std::string& key);
  /// One of `allowed`.
  std::optional<std::string> choice(const std::string& key, const std::vector<std::string>& allowed);
  std::optional<std::vector<std::string>> choices(const std::string& key, const std::vector<std::string>& allowed);
  std::optional<int> integer(const std::string& key, int low, int high);
  std::optional<double> number(const std::string& key, double low, double high);
  /// An amount of memory such as 12GB.
  std::optional<uint64_t> bytes(const std::string& key);
  /// An absolute path; relative ones are taken from the YAML file's folder. Throws where nothing is there.
  std::optional<std::filesystem::path> existing_file(const std::string& key);
  /// Whatever stands there, as yaml_value() reads it.
  std::optional<Json> value(const std::string& key);
  /// A mapping within this one; an empty one where the key is missing.
  YamlMap map(const std::string& key);
  void finish() const;

  /// Throws a UsageError at the key's line.
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

 private:
  YamlMap(std::filesystem::path file, YAML::Node node, std::string name, std::string example);
  YAML::Node find(const std::string& key);
  std::optional<std::string> scalar(const std::string& key, std::string_view expected);
  std::string where(const YAML::Mark& mark) const;

  std::filesystem::path file_;
  YAML::Node node_;
  std::string example_;
  std::string name_;  ///< "agent" for the mapping under that key; empty for the outermost
  std::vector<std::string> known_;
};

}  // namespace haqa
