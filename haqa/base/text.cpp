#include "haqa/base/text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "haqa/base/json.h"

namespace haqa {
namespace {

std::string repaired(std::string_view text) {
  return Json::parse(to_line(Json(text))).get<std::string>();
}

/// Bytes of the UTF-8 sequence that begins with `first`.
size_t sequence_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xe0) return 2;
  return first < 0xf0 ? 3 : 4;
}

char32_t code_point(std::string_view sequence) {
  if (sequence.size() == 1) return static_cast<unsigned char>(sequence[0]);
  char32_t code = static_cast<unsigned char>(sequence[0]) & (0xffu >> (sequence.size() + 1));
  for (const char c : sequence.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3fu);
  return code;
}

/// Source: Unicode 15, table of format characters with an effect on direction, "Trojan Source" (CVE-2021-42574).
bool must_show(char32_t c) {
  if (c == '\t' || c == '\n') return false;
  const bool control = c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
  const bool turns = c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e);
  return control || turns || (c >= 0x2066 && c <= 0x2069);
}

/// The length of the well-formed sequence at the start of `text`; 0 where there is none.
size_t well_formed(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto continues = [&](size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80, high = first == 0xed ? 0x9f : 0xbf;
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (first < 0xf0 || first > 0xf4) return 0;
  const unsigned low = first == 0xf0 ? 0x90 : 0x80, high = first == 0xf4 ? 0x8f : 0xbf;
  return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = well_formed(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string shortened(std::string_view text, size_t longest) {
  if (text.size() <= longest) return std::string(text);
  size_t end = longest;
  while (end > 0 && (text[end] & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

std::string lowercase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

std::string printable(std::string_view text) {
  const std::string valid = repaired(text);
  std::string out;
  for (size_t i = 0; i < valid.size();) {
    const std::string_view sequence =
        std::string_view(valid).substr(i, sequence_length(static_cast<unsigned char>(valid[i])));
    const char32_t code = code_point(sequence);
    out += must_show(code) ? fmt::format("[U+{:04X}]", static_cast<uint32_t>(code)) : std::string(sequence);
    i += sequence.size();
  }
  return out;
}

std::string one_line(std::string_view text, size_t longest) {
  std::string out;
  size_t characters = 0;
  for (const char c : printable(text)) {
    const bool starts = (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (starts && ++characters > longest) return out + " ...";
    const bool space = c == '\n' || c == '\t' || c == ' ';
    if (!space) {
      out += c;
    } else if (!out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  while (out.ends_with(' ')) out.pop_back();
  return out;
}

std::string telling_line(std::string_view output, size_t longest) {
  std::string_view last, telling;
  for (size_t begin = 0; begin < output.size();) {
    const size_t end = std::min(output.find('\n', begin), output.size());
    const std::string_view line = output.substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r.") == std::string_view::npos) continue;  // dots are llama.cpp's progress
    last = line;
    // llama-server ends with "exiting due to ... error", which says less than the lines before it.
    if (line.find("exiting due to") != std::string_view::npos) continue;
    for (const char* word : {"error", "Error", "ERROR", "failed", "couldn't", "assert", "ASSERT", "abort"})
      if (line.find(word) != std::string_view::npos) telling = line;
  }
  return shortened(telling.empty() ? last : telling, longest);
}

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

}  // namespace haqa
