#include "haqa/report/escape.h"

#include <algorithm>
#include <cctype>

namespace haqa {
namespace {

size_t longest_run(std::string_view text, char wanted) {
  size_t longest = 0, run = 0;
  for (const char c : text) longest = std::max(longest, run = c == wanted ? run + 1 : 0);
  return longest;
}

}  // namespace

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string markdown_code(std::string_view text) {
  std::string line;
  // GitHub splits table cells at "|" even within code, and offers no escape that a code span elsewhere would not show.
  for (const char c : one_line(text)) line += c == '|' ? std::string("¦") : std::string(1, c);
  const std::string fence(longest_run(line, '`') + 1, '`');
  const char* pad = line.empty() || line.starts_with('`') || line.ends_with('`') ? " " : "";
  return fence + pad + line + pad + fence;
}

std::string script_json(const Json& json) {
  std::string out;
  for (const char c : to_line(json)) out += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return out;
}

std::string script_code(std::string_view code) {
  std::string out;
  for (size_t i = 0; i < code.size(); ++i) {
    const std::string_view rest = code.substr(i + 1);
    out += code[i];
    if (code[i] != '<') continue;
    const std::string_view word = rest.substr(0, 7);
    const bool ends = std::equal(word.begin(), word.end(), "/script",
                                 [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
    if ((word.size() == 7 && ends) || rest.starts_with("!--")) out += '\\';
  }
  return out;
}

}  // namespace haqa
