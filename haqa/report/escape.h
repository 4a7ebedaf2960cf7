#pragma once
#include <string>
#include <string_view>

#include "haqa/base/json.h"
#include "haqa/base/text.h"

namespace haqa {

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
