#include "haqa/kernel/source_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <regex>
#include <set>
#include <sstream>

#include "haqa/base/text.h"
#include "haqa/kernel/kernel_spec.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestSource = 1 << 20;
constexpr std::array<std::string_view, 20> kSystemHeaders = {
    "<stdint.h>", "<stddef.h>", "<string.h>",    "<math.h>",  "<float.h>",     "<limits.h>",  "<cstdint>",
    "<cstddef>",  "<cstring>",  "<cmath>",       "<cfloat>",  "<climits>",     "<algorithm>", "<array>",
    "<bit>",      "<limits>",   "<type_traits>", "<utility>", "<immintrin.h>", "<arm_neon.h>"};

/// Whether a mark begins a text or a character; one within a number parts its digits. A prefix, as in L'x', is no
/// number.
bool opens_quote(std::string_view text, size_t i) {
  if (text[i] != '\'') return text[i] == '"';
  size_t word = i;
  const auto belongs = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '\'' || c == '.';
  };
  while (word > 0 && belongs(text[word - 1])) --word;
  if (word < i && text[word] == '.') ++word;
  return word == i || !std::isdigit(static_cast<unsigned char>(text[word]));
}

/// Without comments, with continued lines joined and "#" for the other way to write it, "%:": what the preprocessor
/// reads. Texts in quotes stay.
std::string without_comments(std::string_view text) {
  std::string joined;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '\n') {
      ++i;
    } else if (text[i] != '\r') {
      joined += text[i];
    }
  }
  std::string out;
  char quote = 0;
  for (size_t i = 0; i < joined.size(); ++i) {
    const std::string_view rest = std::string_view(joined).substr(i);
    if (quote) {
      out += joined[i];
      if (joined[i] == '\\' && i + 1 < joined.size())
        out += joined[++i];
      else if (joined[i] == quote || joined[i] == '\n')
        quote = 0;
    } else if (rest.starts_with("//")) {
      while (i < joined.size() && joined[i] != '\n') ++i;
      out += '\n';
    } else if (rest.starts_with("/*")) {
      const size_t end = joined.find("*/", i + 2);
      i = end == std::string::npos ? joined.size() : end + 1;
      out += ' ';
    } else if (rest.starts_with("%:")) {
      ++i;
      out += '#';
    } else {
      if (opens_quote(joined, i)) quote = joined[i];
      out += joined[i];
    }
  }
  return out;
}

/// Sources lie in a folder beside our headers.
std::set<std::string> allowed_includes() {
  std::set<std::string> allowed(kSystemHeaders.begin(), kSystemHeaders.end());
  for (const std::string& path : header_paths()) {
    allowed.insert("\"" + path + "\"");
    allowed.insert("\"../" + path + "\"");
  }
  return allowed;
}

/// "#include" and the like, with what follows.
std::optional<std::string> refused_directive(const std::string& line, const std::set<std::string>& allowed_files) {
  static const std::set<std::string> allowed_directives = {"define", "undef", "if",    "ifdef",  "ifndef",  "elif",
                                                           "else",   "endif", "error", "pragma", "include", ""};
  static const std::regex directive(R"(^\s*#\s*(\w*)\s*(.*?)\s*$)");
  std::smatch found;
  if (!std::regex_match(line, found, directive)) return std::nullopt;
  if (!allowed_directives.contains(found[1])) return fmt::format("the directive #{}", found[1].str());
  if (found[1] == "include" && !allowed_files.contains(found[2]))
    return fmt::format("#include {}; it may include {}", one_line(found[2].str(), 100), fmt::join(allowed_files, " "));
  return std::nullopt;
}

/// A line's texts in quotation marks, and the line without them and without characters.
struct Quoted {
  std::vector<std::string> texts;
  std::string rest;
};

Quoted quoted_in(const std::string& line) {
  Quoted found;
  char quote = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (quote && line[i] == quote) {
      quote = 0;
    } else if (!quote && opens_quote(line, i)) {
      quote = line[i];
      found.rest += ' ';
      if (quote == '"') found.texts.emplace_back();
    } else if (!quote) {
      found.rest += line[i];
    } else {
      if (quote == '"') found.texts.back() += line[i];
      if (line[i] != '\\' || i + 1 == line.size()) continue;
      ++i;
      if (quote == '"') found.texts.back() += line[i];
    }
  }
  return found;
}

/// Assembly may compute, but ".incbin" and its like read files: no text may hold, or become, what begins by a dot.
bool holds_assembler_directive(const std::string& text) {
  static const std::regex exempt(R"(^\s*#\s*(include|error)\b.*)");  // whose texts are none
  // Two marks paste tokens; one, or what is left of three, makes a text.
  static const std::regex makes_text(R"(^\s*#\s*define\b.*([^#]#|###)(?!#).*)");
  static const std::regex directive(R"(\.(?![0-9 ])|\.\s*$|\\(?![nt]))");
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (std::regex_match(line, exempt)) continue;
    const Quoted found = quoted_in(line);
    if (std::regex_match(found.rest, makes_text) ||
        std::any_of(found.texts.begin(), found.texts.end(),
                    [](const std::string& t) { return std::regex_search(t, directive); }))
      return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> header_paths() {
  std::vector<std::string> paths;
  const fs::path folder = kernels_folder();
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".h") paths.push_back(fs::relative(entry.path(), folder).generic_string());
  return paths;
}

std::span<const std::string_view> system_headers() {
  return kSystemHeaders;
}

std::optional<std::string> refused_in_source(std::string_view source) {
  if (source.size() > kLongestSource) return fmt::format("it is longer than {} bytes", kLongestSource);
  if (source.find('\0') != std::string_view::npos) return "it holds a zero byte";
  // Compilers join lines at a backslash that only blanks follow.
  static const std::regex blank_joint(R"(\\[ \t\v\f\r]+(\n|$))");
  if (std::regex_search(source.begin(), source.end(), blank_joint)) return "a backslash with blanks behind it";
  static const std::regex trigraph(R"(\?\?[=/'()!<>-])");
  if (std::regex_search(source.begin(), source.end(), trigraph)) return "a trigraph";
  const std::string text = without_comments(source);
  static const std::regex raw(R"((^|[^\w"'])(u8|u|U|L)?R")");
  if (std::regex_search(text, raw)) return "raw string literals, which can hide what follows";
  const std::set<std::string> allowed = allowed_includes();
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (const auto refused = refused_directive(line, allowed)) return refused;
  static const std::regex forbidden(
      R"(__has_include|__has_embed|\b_Pragma\b|\b(GCC|clang)\s+(poison|dependency|plugin|system_header)\b)");
  if (std::smatch found; std::regex_search(text, found, forbidden)) return found.str();
  if (holds_assembler_directive(text))
    return "a text with a dot before a word or with a backslash, or one made of tokens (#x); assembly is instructions "
           "alone";
  return std::nullopt;
}

std::optional<std::string> refused_in_device_source(std::string_view source) {
  const std::string text = without_comments(source);
  static const std::regex forbidden(R"(#\s*include|\b_*asm_*\b|##)");
  if (std::smatch found; std::regex_search(text, found, forbidden)) return one_line(found.str(), 40);
  return refused_in_source(source);
}

}  // namespace haqa
