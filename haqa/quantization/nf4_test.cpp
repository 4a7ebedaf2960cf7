#include "haqa/quantization/nf4.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "haqa/base/error.h"
#include "haqa/quantization/bf16.h"
#include "haqa/quantization/dynamic_map.h"
#include "haqa/quantization/parallel_test_support.h"
#include "haqa/quantization/quantization_test_support.h"

namespace haqa {
namespace {

constexpr Format4Bit kFormats[] = {Format4Bit::nf4, Format4Bit::fp4};

const Json& golden_of(Format4Bit format) {
  return golden()[format == Format4Bit::nf4 ? "nf4" : "fp4"];
}

template <typename T>
std::vector<T> dequantized(const Quantized4Bit& q, int64_t first, int64_t count, Simd simd = best_simd()) {
  constexpr T kGuard = 77;
  std::vector<T> out(static_cast<size_t>(count) + 16, kGuard);
  dequantize(q, first, std::span(out).first(static_cast<size_t>(count)), simd);
  for (size_t i = static_cast<size_t>(count); i < out.size(); ++i) EXPECT_EQ(out[i], kGuard) << "wrote beyond the end";
  out.resize(static_cast<size_t>(count));
  return out;
}

/// Independent of the vector code: one value from its definition.
float value_of(const Quantized4Bit& q, int64_t i) {
  const int two = q.codes[static_cast<size_t>(i / 2)];
  return codebook(q.format)[static_cast<size_t>(i % 2 ? two & 15 : two >> 4)] * q.block_absmax(i / 64);
}

std::vector<float> random_weights(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(random);
  return values;
}

TEST(Quantize4Bit, TheGeneratorOfNumbersIsTheScripts) {
  EXPECT_EQ(bits(numbers(1, 8, -28)), bits(unhex<float>(golden()["numbers"])));
}

TEST(Quantize4Bit, CodebooksAreThoseOfBitsandbytes) {
  for (const Format4Bit format : kFormats) {
    const auto& ours = codebook(format);
    EXPECT_EQ(bits({ours.begin(), ours.end()}), bits(unhex<float>(golden_of(format)["codebook"])));
  }
}

TEST(Quantize4Bit, EdgesAgreeWithBitsandbytesBitForBit) {
  for (const Format4Bit format : kFormats) {
    ASSERT_GE(golden_of(format)["edges"].size(), 15u);
    for (const Json& c : golden_of(format)["edges"])
      for (const Simd simd : available_simd()) {
        const auto q = quantize_4bit(unhex<float>(c["values"]), format, false, in_turn, simd);
        auto codes = unhex<uint8_t>(c["codes"]);
        if (q.elements % 2) codes.back() = static_cast<uint8_t>(codes.back() & 0xf0);  // the low nibble means nothing
        EXPECT_EQ(q.codes, codes) << c["name"] << " with vectors " << static_cast<int>(simd);
        EXPECT_EQ(bits(q.absmax), bits(unhex<float>(c["absmax"]))) << c["name"];
      }
  }
}

TEST(Quantize4Bit, MatricesAndTheirValuesAgreeWithBitsandbytesBitForBit) {
  for (const Format4Bit format : kFormats)
    for (const Json& c : golden_of(format)["matrices"]) {
      const int64_t count = c["rows"].get<int64_t>() * c["columns"].get<int64_t>();
      const auto q = quantize_4bit(numbers(c["seed"], count, c["exponent"]), format, false);
      EXPECT_EQ(q.codes, unhex<uint8_t>(c["codes"]));
      EXPECT_EQ(bits(q.absmax), bits(unhex<float>(c["absmax"])));
      for (const Simd simd : available_simd()) {
        EXPECT_EQ(bits(dequantized<float>(q, 0, count, simd)), bits(unhex<float>(c["float32"])));
        EXPECT_EQ(dequantized<uint16_t>(q, 0, count, simd), unhex<uint16_t>(c["bfloat16"]));
      }
    }
}

std::vector<float> doubly_quantized_input() {
  auto values = numbers(40, 600 * 64, -28);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= static_cast<float>(i / 64 * 37 % 97 + 32) / 64;
  return values;
}

TEST(Quantize4Bit, DoublyQuantizedAbsmaxIsWithinOneStepOfBitsandbytes) {
  for (const Format4Bit format : kFormats) {
    const Json& c = golden_of(format)["double"];
    const auto plain = quantize_4bit(doubly_quantized_input(), format, false);
    EXPECT_EQ(bits(plain.absmax), bits(unhex<float>(c["absmax"])));
    const auto q = quantize_4bit(doubly_quantized_input(), format, true);
    EXPECT_TRUE(q.absmax.empty());
    EXPECT_NEAR(q.absmax_mean, unhex<float>(c["mean"])[0], 1e-6 * q.absmax_mean);
    const auto codes = unhex<uint8_t>(c["absmax_codes"]);
    ASSERT_EQ(q.absmax_codes.size(), codes.size());
    int different = 0;
    for (size_t i = 0; i < codes.size(); ++i) {
      EXPECT_LE(std::abs(q.absmax_codes[i] - codes[i]), 1) << i;
      different += q.absmax_codes[i] != codes[i];
    }
    EXPECT_LE(different, 6) << "one in a hundred at most";
    const auto absmax = unhex<float>(c["absmax_absmax"]);
    ASSERT_EQ(q.absmax_absmax.size(), absmax.size());
    for (size_t i = 0; i < absmax.size(); ++i) EXPECT_NEAR(q.absmax_absmax[i], absmax[i], 1e-6 * absmax[i]);
  }
}

// With its absmax, so that what is checked is the way from them to the values.
TEST(Quantize4Bit, DoublyQuantizedValuesAgreeWithBitsandbytesBitForBit) {
  for (const Format4Bit format : kFormats) {
    const Json& c = golden_of(format)["double"];
    auto q = quantize_4bit(doubly_quantized_input(), format, true);
    q.absmax_codes = unhex<uint8_t>(c["absmax_codes"]);
    q.absmax_absmax = unhex<float>(c["absmax_absmax"]);
    q.absmax_mean = unhex<float>(c["mean"])[0];
    std::vector<float> absmax;
    for (int64_t block = 0; block < q.blocks(); ++block) absmax.push_back(q.block_absmax(block));
    EXPECT_EQ(bits(absmax), bits(unhex<float>(c["dequantized_absmax"])));
    const int64_t first = c["first_block"].get<int64_t>();
    const int64_t blocks = c["blocks"].get<int64_t>();
    EXPECT_EQ(std::vector(q.codes.begin() + first * 32, q.codes.begin() + (first + blocks) * 32),
              unhex<uint8_t>(c["codes"]));
    for (const Simd simd : available_simd()) {
      EXPECT_EQ(bits(dequantized<float>(q, first * 64, blocks * 64, simd)), bits(unhex<float>(c["float32"])));
      EXPECT_EQ(dequantized<uint16_t>(q, first * 64, blocks * 64, simd), unhex<uint16_t>(c["bfloat16"]));
    }
  }
}

TEST(Quantize4Bit, EveryCodeIsTheNearest) {
  for (const Format4Bit format : kFormats) {
    const auto values = random_weights(64 * 500 + 17, 1);
    const auto q = quantize_4bit(values, format, false);
    for (size_t i = 0; i < values.size(); ++i) {
      const double absmax = q.absmax[i / 64];
      double nearest = 2;
      for (const float c : codebook(format)) nearest = std::min(nearest, std::abs(values[i] - absmax * c));
      const double error = std::abs(values[i] - static_cast<double>(value_of(q, static_cast<int64_t>(i))));
      EXPECT_LE(error, nearest + 1e-6 * absmax) << i;
    }
  }
}

TEST(Quantize4Bit, AllInstructionSetsGiveTheSameBits) {
  const auto values = random_weights(64 * 200 + 39, 2);
  for (const Format4Bit format : kFormats)
    for (const bool twice : {false, true}) {
      const auto portable = quantize_4bit(values, format, twice, in_turn, Simd::portable);
      for (const Simd simd : available_simd()) {
        const auto q = quantize_4bit(values, format, twice, in_turn, simd);
        EXPECT_EQ(q.codes, portable.codes) << static_cast<int>(simd);
        EXPECT_EQ(bits(q.absmax), bits(portable.absmax));
        EXPECT_EQ(q.absmax_codes, portable.absmax_codes);
        for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, q.elements},
                                                                                   {0, 1},
                                                                                   {0, 0},
                                                                                   {64, 64},
                                                                                   {128, 63},
                                                                                   {192, 65},
                                                                                   {1, 200},
                                                                                   {63, 2},
                                                                                   {70, 5},
                                                                                   {q.elements, 0},
                                                                                   {q.elements - 1, 1},
                                                                                   {64 * 200, 39},
                                                                                   {64 * 3, 64 * 130 + 1}}) {
          const auto floats = dequantized<float>(q, first, count, simd);
          const auto halves = dequantized<uint16_t>(q, first, count, simd);
          for (int64_t i = 0; i < count; ++i) {
            const float want = value_of(portable, first + i);
            ASSERT_EQ(std::bit_cast<uint32_t>(floats[static_cast<size_t>(i)]), std::bit_cast<uint32_t>(want))
                << first + i;
            ASSERT_EQ(halves[static_cast<size_t>(i)], to_bf16(want)) << first + i;
          }
        }
      }
    }
}

