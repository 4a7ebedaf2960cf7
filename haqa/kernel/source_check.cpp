#include "haqa/kernel/source_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <regex>
#include <set>

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

constexpr std::string_view kBlanks = " \t";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_hex_digit(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/// Of a name or a number.
bool belongs_to_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
}

/// With continued lines joined. Throws AmbiguousSource at what compilers join, or end a line at, in different ways.
std::string joined_lines(std::string_view source) {
  std::string joined;
  for (size_t i = 0; i < source.size(); ++i) {
    const std::string_view rest = source.substr(i);
    if (rest.starts_with("\r\n")) continue;
    if (static_cast<unsigned char>(rest[0]) < ' ' && rest[0] != '\n' && rest[0] != '\t')
      throw AmbiguousSource("a control character that is neither a tab nor the end of a line");
    if (rest[0] != '\\') {
      joined += rest[0];
      continue;
    }
    const size_t next = std::min(rest.size(), rest.find_first_not_of(" \t\r", 1));
    if (next == rest.size() || rest[next] == '\n') {
      if (!rest.starts_with("\\\n") && !rest.starts_with("\\\r\n"))
        throw AmbiguousSource("a backslash with blanks behind it");
      i += next;
    } else {
      joined += '\\';
    }
  }
  static const std::regex trigraph(R"(\?\?[=/'()!<>-])");
  if (std::regex_search(joined, trigraph)) throw AmbiguousSource("a trigraph");
  return joined;
}

/// Parts comments, texts and words where every compiler does, and throws AmbiguousSource where one could do otherwise.
class Scanner {
 public:
  Scanner(std::string_view source, SourceLanguage language) : text_(joined_lines(source)), language_(language) {}

  std::vector<SourceLine> lines() {
    while (at_ < text_.size()) step();
    finish_line();
    return std::move(lines_);
  }

 private:
  bool sees(std::string_view what) const { return std::string_view(text_).substr(at_).starts_with(what); }
  char next(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\n'; }
  bool sees_quote() const { return next() == '"' || next() == '\''; }

  void step() {
    if (sees("//")) {
      at_ = std::min(text_.size(), text_.find('\n', at_));
    } else if (sees("/*")) {
      skip_comment();
    } else if (next() == '\n') {
      finish_line();
      ++at_;
    } else if (kBlanks.find(next()) != std::string_view::npos) {
      put_blank();
      ++at_;
    } else if (sees_quote()) {
      take_quoted();
    } else if (is_digit(next()) || (next() == '.' && is_digit(next(1)))) {
      take_number();
    } else if (belongs_to_word(next())) {
      take_word();
    } else if (next() == '\\' || next() == '$' || static_cast<unsigned char>(next()) >= 0x80) {
      throw AmbiguousSource("a backslash, a dollar sign or a letter beyond ASCII outside of texts");
    } else if (sees("%:")) {
      throw AmbiguousSource("a digraph: write #");
    } else {
      take();
    }
  }

  void finish_line() {
    lines_.push_back(std::move(line_));
    line_ = {};
  }

  void put_blank() {
    if (!line_.text.empty() && line_.text.back() != ' ') {
      line_.text += ' ';
      line_.code += ' ';
    }
  }

  void take() {
    line_.text += text_[at_];
    line_.code += text_[at_++];
  }

  void skip_comment() {
    const size_t end = text_.find("*/", at_ + 2);
    if (end == std::string::npos) throw AmbiguousSource("a comment without its end");
    at_ = end + 2;
    put_blank();
  }

  /// A quotation mark within a number parts its digits, in C++; nothing may follow that could be more.
  void take_number() {
    take();
    for (;;) {
      const char last = text_[at_ - 1];
      const bool is_sign = (next() == '+' || next() == '-') && std::string_view("eEpP").find(last) != std::string::npos;
      const bool parts =
          language_ == SourceLanguage::cpp && next() == '\'' && is_hex_digit(last) && is_hex_digit(next(1));
      if (!belongs_to_word(next()) && next() != '.' && !is_sign && !parts) break;
      take();
    }
    if (sees_quote()) throw AmbiguousSource("a quotation mark right behind a number");
  }

  void take_word() {
    std::string word;
    for (; belongs_to_word(next()); take()) word += next();
    line_.words.push_back(word);
    if (!sees_quote()) return;
    if (word.back() == 'R') throw AmbiguousSource("raw string literals, which can hide what follows");
    if (language_ != SourceLanguage::cpp || (word != "L" && word != "u" && word != "U" && word != "u8"))
      throw AmbiguousSource(
          fmt::format("a quotation mark right behind {}; put a blank between them", one_line(word, 40)));
  }

  /// A text or a character.
  void take_quoted() {
    const char mark = next();
    const size_t begin = at_++;
    while (next() != mark) {
      if (next() == '\n') throw AmbiguousSource("a text or a character without its end in that line");
      at_ += next() == '\\' ? 2 : 1;
    }
    ++at_;
    if (belongs_to_word(next()))
      throw AmbiguousSource("a word right behind a quotation mark; put a blank between them");
    line_.text.append(text_, begin, at_ - begin);
    line_.code += mark;
    if (mark == '"') line_.texts.push_back(text_.substr(begin + 1, at_ - begin - 2));
  }

  const std::string text_;
  const SourceLanguage language_;
  size_t at_ = 0;
  SourceLine line_;
  std::vector<SourceLine> lines_;
};

/// Sources lie in a folder beside our headers.
std::set<std::string> allowed_includes() {
  std::set<std::string> allowed(kSystemHeaders.begin(), kSystemHeaders.end());
  for (const std::string& path : header_paths()) {
    allowed.insert("\"" + path + "\"");
    allowed.insert("\"../" + path + "\"");
  }
  return allowed;
}

/// Whether a "#" is left where those that paste tokens are taken away by two: it makes a text.
bool makes_text(std::string_view code) {
  for (size_t i = code.find('#'); i != std::string_view::npos; i = code.find('#', i)) {
    if (!code.substr(i).starts_with("##")) return true;
    i += 2;
  }
  return false;
}

constexpr std::string_view kMadeText = "a text made of tokens (#x), which could be any";

/// "#include" and the like, with what follows, and any other "#".
std::optional<std::string> refused_directive(const SourceLine& line, const std::set<std::string>& allowed_files) {
  static const std::set<std::string> allowed_directives = {"define", "undef", "if",    "ifdef",  "ifndef",  "elif",
                                                           "else",   "endif", "error", "pragma", "include", ""};
  if (!line.code.starts_with('#'))
    return line.code.find('#') == std::string::npos ? std::nullopt : std::optional<std::string>("a # within a line");
  const std::string_view text = std::string_view(line.text).substr(line.text.starts_with("# ") ? 2 : 1);
  const auto word_end = std::find_if_not(text.begin(), text.end(), belongs_to_word);
  const std::string word(text.begin(), word_end);
  std::string rest(word_end, text.end());
  if (!rest.empty() && rest.front() == ' ') rest.erase(0, 1);
  if (!rest.empty() && rest.back() == ' ') rest.pop_back();
  if (!allowed_directives.contains(word) || (word.empty() && !rest.empty()))
    return fmt::format("the directive #{}", one_line(word + " " + rest, 40));
  if (word == "include" && !allowed_files.contains(rest))
    return fmt::format("#include {}; it may include {}", one_line(rest, 100), fmt::join(allowed_files, " "));
  if (word != "error" && makes_text(std::string_view(line.code).substr(1))) return std::string(kMadeText);
  return std::nullopt;
}

/// What asks for files by other words than a directive's; where a source pastes tokens, what such words begin by too.
std::optional<std::string> refused_words(const SourceLine& line, bool pastes) {
  static const std::set<std::string> pragmas = {"poison", "dependency", "plugin", "system_header"};
  for (size_t i = 0; i < line.words.size(); ++i) {
    const std::string& word = line.words[i];
    const bool is_compilers = i > 0 && (line.words[i - 1] == "GCC" || line.words[i - 1] == "clang");
    bool asks = is_compilers && pragmas.contains(word);
    for (const std::string_view known : {"__has_include", "__has_embed", "_Pragma"})
      asks = asks || word.starts_with(known) || (pastes && known.starts_with(word));
    if (asks) return one_line(word, 40);
  }
  return std::nullopt;
}

/// Assembly may compute, but ".incbin" and its like read files: no text may hold, or become, what begins by a dot.
bool begins_directive(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = text.substr(i + 1);
    if (text[i] == '\\') {
      if (!rest.starts_with('n') && !rest.starts_with('t')) return true;
      ++i;
    } else if (text[i] == '.' && !(rest.starts_with(' ') || (!rest.empty() && is_digit(rest.front())))) {
      return true;
    } else if (text[i] == '.' && rest.find_first_not_of(kBlanks) == std::string_view::npos) {
      return true;
    }
  }
  return false;
}

