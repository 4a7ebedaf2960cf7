#include "haqa/base/yaml_map.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/depthguard.h>

#include <algorithm>
#include <charconv>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

/// The whole text as a number, or nothing: std::stod would take "12abc".
template <typename T>
std::optional<T> parse_number(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, value);
  if (code != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace

YamlMap YamlMap::load(const std::filesystem::path& file) {
  const std::string content = read_file(file);
  YAML::Node node;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(content);
    // YAML::Load reads the first and says nothing of the rest.
    if (documents.size() > 1)
      throw UsageError("{}:{}: is a second document; keep one, without --- in the midst", file.string(),
                       documents[1].Mark().line + 1);
    if (!documents.empty()) node = documents[0];
  } catch (const YAML::DeepRecursion& e) {
    throw UsageError("{}:{}: is nested too deeply", file.string(), e.mark.line + 1);
  } catch (const YAML::Exception& e) {
    throw UsageError("{}:{}: not valid YAML: {}", file.string(), e.mark.line + 1, e.msg);
  }
  if (node.IsNull())
    throw UsageError("{}: is empty; see examples/quickstart.yaml for what belongs there", file.string());
  if (!node.IsMap())
    throw UsageError("{}:1: must be a mapping of keys and values; see examples/quickstart.yaml", file.string());
  return YamlMap(file, node, "");
}

YamlMap::YamlMap(std::filesystem::path file, YAML::Node node, std::string name)
    : file_(std::move(file)), node_(std::move(node)), name_(std::move(name)) {
  std::set<std::string> seen;
  for (const auto& entry : node_)
    if (!entry.first.IsScalar() || !seen.insert(entry.first.Scalar()).second)
      throw UsageError("{}: the key {} stands there twice or is no plain word", where(entry.first.Mark()),
                       entry.first.IsScalar() ? '"' + entry.first.Scalar() + '"' : "here");
}

std::string YamlMap::where(const YAML::Mark& mark) const {
  return fmt::format("{}:{}", file_.string(), mark.line + 1);
}

void YamlMap::fail(const std::string& key, const std::string& what) const {
  const std::string full = name_.empty() ? key : name_ + "." + key;
  for (const auto& entry : node_)
    if (entry.first.Scalar() == key) throw UsageError("{}: {}: {}", where(entry.first.Mark()), full, what);
  throw UsageError("{}: {}: {}", file_.string(), full, what);
}

YAML::Node YamlMap::find(const std::string& key) {
  known_.push_back(key);
  for (const auto& entry : node_)
    if (entry.first.Scalar() == key) return entry.second;
  return YAML::Node(YAML::NodeType::Undefined);
}

std::optional<std::string> YamlMap::scalar(const std::string& key, std::string_view expected) {
  const YAML::Node value = find(key);
  if (!value.IsDefined()) return std::nullopt;
  if (!value.IsScalar() || value.Scalar().empty()) fail(key, fmt::format("must be {}", expected));
  return value.Scalar();
}

std::optional<std::string> YamlMap::text(const std::string& key) {
  return scalar(key, "a text");
}

std::string YamlMap::required_text(const std::string& key) {
  const auto value = text(key);
  if (!value) fail(key, "is missing; see examples/quickstart.yaml");
  return *value;
}

std::optional<std::string> YamlMap::choice(const std::string& key, const std::vector<std::string>& allowed) {
  const std::string expected = fmt::format("one of {}", fmt::join(allowed, ", "));
  const auto value = scalar(key, expected);
  if (value && std::find(allowed.begin(), allowed.end(), *value) == allowed.end())
    fail(key, fmt::format("\"{}\" is not allowed; it must be {}", *value, expected));
  return value;
}

std::optional<std::vector<std::string>> YamlMap::choices(const std::string& key,
                                                         const std::vector<std::string>& allowed) {
  const YAML::Node value = find(key);
  if (!value.IsDefined()) return std::nullopt;
  const std::string expected = fmt::format("a list of some of {}", fmt::join(allowed, ", "));
  if (!value.IsSequence() || value.size() == 0) fail(key, "must be " + expected);
  std::vector<std::string> all;
  for (const YAML::Node& item : value) {
    if (!item.IsScalar() || std::find(allowed.begin(), allowed.end(), item.Scalar()) == allowed.end())
      fail(key, fmt::format("{} is not allowed; it must be {}",
                            item.IsScalar() ? '"' + item.Scalar() + '"' : "an entry", expected));
    if (std::find(all.begin(), all.end(), item.Scalar()) != all.end())
      fail(key, fmt::format("\"{}\" stands there twice", item.Scalar()));
    all.push_back(item.Scalar());
  }
  return all;
}

std::optional<int> YamlMap::integer(const std::string& key, int low, int high) {
  const std::string expected = fmt::format("a whole number from {} to {}", low, high);
  const auto value = scalar(key, expected);
  if (!value) return std::nullopt;
  const auto parsed = parse_number<int>(*value);
  if (!parsed || *parsed < low || *parsed > high) fail(key, fmt::format("\"{}\" is not {}", *value, expected));
  return parsed;
}

std::optional<double> YamlMap::number(const std::string& key, double low, double high) {
  const std::string expected = fmt::format("a number from {} to {}", low, high);
  const auto value = scalar(key, expected);
  if (!value) return std::nullopt;
  const auto parsed = parse_number<double>(*value);
  if (!parsed || !(*parsed >= low && *parsed <= high)) fail(key, fmt::format("\"{}\" is not {}", *value, expected));
  return parsed;
}

std::optional<uint64_t> YamlMap::bytes(const std::string& key) {
  const auto value = scalar(key, "an amount of memory such as 12GB");
  if (!value) return std::nullopt;
  try {
    return parse_bytes(*value);
  } catch (const UsageError& e) {
    fail(key, e.what());
  }
}

std::optional<std::filesystem::path> YamlMap::existing_file(const std::string& key) {
  const auto value = scalar(key, "the path of a file");
  if (!value) return std::nullopt;
  const std::filesystem::path file = file_.parent_path() / *value;
  std::error_code code;  // too long a name or a locked folder is no file either
  if (!std::filesystem::exists(file, code))
    fail(key, fmt::format("there is no file {}; paths are taken from the folder of this file", file.string()));
  return file;
}

YamlMap YamlMap::map(const std::string& key) {
  const YAML::Node value = find(key);
  if (value.IsDefined() && !value.IsMap()) fail(key, "must be a mapping of keys and values");
  return YamlMap(file_, value.IsDefined() ? value : YAML::Node(YAML::NodeType::Map),
                 name_.empty() ? key : name_ + "." + key);
}

void YamlMap::finish() const {
  for (const auto& entry : node_)
    if (std::find(known_.begin(), known_.end(), entry.first.Scalar()) == known_.end())
      throw UsageError("{}: unknown key \"{}\"{}; allowed are {}", where(entry.first.Mark()), entry.first.Scalar(),
                       name_.empty() ? "" : " in " + name_, fmt::join(known_, ", "));
}

}  // namespace haqa
