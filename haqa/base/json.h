#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace haqa {

/// Keys keep the order in which they were written, so that output reads as documented.
using Json = nlohmann::ordered_json;

/// Reads a JSON file. Throws Error naming the file and the position of what is wrong.
Json read_json(const std::filesystem::path& file);

/// Every outermost JSON object in free text, as chat models wrap their answers in prose and code fences. Text that only
/// looks like an object is passed over; nesting beyond 64 levels too. In their strings, line breaks and backslashes
/// that should have been escaped are taken as they are, since models write code so. After very many braces that nothing
/// closes, only those within a line. Source: paper, section 3.3 (wrong format).
std::vector<Json> find_json_objects(std::string_view text);

/// One line, UTF-8 repaired: what a log or a worker message needs.
std::string to_line(const Json& value);

}  // namespace haqa
