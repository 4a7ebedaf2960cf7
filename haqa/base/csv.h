#pragma once
#include <string>
#include <string_view>

namespace haqa {

/// A field of a CSV file, quoted where it must be. Source: RFC 4180.
std::string csv_field(std::string_view text);

}  // namespace haqa