std::optional<std::string> refused_in_line(const SourceLine& line, bool pastes,
                                           const std::set<std::string>& allowed_files) {
  if (auto refused = refused_directive(line, allowed_files)) return refused;
  if (auto refused = refused_words(line, pastes)) return refused;
  const bool is_message = line.code.starts_with('#') && !line.words.empty() &&
                          (line.words.front() == "include" || line.words.front() == "error");
  if (!is_message && std::any_of(line.texts.begin(), line.texts.end(), begins_directive))
    return "a text with a dot before a word or with a backslash; assembly is instructions alone";
  return std::nullopt;
}

/// A driver gets the source that does not confine its compiler.
std::optional<std::string> refused_in_device_line(const SourceLine& line) {
  if (line.code.starts_with('#') && !line.words.empty() && line.words.front() == "include") return "#include";
  if (line.code.find("##") != std::string::npos) return "##";
  for (const std::string& word : line.words) {
    const size_t begin = std::min(word.size(), word.find_first_not_of('_'));
    if (word.substr(begin, word.find_last_not_of('_') + 1 - begin) == "asm") return one_line(word, 40);
  }
  return std::nullopt;
}

std::optional<std::string> refused(std::string_view source, SourceLanguage language) {
  if (source.size() > kLongestSource) return fmt::format("it is longer than {} bytes", kLongestSource);
  try {
    const std::set<std::string> allowed = allowed_includes();
    const std::vector<SourceLine> lines = source_lines(source, language);
    const bool pastes = std::any_of(lines.begin(), lines.end(),
                                    [](const SourceLine& line) { return line.code.find("##") != std::string::npos; });
    for (const SourceLine& line : lines) {
      if (language == SourceLanguage::device)
        if (auto refused = refused_in_device_line(line)) return refused;
      if (auto refused = refused_in_line(line, pastes, allowed)) return refused;
    }
  } catch (const AmbiguousSource& e) {
    return e.what();
  }
  return std::nullopt;
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

std::vector<SourceLine> source_lines(std::string_view source, SourceLanguage language) {
  return Scanner(source, language).lines();
}

std::optional<std::string> refused_in_source(std::string_view source) {
  return refused(source, SourceLanguage::cpp);
}

std::optional<std::string> refused_in_device_source(std::string_view source) {
  return refused(source, SourceLanguage::device);
}

}  // namespace haqa
