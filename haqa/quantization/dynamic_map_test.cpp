#include "haqa/quantization/dynamic_map.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "haqa/base/error.h"
#include "haqa/quantization/quantization_test_support.h"

namespace haqa {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> values_of(const DynamicMap& map) {
  return {map.values().begin(), map.values().end()};
}

TEST(DynamicMap, AgreesWithBitsandbytesBitForBit) {
  EXPECT_EQ(bits(values_of(signed_dynamic_map())), bits(unhex<float>(golden()["signed"]["map"])));
  EXPECT_EQ(bits(values_of(unsigned_dynamic_map())), bits(unhex<float>(golden()["unsigned"]["map"])));
}

/// By a search through all; the lower one where two are equally near, as far as floats can say.
uint8_t nearest(const DynamicMap& map, float value) {
  size_t best = 0;
  for (size_t i = 1; i < 256; ++i) {
    const float middle = (map.values()[i - 1] + map.values()[i]) / 2;
    if (value > middle) best = i;
  }
  return static_cast<uint8_t>(best);
}

TEST(DynamicMap, CodesAreTheNearest) {
  std::mt19937_64 random(1);
  std::uniform_int_distribution<uint32_t> any;
  for (const DynamicMap* map : {&signed_dynamic_map(), &unsigned_dynamic_map()}) {
    std::vector<float> probes = {0, -0.0f, 1, -1, 2, -2, 1e-38f, -1e-38f, 1e-45f, -1e-45f, 3e38f, -3e38f};
    for (size_t i = 0; i + 1 < 256; ++i) {
      const float middle = (map->values()[i] + map->values()[i + 1]) / 2;
      probes.insert(probes.end(),
                    {map->values()[i], middle, std::nextafter(middle, kInfinity), std::nextafter(middle, -kInfinity)});
    }
    for (int i = 0; i < 20'000; ++i) {  // of any size; and within -1 to 1
      const auto value = std::bit_cast<float>(any(random));
      if (std::isfinite(value)) probes.push_back(value);
      probes.push_back(std::ldexp(static_cast<float>(any(random)), -31) - 1);
    }
    for (const float value : probes) ASSERT_EQ(map->code(value), nearest(*map, value)) << value;
    for (int code = 0; code < 256; ++code)
      EXPECT_EQ(map->code((*map)[static_cast<uint8_t>(code)]), code) << "each value is its own nearest";
    EXPECT_EQ(map->code(kInfinity), 255);
    EXPECT_EQ(map->code(-kInfinity), 0);
  }
}

TEST(DynamicMap, BlockwiseAgreesWithBitsandbytes) {
  for (const bool is_signed : {true, false}) {
    const Json& c = golden()[is_signed ? "signed" : "unsigned"];
    const DynamicMap& map = is_signed ? signed_dynamic_map() : unsigned_dynamic_map();
    auto values = numbers(is_signed ? 50 : 51, 1000, -22);
    if (!is_signed)
      for (float& v : values) v = std::abs(v);
    std::vector<uint8_t> codes(1000);
    std::vector<float> absmax(4);
    quantize_blockwise(map, values, codes, absmax);
    EXPECT_EQ(bits(absmax), bits(unhex<float>(c["absmax"])));
    const auto want = unhex<uint8_t>(c["codes"]);
    int different = 0;
    for (size_t i = 0; i < 1000; ++i) {
      // Its lookup sees steps of about 1/65536 alone, so that it takes a farther value at times, several codes away
      // where they lie close together; ours must never be the farther one.
      const double scaled = static_cast<double>(values[i]) / absmax[i / 256];
      EXPECT_LE(std::abs(codes[i] - want[i]), std::abs(scaled) < 1e-4 ? 7 : 1) << i;
      EXPECT_LE(std::abs(map[codes[i]] - scaled), std::abs(map[want[i]] - scaled) + 1e-7) << i;
      different += codes[i] != want[i];
    }
    EXPECT_LE(different, 10);
    std::vector<float> out(1000);
    for (size_t i = 0; i < 1000; ++i) out[i] = map[want[i]] * absmax[i / 256];
    EXPECT_EQ(bits(out), bits(unhex<float>(c["values"])));
  }
}

TEST(DynamicMap, ZerosStayZeroAndWhatIsNotFiniteIsRefused) {
  std::vector<float> values(300), absmax(2);
  std::vector<uint8_t> codes(300);
  for (const DynamicMap* map : {&signed_dynamic_map(), &unsigned_dynamic_map()}) {
    quantize_blockwise(*map, values, codes, absmax);
    EXPECT_EQ((*map)[codes[299]], 0);
    EXPECT_EQ(absmax[1], 0);
  }
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    values[280] = bad;
    EXPECT_THROW(quantize_blockwise(signed_dynamic_map(), values, codes, absmax), Error);
  }
  values[280] = 0;
  EXPECT_THROW(quantize_blockwise(signed_dynamic_map(), values, std::span(codes).first(299), absmax), Error);
  EXPECT_THROW(quantize_blockwise(signed_dynamic_map(), values, codes, std::span(absmax).first(1)), Error);
}

}  // namespace
}  // namespace haqa