TEST(Quantize4Bit, ThreadsGiveTheSameCodes) {
  for (const int64_t size : {700, 700 * 64, 700 * 1000}) {
    const auto values = random_weights(size, 3);
    const auto one = quantize_4bit(values, Format4Bit::nf4, true);
    for (const int threads : {1, 2, 5}) {
      const auto q = quantize_4bit(values, Format4Bit::nf4, true, on_threads(threads));
      EXPECT_EQ(q.codes, one.codes);
      EXPECT_EQ(q.absmax_codes, one.absmax_codes);
    }
  }
}

TEST(Quantize4Bit, BitsAParameter) {
  const auto values = random_weights(4096 * 4096, 4);
  const auto q = quantize_4bit(values, Format4Bit::nf4, true, on_threads(2));
  const auto bits = [](const Quantized4Bit& of) {
    return 8.0 * static_cast<double>(of.bytes()) / static_cast<double>(of.elements);
  };
  EXPECT_NEAR(bits(q), 4 + 8.0 / 64 + 32.0 / (64 * 256), 1e-5);
  EXPECT_NEAR(bits(q), 4.127, 5e-4);
  // What the vectors really hold.
  EXPECT_EQ(
      q.codes.capacity() + q.absmax.capacity() * 4 + q.absmax_codes.capacity() + q.absmax_absmax.capacity() * 4 + 4,
      static_cast<size_t>(q.bytes()));
  EXPECT_NEAR(bits(quantize_4bit(std::span(values).first(4096 * 64), Format4Bit::fp4, false)), 4.5, 1e-9);
}

