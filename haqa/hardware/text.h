#pragma once
#include <string>
#include <string_view>

namespace haqa {

/// A name as firmware and drivers give it, made fit for JSON and a prompt: bytes outside printable ASCII become
/// spaces, runs of spaces one space, none at the ends ("Intel(R)  Xeon(R) CPU   " and worse are common).
inline std::string clean_text(std::string_view raw) {
  std::string text;
  for (const char c : raw) {
    const bool printable = c > ' ' && c < 0x7f;
    if (printable) {
      text += c;
    } else if (!text.empty() && text.back() != ' ') {
      text += ' ';
    }
  }
  if (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

}  // namespace haqa
