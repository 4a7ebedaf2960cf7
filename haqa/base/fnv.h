#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace haqa {

/// FNV-1a of what is added byte by byte, which is the same in every build, unlike std::hash. Source:
/// draft-eastlake-fnv. In a header alone, as the module for llama.cpp has no library of ours.
template <typename Number>
class Fnv1a {
  static_assert(std::is_same_v<Number, uint32_t> || std::is_same_v<Number, uint64_t>);
  static constexpr bool kLong = sizeof(Number) == 8;

 public:
  constexpr Fnv1a& add(std::string_view bytes) {
    for (const char c : bytes) add(static_cast<unsigned char>(c));
    return *this;
  }
  constexpr Fnv1a& add(unsigned char byte) {
    hash_ = static_cast<Number>((hash_ ^ byte) * static_cast<Number>(kLong ? 0x100000001b3u : 0x01000193u));
    return *this;
  }
  constexpr Number value() const { return hash_; }

  /// All of the number's hexadecimal digits, zeros in front too.
  std::string digits() const {
    std::string text(2 * sizeof(Number), '0');
    Number rest = hash_;
    for (size_t i = text.size(); i-- > 0; rest = static_cast<Number>(rest >> 4))
      text[i] = "0123456789abcdef"[rest & 15];
    return text;
  }

 private:
  Number hash_ = static_cast<Number>(kLong ? 0xcbf29ce484222325u : 0x811c9dc5u);
};

}  // namespace haqa
