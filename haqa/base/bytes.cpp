#include "haqa/base/bytes.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "haqa/base/error.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

/// 1, 1000^k or 1024^k; 0 for what is no unit.
double unit_factor(std::string_view unit) {
  const std::string lower = lowercase(unit);
  if (lower.empty() || lower == "b") return 1;
  const size_t power = std::string_view("kmgt").find(lower[0]);
  if (power == std::string_view::npos) return 0;
  const std::string_view rest = std::string_view(lower).substr(1);
  if (rest.empty() || rest == "b") return std::pow(1000.0, static_cast<double>(power + 1));
  if (rest == "ib" || rest == "i") return std::pow(1024.0, static_cast<double>(power + 1));
  return 0;
}

}  // namespace

uint64_t parse_bytes(std::string_view text) {
  const std::string_view all = trim(text);
  double number = 0;
  const auto [end, code] = std::from_chars(all.data(), all.data() + all.size(), number);
  const double factor = unit_factor(trim(all.substr(static_cast<size_t>(end - all.data()))));
  const double bytes = number * factor;
  if (code != std::errc() || factor == 0)
    throw UsageError("\"{}\" is not an amount of memory; write a number and a unit such as 12GB, 800MB or 6GiB", text);
  // "not (bytes >= 1)" refuses NaN as well
  if (!(bytes >= 1) || bytes > 9e18)
    throw UsageError("\"{}\" is not a possible amount of memory; it must be above zero and below 9 exabytes", text);
  return static_cast<uint64_t>(std::llround(bytes));
}

std::string format_bytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> units = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : 1, units[unit]);
}

std::string format_seconds(double seconds) {
  // The bounds are those of the rounded text: neither "1000 ms" nor "60.0 s".
  if (!std::isfinite(seconds)) return fmt::format("{} s", seconds);
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const long whole = std::lround(seconds);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace haqa
