#include "haqa/report/part.h"

#include <cmath>

#include "haqa/space/search_space.h"

namespace haqa {

Part Part::operator[](const char* key) const {
  static const Json none;
  return Part(json_->is_object() && json_->contains(key) ? json_->at(key) : none);
}

std::vector<Part> Part::list() const {
  std::vector<Part> parts;
  if (json_->is_array())
    for (const Json& element : *json_) parts.emplace_back(element);
  return parts;
}

std::vector<std::pair<std::string, Part>> Part::members() const {
  std::vector<std::pair<std::string, Part>> parts;
  if (json_->is_object())
    for (const auto& [name, value] : json_->items()) parts.emplace_back(name, value);
  return parts;
}

std::optional<double> Part::number() const {
  if (!json_->is_number()) return std::nullopt;
  const double value = json_->get<double>();
  if (!(std::abs(value) < 1e18)) return std::nullopt;  // NaN too
  return value;
}

std::optional<double> Part::positive() const {
  const std::optional<double> value = number();
  return value && *value > 1e-12 ? value : std::nullopt;
}

std::optional<uint64_t> Part::bytes() const {
  const std::optional<double> value = number();
  return value && *value >= 1 ? std::optional(static_cast<uint64_t>(*value)) : std::nullopt;
}

std::optional<int> Part::count() const {
  const std::optional<double> value = number();
  const bool whole = value && *value >= 0 && *value < 2e9 && *value == std::floor(*value);
  return whole ? std::optional(static_cast<int>(*value)) : std::nullopt;
}

std::string Part::text() const {
  return json_->is_string() ? json_->get<std::string>() : "";
}

std::string Part::value_text() const {
  if (json_->is_string()) return short_text(text());
  return json_->is_boolean() || number() ? to_line(*json_) : "";
}

}  // namespace haqa