TEST(Quantize4Bit, WhatIsNotFiniteIsRefusedByItsPlace) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()})
    for (const size_t at : {0, 63, 64, 130}) {
      std::vector<float> values(131, 0.5f);
      values[at] = bad;
      for (const Simd simd : available_simd()) try {
          quantize_4bit(values, Format4Bit::nf4, true, in_turn, simd);
          FAIL() << bad << " at " << at;
        } catch (const Error& e) {
          EXPECT_NE(std::string(e.what()).find(fmt::format("value {} of 131", at)), std::string::npos) << e.what();
        }
    }
  EXPECT_THROW(quantize_4bit({}, Format4Bit::nf4, true), Error);
}

TEST(Quantize4Bit, RangesBeyondTheEndAreRefused) {
  const auto q = quantize_4bit(std::vector<float>(100, 1.0f), Format4Bit::nf4, false);
  std::vector<float> out(64);
  EXPECT_THROW(dequantize(q, 64, std::span(out)), Error);
  EXPECT_THROW(dequantize(q, -64, std::span(out)), Error);
}

// Random values hardly ever lie in the middle of two bf16 numbers; these do, or one step of a float beside it.
TEST(Quantize4Bit, TiesOfBf16GoToTheEvenOne) {
  Quantized4Bit q{.elements = 64 * 6, .codes = std::vector<uint8_t>(32 * 6, 0xf0)};  // 1 and -1 in turn
  for (const uint32_t absmax : {0x3f808000u, 0x3f818000u, 0x3f807fffu, 0x3f817fffu, 0x3f808001u, 0x3f818001u})
    q.absmax.push_back(std::bit_cast<float>(absmax));
  const uint16_t want[] = {0x3f80, 0x3f82, 0x3f80, 0x3f81, 0x3f81, 0x3f82};
  for (const Simd simd : available_simd()) {
    const auto halves = dequantized<uint16_t>(q, 0, q.elements, simd);
    for (size_t i = 0; i < halves.size(); ++i)
      EXPECT_EQ(halves[i], want[i / 64] | (i % 2 ? 0x8000 : 0)) << i << " with vectors " << static_cast<int>(simd);
  }
}

TEST(Bf16, RoundsToTheNearestAndTiesToEven) {
  const std::pair<float, uint16_t> cases[] = {{0.0f, 0},
                                              {-0.0f, 0x8000},
                                              {1.0f, 0x3f80},
                                              {1.00390625f, 0x3f80},
                                              {1.01171875f, 0x3f82},
                                              {1.0039064f, 0x3f81},
                                              {std::ldexp(1.0f, -149), 0},
                                              {std::ldexp(1.0f, -133), 1},
                                              {3.4028235e38f, 0x7f80}};
  for (const auto& [value, want] : cases) EXPECT_EQ(to_bf16(value), want) << value;
}

}  // namespace
}  // namespace haqa
