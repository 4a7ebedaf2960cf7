#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// A part of a summary that may be missing or of another type than expected: reading it never throws. Valid as long as
/// the JSON it was taken from.
class Part {
 public:
  explicit Part(const Json& json) : json_(&json) {}

  Part operator[](const char* key) const;                     ///< a member; a missing part where there is none
  std::vector<Part> list() const;                             ///< elements of an array
  std::vector<std::pair<std::string, Part>> members() const;  ///< of an object

  /// A number of a size that can be true, so that no later arithmetic overflows.
  std::optional<double> number() const;
  std::optional<double> positive() const;  ///< number() above 0: rates, ratios
  std::optional<uint64_t> bytes() const;   ///< number() above 0 as an amount of memory
  std::optional<int> count() const;        ///< a whole number from 0
  std::string text() const;                ///< empty where it is no string
  bool is(bool value) const { return json_->is_boolean() && json_->get<bool>() == value; }
  bool is_missing() const { return json_->is_null(); }
  std::string value_text() const;  ///< a parameter's value: "8", "q8_0", "true"; empty for anything else
  const Json& json() const { return *json_; }

 private:
  const Json* json_;
};

}  // namespace haqa
