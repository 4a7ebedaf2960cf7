#define PCRE2_CODE_UNIT_WIDTH 8
#include "haqa/tune/metric.h"

#include <pcre2.h>

#include <charconv>
#include <chrono>
#include <cmath>
#include <thread>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/study/sweep.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
constexpr uintmax_t kLargestFile = 64u << 20;
constexpr uint32_t kMatchKiB = 64u << 10;  // PCRE2's own limit is 20 GB

Outcome fault(std::string message, FailReason reason = FailReason::wrong_result) {
  Outcome outcome;
  outcome.reason = reason;
  outcome.message = std::move(message);
  return outcome;
}

Outcome measured(double value, const std::string& name) {
  if (!std::isfinite(value)) return fault(fmt::format("{} is {}, not a finite number", name, value));
  Outcome outcome;
  outcome.value = value;
  return outcome;
}

Outcome measured(const Json& value, const std::string& name) {
  if (value.is_number()) return measured(value.get<double>(), name);
  if (value.is_null()) return fault(name + " is null, NaN or infinite, not a finite number");
  if (value.is_array()) return fault(name + " holds several values; one is needed");
  return fault(fmt::format("{} is {}, which is no number", name, one_line(to_line(value), 60)));
}

bool word_char(std::string_view text, size_t at) {
  return at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_');
}

/// NaN, Infinity and -Infinity become null. What stands in strings stays.
std::string without_nan(std::string_view text) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') in_string = false;
    if (text[i] == '"') in_string = !in_string;
    if (in_string && text[i] == '\\' && i + 1 < text.size()) out += text[i++];
    bool replaced = false;
    for (const std::string_view name : {"NaN", "Infinity", "-Infinity"})
      if (!in_string && text.substr(i).starts_with(name) && !word_char(text, i - 1) &&
          !word_char(text, i + name.size())) {
        out += "null";
        i += name.size() - 1;
        replaced = true;
        break;
      }
    if (!replaced) out += text[i];
  }
  return out;
}

/// The value under a key, else under a path of keys with dots between them; nullptr where there is none.
const Json* find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  if (const auto at = object.find(key); at != object.end()) return &*at;
  for (size_t dot = key.find('.'); dot != std::string_view::npos; dot = key.find('.', dot + 1))
    if (const auto at = object.find(key.substr(0, dot)); at != object.end())
      if (const Json* found = find(*at, key.substr(dot + 1))) return found;
  return nullptr;
}

/// none: what to say where no object has the key.
Outcome last_value(const std::vector<Json>& objects, const std::string& key, std::string none) {
  for (auto object = objects.rbegin(); object != objects.rend(); ++object)
    if (const Json* value = find(*object, key)) return measured(*value, key);
  return fault(std::move(none));
}

/// "accuracy" of "accuracy=(.*)", to call the value something.
std::string leading_word(const std::string& pattern) {
  size_t n = 0;
  while (word_char(pattern, n)) ++n;
  const bool whole = n > 0 && !std::isdigit(static_cast<unsigned char>(pattern[0]));
  return whole ? pattern.substr(0, n) : "value";
}

}  // namespace

std::vector<Json> printed_objects(std::string_view text) {
  return find_json_objects(without_nan(text));
}

