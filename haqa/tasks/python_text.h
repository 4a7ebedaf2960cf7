#pragma once
#include <string>
#include <string_view>

namespace haqa {

/// Texts as Python's `str` treats them. lm-eval is written in Python, and one character more or less is another prompt.

/// Bytes of white space at the end. What white space is: Python's str.isspace().
size_t trailing_space(std::string_view utf8);
/// Without white space at both ends: str.strip().
std::string_view strip(std::string_view utf8);
/// Characters (code points), not bytes: len().
int characters(std::string_view utf8);
/// First character in title case, all others in lower case: str.capitalize(), by ICU's tables.
std::string capitalize(std::string_view utf8);

}  // namespace haqa
