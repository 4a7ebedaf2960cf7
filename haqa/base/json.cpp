#include "haqa/base/json.h"

#include <algorithm>
#include <iterator>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"

namespace haqa {

namespace {

/// nlohmann parses without recursion, but copies, compares and writes with it: 100,000 levels overflow the stack.
constexpr int kMaxDepth = 64;

/// Where the bracketed value that starts at `begin` ends (one past its last bracket, npos where nothing closes it) and
/// how deep it nests. What stands in strings does not count.
struct Extent {
  size_t end = std::string_view::npos;
  int levels = 0;
  bool raw = false;  ///< a string holds what JSON wants escaped
};

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20;
}

/// What may follow a backslash.
bool is_escape(char c) {
  return std::string_view("\"\\/bfnrtu").find(c) != std::string_view::npos;
}

/// The text of an object with escapes where its strings lack them.
std::string escaped(std::string_view object) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < object.size(); ++i) {
    const char c = object[i];
    if (in_string && c == '\\' && i + 1 < object.size() && is_escape(object[i + 1])) {
      out += c;
      out += object[++i];
    } else if (in_string && c == '\\') {
      out += "\\\\";
    } else if (in_string && is_control(c)) {
      constexpr std::string_view kHex = "0123456789abcdef";
      out += {'\\', 'u', '0', '0', kHex[static_cast<size_t>(c) / 16], kHex[static_cast<size_t>(c) % 16]};
    } else {
      in_string ^= c == '"';
      out += c;
    }
  }
  return out;
}

Json parsed(std::string_view object, bool raw) {
  constexpr bool kThrow = false;
  Json value = Json::parse(object, nullptr, kThrow);
  if (raw && value.is_discarded()) value = Json::parse(escaped(object), nullptr, kThrow);
  return value;
}

Extent extent(std::string_view text, size_t begin) {
  Extent found;
  int depth = 0, braces = 0;
  bool in_string = false;
  for (size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
        found.raw |= i < text.size() && !is_escape(text[i]);
      } else if (is_control(c)) {
        found.raw = true;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      braces += c == '{';
      found.levels = std::max(found.levels, ++depth);
    } else if (c == ']') {
      --depth;
    } else if (c == '}') {
      --depth;
      if (--braces == 0) {
        found.end = i + 1;
        return found;
      }
    }
  }
  return found;
}

/// Appends the outermost objects of the text, and takes from the budget the bytes read for it. Returns where the budget
/// ended, npos where it did not.
size_t take_objects(std::string_view text, size_t& budget, std::vector<Json>& found) {
  for (size_t begin = text.find('{'), next = 0; begin != std::string_view::npos; begin = text.find('{', next)) {
    next = begin + 1;
    const auto [end, levels, raw] = extent(text, begin);
    const size_t read = (end == std::string_view::npos ? text.size() : end) - begin;
    if (read > budget) return begin;
    budget -= read;
    if (end != std::string_view::npos && levels > kMaxDepth) {
      next = end;
    } else if (end != std::string_view::npos) {
      Json value = parsed(text.substr(begin, end - begin), raw);
      if (value.is_object()) {
        found.push_back(std::move(value));
        next = end;
      }
    }
  }
  return std::string_view::npos;
}

/// The same line by line, the last ones first: what a program says last is what counts.
std::vector<Json> objects_in_lines(std::string_view text, size_t budget) {
  std::vector<Json> found;
  while (!text.empty() && budget > 0) {
    const size_t start = text.rfind('\n') + 1;  // 0 where there is no other
    const std::string_view line = text.substr(start);
    std::vector<Json> of_line;
    size_t share = std::min(budget, 64 * line.size()), rest = share;  // one line of rubbish must not use it all
    take_objects(line, rest, of_line);
    budget -= share - rest;
    std::move(of_line.rbegin(), of_line.rend(), std::back_inserter(found));
    text = text.substr(0, start == 0 ? 0 : start - 1);
  }
  std::reverse(found.begin(), found.end());
  return found;
}

}  // namespace

Json read_json(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  try {
    Json value = Json::parse(text);
    if (extent(text, 0).levels > kMaxDepth)
      throw Error("{}: nests deeper than {} levels; write it anew", file.string(), kMaxDepth);
    return value;
  } catch (const Json::exception& e) {                  // parse_error, and out_of_range for 1e999
    const std::string what = shortened(e.what(), 200);  // it quotes the last token, whole
    throw Error("{}: not valid JSON ({}); correct the file or write it anew", file.string(), what);
  }
}

std::vector<Json> find_json_objects(std::string_view text) {
  std::vector<Json> found;
  // An unclosed brace is known only at the end of the text, so thousands of them take time by the square. Code has many
  // braces, all closed: no limit on their number, which would lose an answer after it, but on what is read in all.
  constexpr size_t kBudget = 64u << 20;
  size_t budget = kBudget;
  const size_t rest = take_objects(text, budget, found);
  if (rest == std::string_view::npos) return found;
  std::vector<Json> later = objects_in_lines(text.substr(rest), kBudget);
  std::move(later.begin(), later.end(), std::back_inserter(found));
  return found;
}

std::string to_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace haqa