/// A compiled regular expression; threads may share it. PCRE2 rather than std::regex, which overflows the stack on long
/// lines, may take forever, and does not say where a pattern is wrong.
struct Metric::Pattern {
  explicit Pattern(const std::string& text) {
    int error = 0;
    PCRE2_SIZE at = 0;
    const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
        pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_ANYCRLF);  // bars of progress return to the line's start
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), PCRE2_MULTILINE, &error, &at,
                         context.get());
    if (!code) {
      PCRE2_UCHAR message[200];
      pcre2_get_error_message(error, message, sizeof message);
      throw UsageError("--metric: '{}' is no regular expression: {} at position {}, before '{}'", text,
                       reinterpret_cast<char*>(message), at + 1, text.substr(at));
    }
    uint32_t groups = 0;
    pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
    if (groups != 1) {
      pcre2_code_free(code);
      throw UsageError(
          "--metric: '{}' has {} groups; put one pair of parentheses around the number, (?: ) for others; a key of "
          "JSON "
          "is json:KEY, with a name NAME:DIRECTION=json:KEY",
          text, groups);
    }
  }
  ~Pattern() { pcre2_code_free(code); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  struct Match {
    std::optional<std::string_view> text;  ///< of the group, at the last match
    std::string error;                     ///< too many steps, say
  };
  Match last(std::string_view text) const {
    Match found;
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context(
        pcre2_match_context_create(nullptr), pcre2_match_context_free);
    pcre2_set_heap_limit(context.get(), kMatchKiB);
    const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
        pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
    for (size_t from = 0; from < text.size();) {
      const int rc = pcre2_match(code, subject, text.size(), from, PCRE2_NOTEMPTY, data.get(), context.get());
      if (rc == PCRE2_ERROR_NOMATCH) break;
      if (rc < 0) {
        PCRE2_UCHAR message[200];
        pcre2_get_error_message(rc, message, sizeof message);
        return {{}, reinterpret_cast<char*>(message)};
      }
      const PCRE2_SIZE* at = pcre2_get_ovector_pointer(data.get());
      if (rc > 1 && at[2] != PCRE2_UNSET) found.text = text.substr(at[2], at[3] - at[2]);
      from = std::max(at[1], from + 1);  // \K may let a match end where it began
    }
    return found;
  }

  pcre2_code* code = nullptr;
};

Metric::Metric(std::string_view text, std::optional<Direction> direction) {
  std::string reader(text), name;
  for (const auto& [word, meant] : {std::pair{":minimize=", Direction::minimize}, {":maximize=", Direction::maximize}})
    if (const size_t at = reader.find(word); at != std::string::npos && reader.find_first_of("(=") > at) {
      name = reader.substr(0, at);
      direction = meant;
      reader.erase(0, at + std::string_view(word).size());
      break;
    }
  if (reader.empty()) throw UsageError("--metric: is empty; see haqa tune --help");
  parse_reader(reader);
  if (!name.empty()) goal_.value_name = name;
  if (!direction)
    throw UsageError("say whether {} should grow or shrink: --direction maximize, or minimize", goal_.value_name);
  goal_.direction = *direction;
}

void Metric::parse_reader(const std::string& text) {
  const auto rest = [&](std::string_view kind) { return text.substr(kind.size()); };
  if (text.starts_with("json:")) {
    kind_ = Kind::printed_json;
    goal_.value_name = key_ = rest("json:");
    if (key_.empty()) throw UsageError("--metric: json: lacks its key, as in json:accuracy");
  } else if (text.starts_with("file:")) {
    kind_ = Kind::json_file;
    const size_t colon = text.rfind(':');
    path_ = colon > 5 ? text.substr(5, colon - 5) : "";
    goal_.value_name = key_ = text.substr(colon + 1);
    if (path_.empty() || key_.empty()) throw UsageError("--metric: '{}' is not file:PATH:KEY", text);
  } else if (text.starts_with("t4:")) {
    kind_ = Kind::t4_file;
    const size_t colon = text.find(':', 3);
    path_ = text.substr(3, colon == std::string::npos ? colon : colon - 3);
    key_ = colon == std::string::npos ? "" : text.substr(colon + 1);
    goal_.value_name = key_.empty() ? "objective" : key_;  // which one it is, the file says
    if (path_.empty()) throw UsageError("--metric: '{}' is not t4:PATH or t4:PATH:MEASUREMENT", text);
  } else {
    pattern_ = std::make_shared<Pattern>(text);
    key_ = text;
    goal_.value_name = leading_word(text);
  }
}

bool Metric::shares_file() const {
  return !path_.empty() && path_.find("{folder}") == std::string::npos;
}

fs::path Metric::path(const Traces& traces) const {
  std::string text = path_;
  for (size_t at; (at = text.find("{folder}")) != std::string::npos;) text.replace(at, 8, traces.folder.string());
  return text;
}

