#pragma once
#include <string>
#include <string_view>

namespace haqa {

/// Whether the text is well-formed UTF-8: no overlong forms, surrogates or code points beyond U+10FFFF.
/// Source: The Unicode Standard 15, table 3-7.
bool is_utf8(std::string_view text);

/// The first `longest` bytes at most, not cut within a UTF-8 character (JSON writers refuse the rest), and "...".
std::string shortened(std::string_view text, size_t longest);

/// ASCII letters alone are changed.
std::string lowercase(std::string_view text);

/// Makes foreign text safe to show: UTF-8 repaired; control characters, and those that turn the direction of writing
/// (which can make a text read as something else), spelt out as "[U+202E]". Tabs and line breaks stay.
std::string printable(std::string_view text);

/// printable() on one line, for messages and terminals; longer ones end in "..." after `longest` characters.
std::string one_line(std::string_view text, size_t longest = 200);

/// The last line of a program's output that says what went wrong, else its last line; empty where it wrote none.
std::string telling_line(std::string_view output, size_t longest);

/// "2026-11-24T08:19:33Z"
std::string utc_now();

}  // namespace haqa
