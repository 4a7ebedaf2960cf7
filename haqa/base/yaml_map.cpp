#include "haqa/base/yaml_map.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"

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

/// Source: YAML 1.2, section 10.3, core schema.
Json scalar_value(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  if (const auto whole = parse_number<int64_t>(text)) return *whole;
  if (const auto real = parse_number<double>(text); real && std::isfinite(*real)) return *real;
  return text;
}

/// The line where a second document begins, which YAML::Load passes over without a word. YAML::LoadAll would be an
/// endless loop on "{}, x".
std::optional<int> second_document(const std::string& content) {
  struct Start : YAML::EventHandler {
    int line = 0;
    void OnDocumentStart(const YAML::Mark& mark) override { line = mark.line + 1; }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
    void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
    void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
    void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnSequenceEnd() override {}
    void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnMapEnd() override {}
  };
  std::istringstream in(content);
  YAML::Parser parser(in);
  Start start;
  if (!parser.HandleNextDocument(start) || !parser.HandleNextDocument(start)) return std::nullopt;
  return start.line;
}

/// left: of the values that may still be made. Aliases of aliases grow without bound, and those of themselves never
/// end.
Json to_json(const YAML::Node& node, int& left, int depth = 0) {
  if (--left < 0 || depth > 100) throw UsageError("line {} holds too much: aliases of aliases?", node.Mark().line + 1);
  if (node.IsNull()) return nullptr;
  if (node.IsScalar()) return scalar_value(node);
  if (node.IsSequence()) {
    Json list = Json::array();
    for (const YAML::Node& item : node) list.push_back(to_json(item, left, depth + 1));
    return list;
  }
  Json map = Json::object();
  for (const auto& entry : node) {
    if (map.contains(entry.first.Scalar()))
      throw UsageError("line {}: the key {} stands there twice", entry.first.Mark().line + 1,
                       one_line(entry.first.Scalar(), 60));
    map[entry.first.Scalar()] = to_json(entry.second, left, depth + 1);
  }
  return map;
}

Json to_json(const YAML::Node& node) {
  int left = 200000;
  return to_json(node, left);
}

/// The first line that is no UTF-8, from 1; YAML's parser reads UTF-16 after its mark.
std::optional<size_t> foreign_line(const std::string& content) {
  if (content.starts_with("\xFF\xFE") || content.starts_with("\xFE\xFF")) return std::nullopt;
  std::istringstream lines(content);
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (!is_utf8(line)) return number;
  }
  return std::nullopt;
}

}  // namespace

Json yaml_value(const std::string& text) {
  try {
    return to_json(YAML::Load(text));
  } catch (const YAML::Exception& e) {
    throw UsageError("'{}' is not valid YAML: {}", one_line(text, 60), e.msg);
  }
}

YamlMap YamlMap::load(const std::filesystem::path& file, const std::string& example) {
  const std::string content = read_file(file);
  if (const auto line = foreign_line(content))
    throw UsageError("{}:{}: holds bytes that are no UTF-8; save the file in that encoding", file.string(), *line);
  YAML::Node node;
  try {
    node = YAML::Load(content);
    if (const auto line = second_document(content))
      throw UsageError("{}:{}: is a second document; keep one, without --- in the midst or anything behind its last }}",
                       file.string(), *line);
  } catch (const YAML::DeepRecursion& e) {
    throw UsageError("{}:{}: is nested too deeply", file.string(), e.mark.line + 1);
  } catch (const YAML::Exception& e) {
    throw UsageError("{}:{}: not valid YAML: {}", file.string(), e.mark.line + 1, e.msg);
  }
  if (node.IsNull()) throw UsageError("{}: is empty; see {} for what belongs there", file.string(), example);
  if (!node.IsMap()) throw UsageError("{}:1: must be a mapping of keys and values; see {}", file.string(), example);
  return YamlMap(file, node, "", example);
}

YamlMap::YamlMap(std::filesystem::path file, YAML::Node node, std::string name, std::string example)
    : file_(std::move(file)), node_(std::move(node)), example_(std::move(example)), name_(std::move(name)) {
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
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.push_back(key);
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

std::vector<std::string> YamlMap::keys() const {
  std::vector<std::string> all;
  for (const auto& entry : node_) all.push_back(entry.first.Scalar());
  return all;
}

std::optional<Json> YamlMap::value(const std::string& key) {
  const YAML::Node value = find(key);
  try {
    return value.IsDefined() ? std::optional(to_json(value)) : std::nullopt;
  } catch (const UsageError& e) {
    throw UsageError("{}: {}", file_.string(), e.what());
  }
}

std::optional<std::string> YamlMap::text(const std::string& key) {
  return scalar(key, "a text");
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
  return std::filesystem::absolute(file);  // not normalized: behind a link, .. is another folder
}

YamlMap YamlMap::map(const std::string& key) {
  const YAML::Node value = find(key);
  if (value.IsDefined() && !value.IsMap()) fail(key, "must be a mapping of keys and values");
  return YamlMap(file_, value.IsDefined() ? value : YAML::Node(YAML::NodeType::Map),
                 name_.empty() ? key : name_ + "." + key, example_);
}

void YamlMap::finish() const {
  for (const auto& entry : node_)
    if (std::find(known_.begin(), known_.end(), entry.first.Scalar()) == known_.end())
      throw UsageError("{}: unknown key \"{}\"{}; allowed are {}", where(entry.first.Mark()), entry.first.Scalar(),
                       name_.empty() ? "" : " in " + name_, fmt::join(known_, ", "));
}

}  // namespace haqa