std::optional<fs::file_time_type> Metric::stamp(const Traces& traces) const {
  if (path_.empty()) return std::nullopt;
  std::error_code none;
  const fs::file_time_type time = fs::last_write_time(path(traces), none);
  if (none) return std::nullopt;
  // Times of files advance in steps of some milliseconds: what is written within the same one looks untouched.
  const auto age = fs::file_time_type::clock::now() - time;
  if (age < std::chrono::milliseconds(20)) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return time;
}

Outcome Metric::read(const Traces& traces, std::optional<fs::file_time_type> before) const {
  if (kind_ == Kind::pattern) return read_pattern(traces);
  if (kind_ == Kind::printed_json)
    return last_value(printed_objects(traces.output), key_,
                      traces.output.empty() ? "it printed nothing on its standard output"
                                            : fmt::format("no JSON object that it printed has \"{}\"", key_));
  const fs::path file = path(traces);
  std::error_code fails;
  const fs::file_time_type time = fs::last_write_time(file, fails);
  if (fails) return fault(fmt::format("it did not write {}", file.string()));
  if (before && time == *before)
    return fault(fmt::format("it did not write {}, which is an earlier one's", file.string()));
  const uintmax_t size = fs::file_size(file, fails);
  if (fails || size > kLargestFile)
    return fault(fmt::format("{} is no file of at most {}", file.string(), format_bytes(kLargestFile)));
  std::vector<Json> documents;
  try {
    documents = printed_objects(read_file(file));
  } catch (const Error& e) {
    return fault(e.what());
  }
  if (documents.empty()) return fault(fmt::format("{} holds no JSON object", file.string()));
  return kind_ == Kind::t4_file ? read_t4(documents)
                                : last_value(documents, key_, fmt::format("{} has no \"{}\"", file.string(), key_));
}

Outcome Metric::read_pattern(const Traces& traces) const {
  for (const std::string* text : {&traces.output, &traces.errors}) {
    const Pattern::Match match = pattern_->last(*text);
    if (!match.error.empty()) return fault(fmt::format("'{}' could not be looked for: {}", key_, match.error));
    if (!match.text) continue;
    std::string_view number = *match.text;
    const size_t begin = number.find_first_not_of(" \t");
    number.remove_prefix(std::min(begin, number.size()));
    if (number.starts_with('+')) number.remove_prefix(1);
    double value = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    const std::string_view rest(end, static_cast<size_t>(number.data() + number.size() - end));
    if (error == std::errc::result_out_of_range) value = std::numeric_limits<double>::infinity();
    if (error == std::errc::invalid_argument || rest.find_first_not_of(" \t\r") != std::string_view::npos)
      return fault(fmt::format("{} is '{}', which is no number", goal_.value_name, one_line(*match.text, 60)));
    return measured(value, goal_.value_name);
  }
  if (traces.output.empty() && traces.errors.empty()) return fault("it printed nothing");
  return fault(
      fmt::format("nothing matches '{}' in {}", key_, traces.cut ? "the end of what it printed" : "what it printed"));
}

/// Source: TuningSchema T4 results 1.0.0, as in kernel_tuner 1.5.0 (schema/T4/1.0.0/results-schema.json).
Outcome Metric::read_t4(const std::vector<Json>& documents) const {
  const Json results = documents.back().value("results", Json());
  if (!results.is_array()) return fault(path_ + " is no T4 file: it has no list of results");
  if (results.size() != 1 || !results[0].is_object())
    return fault(fmt::format("{} holds {} results; one is needed", path_, results.size()));
  const Json& result = results[0];
  const Json validity = result.value("invalidity", Json());
  if (validity.is_string() && validity != "correct")
    return fault(fmt::format("its result is invalid: {}", one_line(validity.get<std::string>(), 60)),
                 reason_of_invalidity(validity.get<std::string>()));
  std::string name = key_;
  const Json objectives = result.value("objectives", Json::array());
  if (name.empty())
    name = objectives.size() == 1 && objectives[0].is_string() ? objectives[0].get<std::string>() : "time";
  for (const Json& m : result.value("measurements", Json::array()))
    if (m.is_object() && m.value("name", Json()) == name && m.contains("value")) return measured(m["value"], name);
  return fault(fmt::format("its result has no measurement \"{}\"", name));
}

}  // namespace haqa
