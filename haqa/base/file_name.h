#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace haqa {

/// A name for a file or folder made of any text: itself where it has only A-Z, a-z, 0-9, '.', '_' and '-', does not
/// begin with '.' and is not too long; else with '_' for all other bytes, and a number of the whole text at its end,
/// which tells texts apart that look alike then. At most 200 bytes, never empty.
std::string as_file_name(std::string_view text);

/// FNV-1a (fnv.h).
uint32_t fnv1a_32(std::string_view text);
uint64_t fnv1a_64(std::string_view text);

}  // namespace haqa
