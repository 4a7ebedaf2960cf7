#pragma once
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace haqa {

/// One mapping of a YAML file, read key by key with checks: every fault is a UsageError that names file, line and what
/// is allowed. Call finish() after the last key: it refuses those that nobody asked for.
class YamlMap {
 public:
  /// The file's outermost mapping. An empty file, a list or broken YAML is a UsageError.
  static YamlMap load(const std::filesystem::path& file);

  std::optional<std::string> text(const std::string& key);
  std::string required_text(const std::string& key);
  /// One of `allowed`.
  std::optional<std::string> choice(const std::string& key, const std::vector<std::string>& allowed);
  std::optional<std::vector<std::string>> choices(const std::string& key, const std::vector<std::string>& allowed);
  std::optional<int> integer(const std::string& key, int low, int high);
  std::optional<double> number(const std::string& key, double low, double high);
  /// An amount of memory such as 12GB.
  std::optional<uint64_t> bytes(const std::string& key);
  /// A path, relative ones from the YAML file's folder. Throws where nothing is there.
  std::optional<std::filesystem::path> existing_file(const std::string& key);
  /// A mapping within this one; an empty one where the key is missing.
  YamlMap map(const std::string& key);
  void finish() const;

  /// Throws a UsageError at the key's line.
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

 private:
  YamlMap(std::filesystem::path file, YAML::Node node, std::string name);
  YAML::Node find(const std::string& key);
  std::optional<std::string> scalar(const std::string& key, std::string_view expected);
  std::string where(const YAML::Mark& mark) const;

  std::filesystem::path file_;
  YAML::Node node_;
  std::string name_;  ///< "agent" for the mapping under that key; empty for the outermost
  std::vector<std::string> known_;
};

}  // namespace haqa
