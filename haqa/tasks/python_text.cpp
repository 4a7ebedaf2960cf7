#include "haqa/tasks/python_text.h"

#include <unicode/stringoptions.h>
#include <unicode/ucasemap.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "haqa/base/error.h"

namespace haqa {
namespace {

/// Those whose bidirectional type is WS, B or S, and those of category Zs. ICU's own u_isUWhiteSpace leaves out 1C to
/// 1F.
bool is_space(UChar32 c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

int32_t size_of(std::string_view text) {
  if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max() / 4))
    throw Error("a text of {} bytes is too long for a question", text.size());
  return static_cast<int32_t>(text.size());
}

}  // namespace

size_t trailing_space(std::string_view utf8) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(utf8.data());
  int32_t end = size_of(utf8);
  while (end > 0) {
    int32_t before = end;
    UChar32 c;
    U8_PREV(bytes, 0, before, c);
    if (!is_space(c)) break;
    end = before;
  }
  return utf8.size() - static_cast<size_t>(end);
}

std::string_view strip(std::string_view utf8) {
  utf8.remove_suffix(trailing_space(utf8));
  const auto* bytes = reinterpret_cast<const uint8_t*>(utf8.data());
  const int32_t size = size_of(utf8);
  int32_t begin = 0;
  while (begin < size) {
    int32_t after = begin;
    UChar32 c;
    U8_NEXT(bytes, after, size, c);
    if (!is_space(c)) break;
    begin = after;
  }
  return utf8.substr(static_cast<size_t>(begin));
}

int characters(std::string_view utf8) {
  return static_cast<int>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string capitalize(std::string_view utf8) {
  UErrorCode status = U_ZERO_ERROR;
  // The whole text is one word, and its first character counts even where it has no case: "(He" becomes "(he".
  const std::unique_ptr<UCaseMap, void (*)(UCaseMap*)> map(
      ucasemap_open("", U_TITLECASE_WHOLE_STRING | U_TITLECASE_NO_BREAK_ADJUSTMENT, &status), ucasemap_close);
  std::string out(3 * utf8.size() + 8, '\0');  // no character grows to more than three times its bytes
  const int32_t n = U_SUCCESS(status) ? ucasemap_utf8ToTitle(map.get(), out.data(), static_cast<int32_t>(out.size()),
                                                             utf8.data(), size_of(utf8), &status)
                                      : 0;
  if (U_FAILURE(status)) throw Error("ICU cannot capitalize a text: {}", u_errorName(status));
  out.resize(static_cast<size_t>(n));
  return out;
}

}  // namespace haqa
