#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// Of bitsandbytes: tests/golden/quantization.py.
inline const Json& golden() {
  static const Json json = read_json(HAQA_SOURCE_DIR "/tests/golden/quantization.json");
  return json;
}

/// The script's numbers(): products of two 12-bit integers times 2^exponent.
inline std::vector<float> numbers(uint64_t seed, int64_t count, int exponent) {
  std::vector<float> out;
  for (uint64_t state = seed; count > 0; --count) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto a = static_cast<float>(static_cast<int>(state >> 40 & 0xfff) - 2048);
    const auto b = static_cast<float>(static_cast<int>(state >> 52 & 0xfff) - 2048);
    out.push_back(std::ldexp(a * b, exponent));
  }
  return out;
}

/// An array from its hexadecimal bytes.
template <typename T>
std::vector<T> unhex(const Json& json) {
  const auto text = json.get<std::string>();
  std::string bytes;
  for (size_t i = 0; i < text.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// Of floats, so that -0 differs from 0, and what differs is seen.
inline std::vector<uint32_t> bits(const std::vector<float>& values) {
  std::vector<uint32_t> all;
  for (const float value : values) all.push_back(std::bit_cast<uint32_t>(value));
  return all;
}

}  // namespace haqa
