#include "haqa/quantization/nf4.h"

#include <algorithm>
#include <cmath>

#include "haqa/base/error.h"
#include "haqa/quantization/bf16.h"
#include "haqa/quantization/dynamic_map.h"
#include "haqa/quantization/nf4_kernels.h"

namespace haqa {
namespace {

constexpr std::array<float, 16> kNf4 = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};
// Scaled so that the largest, 12, is 1. Code 8 is a second zero: positive values too small for code 1 go there.
constexpr std::array<float, 16> kFp4 = {
    0, 0.0625f / 12,  8.0f / 12,  1,  4.0f / 12,  0.5f,  2.0f / 12,  0.25f,
    0, -0.0625f / 12, -8.0f / 12, -1, -4.0f / 12, -0.5f, -2.0f / 12, -0.25f,
};
constexpr std::array<uint8_t, 16> kNf4Order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::array<uint8_t, 16> kFp4Order = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};

/// order: the codes by rising value.
constexpr Bounds4Bit make_bounds(const std::array<float, 16>& values, const std::array<uint8_t, 16>& order) {
  Bounds4Bit bounds{{}, order};
  for (size_t i = 0; i < 15; ++i) bounds.bounds[i] = (values[order[i]] + values[order[i + 1]]) / 2;
  return bounds;
}

constexpr Bounds4Bit kNf4Bounds = make_bounds(kNf4, kNf4Order);
constexpr Bounds4Bit kFp4Bounds = make_bounds(kFp4, kFp4Order);

/// The last block where it is shorter than 64: divided by its absmax, not multiplied.
void quantize_short_block(const Bounds4Bit& to, std::span<const float> values, uint8_t* codes, float& absmax) {
  absmax = 1e-38f;
  for (const float value : values) absmax = std::isnan(value) ? value : std::max(absmax, std::abs(value));
  for (size_t i = 0; i < values.size(); ++i) {
    const float scaled = values[i] / absmax;
    const auto below = std::lower_bound(to.bounds.begin(), to.bounds.end(), scaled) - to.bounds.begin();
    const auto code = to.code[static_cast<size_t>(below)];
    codes[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? code << 4 : codes[i / 2] | code);
  }
}

void require_finite(std::span<const float> values) {
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad != values.end())
    throw Error("value {} of {} is {}, which has no place in a quantized number; the weights are damaged",
                bad - values.begin(), values.size(), *bad);
}

void quantize_absmax(Quantized4Bit& q) {
  double sum = 0;
  for (const float a : q.absmax) sum += a;
  q.absmax_mean = static_cast<float>(sum / static_cast<double>(q.absmax.size()));
  for (float& a : q.absmax) a -= q.absmax_mean;
  q.absmax_codes.resize(q.absmax.size());
  q.absmax_absmax.resize((q.absmax.size() + kAbsmaxBlock - 1) / kAbsmaxBlock);
  quantize_blockwise(signed_dynamic_map(), q.absmax, q.absmax_codes, q.absmax_absmax);
  q.absmax = std::vector<float>();  // and its memory
}

/// block_absmax() of the blocks from `first` on, in a loop that looks nothing up but the codes.
void copy_absmax(const Quantized4Bit& from, int64_t first, std::span<float> out) {
  const auto begin = static_cast<size_t>(first);
  if (!from.doubly_quantized()) {
    std::copy_n(from.absmax.begin() + first, out.size(), out.begin());
    return;
  }
  const DynamicMap& map = signed_dynamic_map();
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = map[from.absmax_codes[begin + i]] * from.absmax_absmax[(begin + i) / kAbsmaxBlock] + from.absmax_mean;
}

template <typename T>
T value_at(const Quantized4Bit& from, int64_t i) {
  const uint8_t two = from.codes[static_cast<size_t>(i / 2)];
  const uint8_t code = i % 2 == 0 ? two >> 4 : two & 15;
  const float value = codebook(from.format)[code] * from.block_absmax(i / kBlock4Bit);
  if constexpr (sizeof(T) == 2)
    return to_bf16(value);
  else
    return value;
}

template <typename T>
void dequantize_range(const Quantized4Bit& from, int64_t first, std::span<T> out, Simd simd) {
  const int64_t end = first + static_cast<int64_t>(out.size());
  if (first < 0 || end > from.elements)
    throw Error("values {} to {} were asked for, of {} quantized ones", first, end, from.elements);
  T* to = out.data();
  int64_t at = first;
  for (; at < end && at % kBlock4Bit != 0; ++at) *to++ = value_at<T>(from, at);
  constexpr int64_t kAtOnce = 64;  // blocks, so that their absmax stay on the stack
  for (int64_t left = (end - at) / kBlock4Bit; left > 0;) {
    const int64_t blocks = std::min(left, kAtOnce);
    float absmax[kAtOnce];
    copy_absmax(from, at / kBlock4Bit, {absmax, static_cast<size_t>(blocks)});
    dequantize_blocks(simd, codebook(from.format), from.codes.data() + at / 2, absmax, blocks, to);
    at += blocks * kBlock4Bit;
    to += blocks * kBlock4Bit;
    left -= blocks;
  }
  for (; at < end; ++at) *to++ = value_at<T>(from, at);
}

}  // namespace

const std::array<float, 16>& codebook(Format4Bit format) {
  return format == Format4Bit::nf4 ? kNf4 : kFp4;
}

float Quantized4Bit::block_absmax(int64_t block) const {
  const auto i = static_cast<size_t>(block);
  if (!doubly_quantized()) return absmax[i];
  return signed_dynamic_map()[absmax_codes[i]] * absmax_absmax[i / kAbsmaxBlock] + absmax_mean;
}

int64_t Quantized4Bit::bytes() const {
  return static_cast<int64_t>(codes.size() + absmax_codes.size() +
                              sizeof(float) * (absmax.size() + absmax_absmax.size() + doubly_quantized()));
}

Quantized4Bit quantize_4bit(std::span<const float> values, Format4Bit format, bool double_quantization,
                            const Loop& loop, Simd simd) {
  if (values.empty()) throw Error("there are no values to quantize");
  Quantized4Bit q{.format = format, .elements = static_cast<int64_t>(values.size())};
  q.codes.resize((values.size() + 1) / 2);
  q.absmax.resize(static_cast<size_t>(q.blocks()));
  const Bounds4Bit& bounds = format == Format4Bit::nf4 ? kNf4Bounds : kFp4Bounds;
  const int64_t whole = q.elements / kBlock4Bit;
  constexpr int64_t kGrain = 4096;  // blocks
  loop(whole, kGrain, [&](int64_t begin, int64_t end) {
    quantize_blocks(simd, bounds, values.data() + begin * kBlock4Bit, end - begin,
                    q.codes.data() + begin * kBlock4Bit / 2, q.absmax.data() + begin);
  });
  if (whole < q.blocks())
    quantize_short_block(bounds, values.subspan(static_cast<size_t>(whole * kBlock4Bit)),
                         q.codes.data() + whole * kBlock4Bit / 2, q.absmax.back());
  if (!std::all_of(q.absmax.begin(), q.absmax.end(), [](float a) { return std::isfinite(a); })) require_finite(values);
  if (double_quantization) quantize_absmax(q);
  return q;
}

void dequantize(const Quantized4Bit& from, int64_t first, std::span<float> out, Simd simd) {
  dequantize_range(from, first, out, simd);
}

void dequantize(const Quantized4Bit& from, int64_t first, std::span<uint16_t> out, Simd simd) {
  dequantize_range(from, first, out, simd);
}

}  // namespace haqa
