#include "haqa/base/file_name.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/base/fnv.h"

namespace haqa {
namespace {

constexpr size_t kLongest = 200;  // file systems take 255, and others add to the name
constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

}  // namespace

std::string as_file_name(std::string_view text) {
  std::string name(text.substr(0, kLongest));
  for (char& c : name)
    if (kPlain.find(c) == std::string_view::npos) c = '_';
  if (name.starts_with('.')) name.front() = '_';  // "..", and what ls hides
  if (name == text && !name.empty()) return name;
  const std::string number = fmt::format("-{:016x}", fnv1a_64(text));
  return name.substr(0, kLongest - number.size()) + number;
}

uint32_t fnv1a_32(std::string_view text) {
  return Fnv1a<uint32_t>().add(text).value();
}

uint64_t fnv1a_64(std::string_view text) {
  return Fnv1a<uint64_t>().add(text).value();
}

}  // namespace haqa
