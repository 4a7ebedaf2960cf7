#pragma once
#include <string>
#include <string_view>

#include "haqa/base/json.h"

namespace haqa {

/// Makes foreign text safe to show: UTF-8 repaired; control characters, and those that turn the direction of writing
/// (which can make a text read as something else), spelt out as "[U+202E]". Tabs and line breaks stay.
std::string printable(std::string_view text);

/// printable() on one line, for a terminal; longer ones end in "..." after `longest` characters.
std::string one_line(std::string_view text, size_t longest = 200);

/// printable() for element content and quoted attributes.
std::string html_text(std::string_view text);

/// one_line() as a Markdown code span, in which nothing else has a meaning; fit for a table's cell too.
std::string markdown_code(std::string_view text);

/// JSON for a script element: it can hold neither "</script" nor "<!--".
std::string script_json(const Json& json);

/// Code for a script element. Both sequences can stand only in strings, patterns and comments of a sensible script,
/// where the added backslash changes nothing.
std::string script_code(std::string_view code);

}  // namespace haqa
