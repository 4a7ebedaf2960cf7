#include "haqa/base/json.h"

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {

Json read_json(const std::filesystem::path& file) {
  try {
    return Json::parse(read_file(file));
  } catch (const Json::exception& e) {  // parse_error, and out_of_range for 1e999
    throw Error("{}: not valid JSON ({}); correct the file or write it anew", file.string(), e.what());
  }
}

namespace {

/// Index one past the brace that closes the one at `begin`, or npos. Braces inside strings do not count.
size_t end_of_object(std::string_view text, size_t begin) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}' && --depth == 0) {
      return i + 1;
    }
  }
  return std::string_view::npos;
}

/// nlohmann parses by recursion: text such as 100,000 opening braces would overflow the stack.
constexpr int kMaxDepth = 64;

bool too_deep(std::string_view text) {
  int depth = 0;
  for (const char c : text) {
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    if (depth > kMaxDepth) return true;
  }
  return false;
}

}  // namespace

std::vector<Json> find_json_objects(std::string_view text) {
  std::vector<Json> found;
  // An unclosed brace makes every later attempt scan to the end; a reply with thousands of them is rubbish anyway.
  int attempts = 0;
  for (size_t begin = text.find('{'); begin != std::string_view::npos && attempts < 256; ++attempts) {
    size_t next = begin + 1;
    const size_t end = end_of_object(text, begin);
    if (end != std::string_view::npos && !too_deep(text.substr(begin, end - begin))) {
      Json value = Json::parse(text.substr(begin, end - begin), nullptr, /*allow_exceptions=*/false);
      if (value.is_object()) {
        found.push_back(std::move(value));
        next = end;
      }
    }
    begin = text.find('{', next);
  }
  return found;
}

std::string to_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace haqa
