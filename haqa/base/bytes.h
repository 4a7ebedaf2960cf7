#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace haqa {

/// Bytes from text such as "12GB", "10 gb", "1.5GiB", "4096M", "800000": kB, MB, GB, TB are powers of 1000 (K, M, G, T
/// and Kb, Mb, Gb likewise), KiB, MiB, GiB, TiB powers of 1024; case does not matter.
/// Throws UsageError for other units, negative, zero, infinite and unreadable numbers.
uint64_t parse_bytes(std::string_view text);

/// "13.0 GB", in powers of 1000, as parse_bytes reads it.
std::string format_bytes(uint64_t bytes);

/// "2 min 05 s", "3.4 s", "120 ms".
std::string format_seconds(double seconds);

}  // namespace haqa
