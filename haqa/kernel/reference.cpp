#include "haqa/kernel/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include "haqa/base/error.h"

namespace haqa {
namespace {

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// What all references stand on: the inputs' places and the row in hand.
class Rows : public Reference {
 public:
  Rows(const KernelSpec& spec, std::span<const TensorShape> shapes, std::span<const std::byte* const> inputs)
      : shapes_(shapes.begin(), shapes.end()), inputs_(inputs.begin(), inputs.end()) {
    for (const auto& [name, value] : spec.scalars) scalars_.push_back(value);
  }
  void begin_row(int64_t row) override {
    const TensorShape& out = shapes_.back();
    i1_ = row % out.ne[1];
    i2_ = row / out.ne[1];
  }

 protected:
  const std::byte* row_of(size_t input, int64_t i1, int64_t i2) const {
    return inputs_[input] + i1 * shapes_[input].nb[1] + i2 * shapes_[input].nb[2];
  }
  /// Of the row in hand.
  double value(size_t input, int64_t column) const { return load<float>(row_of(input, i1_, i2_) + column * 4); }
  int64_t width() const { return shapes_.back().ne[0]; }

  std::vector<TensorShape> shapes_;
  std::vector<const std::byte*> inputs_;
  std::vector<double> scalars_;
  int64_t i1_ = 0, i2_ = 0;
};

class Softmax : public Rows {
 public:
  using Rows::Rows;
  void begin_row(int64_t row) override {
    Rows::begin_row(row);
    largest_ = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < width(); ++i) largest_ = std::max(largest_, value(0, i));
    sum_ = 0;
    for (int64_t i = 0; i < width(); ++i) sum_ += std::exp(value(0, i) - largest_);
  }
  Expected at(int64_t column) override { return {std::exp(value(0, column) - largest_) / sum_, 0}; }

 private:
  double largest_ = 0, sum_ = 0;
};

double silu(double x) {
  return x / (1 + std::exp(-x));
}

class Silu : public Rows {
 public:
  using Rows::Rows;
  Expected at(int64_t column) override { return {silu(value(0, column)), 0}; }
};

class Swiglu : public Rows {
 public:
  using Rows::Rows;
  Expected at(int64_t column) override { return {silu(value(0, column)) * value(1, column), 0}; }
};

class RmsNorm : public Rows {
 public:
  using Rows::Rows;
  void begin_row(int64_t row) override {
    Rows::begin_row(row);
    double squares = 0;
    for (int64_t i = 0; i < width(); ++i) squares += value(0, i) * value(0, i);
    factor_ = 1 / std::sqrt(squares / static_cast<double>(width()) + scalars_.at(0));
  }
  Expected at(int64_t column) override { return {value(0, column) * factor_ * weight(column), 0}; }

 private:
  /// One vector for all rows, where there is one.
  double weight(int64_t column) const { return inputs_.size() > 1 ? load<float>(inputs_[1] + column * 4) : 1; }
  double factor_ = 0;
};

/// Neighbouring pairs turned by their token's position, as LLaMA does. Source: Su et al. 2021, section 3.2.
class Rope : public Rows {
 public:
  using Rows::Rows;
  Expected at(int64_t column) override {
    const int64_t pair = column / 2;
    const double position = load<int32_t>(inputs_[1] + i2_ * 4);
    const double angle =
        position * std::pow(scalars_.at(0), -2.0 * static_cast<double>(pair) / static_cast<double>(width()));
    const double a = value(0, 2 * pair), b = value(0, 2 * pair + 1);
    const double turned =
        column % 2 == 0 ? a * std::cos(angle) - b * std::sin(angle) : a * std::sin(angle) + b * std::cos(angle);
    return {turned, std::hypot(a, b)};
  }
};

class Matmul : public Rows {
 public:
  using Rows::Rows;
  bool is_product() const override { return true; }
  void begin_row(int64_t row) override {
    Rows::begin_row(row);
    right_.resize(static_cast<size_t>(shapes_[1].ne[0]));
    left_.resize(right_.size());
    decode_row(ElementType::f32, row_of(1, row, 0), right_);
    norm_ = norm(right_);
    largest_.assign(right_.size() / kBlock, 0);
    for (size_t i = 0; i < largest_.size() * kBlock; ++i)
      largest_[i / kBlock] = std::max(largest_[i / kBlock], std::abs(right_[i]));
  }
  Expected at(int64_t column) override {
    decode_row(shapes_[0].type, row_of(0, column, 0), left_);
    double sum = 0;
    for (size_t i = 0; i < left_.size(); ++i) sum += left_[i] * right_[i];
    const bool has_blocks = block_length(shapes_[0].type) > 1;
    return {sum, has_blocks ? rounded_scale() : norm(left_) * norm_ / std::sqrt(static_cast<double>(left_.size()))};
  }

 private:
  static constexpr size_t kBlock = 32;

  /// Beside quantized weights activations are rounded to 8 bits, block by block in steps of the largest / 127: what
  /// they may be off follows from the blocks' largest. Half of it is about a block's deviation, where it is normal.
  double rounded_scale() const {
    double squares = 0;
    for (size_t block = 0; block < largest_.size(); ++block) {
      const double part = norm(std::span(left_).subspan(block * kBlock, kBlock)) * largest_[block];
      squares += part * part;
    }
    return std::sqrt(squares) / 2;
  }

  static double norm(std::span<const double> values) {
    double squares = 0;
    for (const double v : values) squares += v * v;
    return std::sqrt(squares);
  }
  std::vector<double> left_, right_, largest_;
  double norm_ = 0;
};

/// Each head's queries with the keys of the group's head, softmax with the mask, and that much of each value: ggml's
/// FLASH_ATTN_EXT. A query that sees nothing gets zeros, as there. Source: Dao et al. 2022, equation 1.
class Attention : public Rows {
 public:
  using Rows::Rows;
  int64_t row_products() const override { return shapes_[1].ne[1] * (shapes_[1].ne[0] + shapes_[2].ne[0]); }
  void begin_row(int64_t row) override {
    Rows::begin_row(row);
    const int64_t head = i1_, query = i2_, kv_head = head / (shapes_.back().ne[1] / shapes_[1].ne[2]);
    const auto d = static_cast<size_t>(shapes_[1].ne[0]), kv = static_cast<size_t>(shapes_[1].ne[1]);
    std::vector<double> q(d), k(d), weights(kv);
    decode_row(ElementType::f32, row_of(0, query, head), q);
    for (size_t j = 0; j < kv; ++j) {
      decode_row(shapes_[1].type, row_of(1, static_cast<int64_t>(j), kv_head), k);
      weights[j] = std::inner_product(q.begin(), q.end(), k.begin(), 0.0) * scalars_.at(0) + masked(query, j);
    }
    const double spread = deviation(weights);
    to_shares(weights);
    const auto width = static_cast<size_t>(shapes_[2].ne[0]);
    std::vector<double> v(width);
    sums_.assign(width, 0);
    std::vector<double> seen(width), parts(width), shares(width);
    double squares = 0;
    for (size_t j = 0; j < kv; ++j) {
      const double p = weights[j];
      if (p == 0) continue;
      decode_row(shapes_[2].type, row_of(2, static_cast<int64_t>(j), kv_head), v);
      squares += p * p;
      for (size_t i = 0; i < width; ++i) {
        sums_[i] += p * v[i];
        seen[i] += p * v[i] * v[i];
        parts[i] += p * p * v[i] * v[i];
        shares[i] += p * p * v[i];
      }
    }
    scales_.resize(width);
    for (size_t i = 0; i < width; ++i) {
      const double sum = sums_[i], moved = parts[i] - 2 * sum * shares[i] + sum * sum * squares;
      scales_[i] = block_length(shapes_[1].type) > 1 ? std::sqrt(parts[i]) + spread * std::sqrt(std::max(0.0, moved))
                                                     : std::sqrt(seen[i]);
    }
  }
  /// The scale is what the values are like that the query looks at. Where queries may be rounded to 8 bits each share
  /// is off by a part of the scores' deviation, and what an output is off by is what the shares move it by.
  Expected at(int64_t column) override {
    const auto i = static_cast<size_t>(column);
    return {sums_[i], scales_[i]};
  }

 private:
  /// Of the scores that are not masked.
  static double deviation(const std::vector<double>& scores) {
    double n = 0, sum = 0, squares = 0;
    for (const double s : scores)
      if (std::isfinite(s)) n += 1, sum += s, squares += s * s;
    return n > 0 ? std::sqrt(std::max(0.0, squares / n - sum / n * (sum / n))) : 0;
  }
  double masked(int64_t query, size_t j) const {
    return inputs_.size() > 3 ? half_to_double(load<uint16_t>(row_of(3, query, 0) + 2 * j)) : 0;
  }
  static void to_shares(std::vector<double>& weights) {
    const double largest = *std::max_element(weights.begin(), weights.end());
    if (std::isinf(largest)) return weights.assign(weights.size(), 0);
    double sum = 0;
    for (double& w : weights) sum += w = std::exp(w - largest);
    for (double& w : weights) w /= sum;
  }
  std::vector<double> sums_, scales_;
};

using Maker = std::function<std::unique_ptr<Reference>(const KernelSpec&, std::span<const TensorShape>,
                                                       std::span<const std::byte* const>)>;

template <typename R>
std::unique_ptr<Reference> make(const KernelSpec& spec, std::span<const TensorShape> shapes,
                                std::span<const std::byte* const> inputs) {
  return std::make_unique<R>(spec, shapes, inputs);
}

/// What an input is beside the output.
enum class Role {
  alike,      ///< of its shape
  columns,    ///< a number for each of its columns
  positions,  ///< one for each of its slices, whose rows are turned in pairs
  left,       ///< a row for each of its columns
  right,      ///< a row, as long as the left's, for each of its rows
  queries,    ///< of its shape with the last two dimensions exchanged
  cache,      ///< rows as long as its, of heads that some of its share
  mask        ///< a row in half precision for each query
};

struct Known {
  Maker make;
  std::vector<Role> inputs;
  size_t scalars = 0;
};

const std::map<std::string, Known>& references() {
  static const std::map<std::string, Known> all = {
      {"softmax", {make<Softmax>, {Role::alike}}},
      {"silu", {make<Silu>, {Role::alike}}},
      {"swiglu", {make<Swiglu>, {Role::alike, Role::alike}}},
      {"rms_norm", {make<RmsNorm>, {Role::alike}, 1}},
      {"rms_norm_mul", {make<RmsNorm>, {Role::alike, Role::columns}, 1}},
      {"rope", {make<Rope>, {Role::alike, Role::positions}, 1}},
      {"matmul", {make<Matmul>, {Role::left, Role::right}}},
      {"attention", {make<Attention>, {Role::queries, Role::cache, Role::cache, Role::mask}, 1}}};
  return all;
}

bool suits(Role role, const TensorShape& input, const TensorShape& left, const TensorShape& out) {
  const auto is = [&](int64_t ne0, int64_t ne1, int64_t ne2) {
    return input.ne[0] == ne0 && input.ne[1] == ne1 && input.ne[2] == ne2;
  };
  const bool is_float = input.type == ElementType::f32;
  switch (role) {
    case Role::alike:
      return is_float && is(out.ne[0], out.ne[1], out.ne[2]);
    case Role::columns:
      return is_float && is(out.ne[0], 1, 1);
    case Role::positions:
      return input.type == ElementType::i32 && is(out.ne[2], 1, 1) && out.ne[0] % 2 == 0;
    case Role::left:
      return input.type != ElementType::i32 && is(input.ne[0], out.ne[0], 1);
    case Role::right:
      return is_float && is(left.ne[0], out.ne[1], 1) && out.ne[2] == 1;
    case Role::queries:
      return is_float && is(out.ne[0], out.ne[2], out.ne[1]);
    case Role::cache:
      return input.type != ElementType::i32 && input.ne[0] == out.ne[0] && out.ne[1] % input.ne[2] == 0;
    case Role::mask:
      return input.type == ElementType::f16 && input.ne[1] == out.ne[2] && input.ne[2] == 1;
  }
  return false;
}

int byte_at(const std::byte* at, int64_t i) {
  return load<uint8_t>(at + i);
}

void decode_q8_0(const std::byte* at, std::span<double> out) {
  for (size_t i = 0; i < 32; ++i) out[i] = half_to_double(load<uint16_t>(at)) * load<int8_t>(at + 2 + i);
}

int nibble(const std::byte* bytes, size_t i) {
  return i < 16 ? load<uint8_t>(bytes + i) & 15 : load<uint8_t>(bytes + i - 16) >> 4;
}

void decode_q4_0(const std::byte* at, std::span<double> out) {
  for (size_t i = 0; i < 32; ++i) out[i] = half_to_double(load<uint16_t>(at)) * (nibble(at + 2, i) - 8);
}

void decode_iq4_nl(const std::byte* at, std::span<double> out) {
  constexpr int kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  for (size_t i = 0; i < 32; ++i) out[i] = half_to_double(load<uint16_t>(at)) * kValues[nibble(at + 2, i)];
}

/// Eight times 32: scale and minimum of 6 bits each, the upper two of the second four apart.
void decode_q4_k(const std::byte* at, std::span<double> out) {
  const double scale = half_to_double(load<uint16_t>(at)), least = half_to_double(load<uint16_t>(at + 2));
  for (int64_t i = 0; i < 256; ++i) {
    const int64_t part = i / 32;
    const auto six = [&](int64_t kind) {  // 0: scales, 4: minima
      if (part < 4) return byte_at(at, 4 + kind + part) & 63;
      const int low = kind == 0 ? byte_at(at, 8 + part) & 15 : byte_at(at, 8 + part) >> 4;
      return low | byte_at(at, kind + part) >> 6 << 4;
    };
    const int pair = byte_at(at, 16 + i / 64 * 32 + i % 32);
    out[static_cast<size_t>(i)] = scale * six(0) * (part % 2 ? pair >> 4 : pair & 15) - least * six(4);
  }
}

/// Twice 128: four bits of each, two further bits, and a scale for each 16.
void decode_q6_k(const std::byte* at, std::span<double> out) {
  const double scale = half_to_double(load<uint16_t>(at + 208));
  for (int64_t i = 0; i < 256; ++i) {
    const int64_t half = i / 128, part = i % 128 / 32;
    const int four = byte_at(at, half * 64 + i % 64) >> (part < 2 ? 0 : 4) & 15;
    const int two = byte_at(at, 128 + half * 32 + i % 32) >> (2 * part) & 3;
    out[static_cast<size_t>(i)] = scale * load<int8_t>(at + 192 + i / 16) * ((two << 4 | four) - 32);
  }
}

void decode_blocks(ElementType type, void (*decode)(const std::byte*, std::span<double>), const std::byte* row,
                   std::span<double> out) {
  const auto length = static_cast<size_t>(block_length(type));
  for (size_t i = 0; i < out.size(); i += length, row += row_bytes(type, block_length(type)))
    decode(row, out.subspan(i, length));
}

}  // namespace

double half_to_double(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 31  ? (fraction ? std::numeric_limits<double>::quiet_NaN() : INFINITY)
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

uint16_t double_to_half(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::abs(value);
  if (magnitude == 0) return sign;
  const int exponent = std::max(-14, std::ilogb(magnitude));
  const double units = std::nearbyint(std::ldexp(magnitude, 10 - exponent));  // 1024 to 2048, less where subnormal
  return static_cast<uint16_t>(sign + (exponent + 14) * 1024 + static_cast<int>(units));
}

void decode_row(ElementType type, const std::byte* row, std::span<double> out) {
  switch (type) {
    case ElementType::f32:
      for (size_t i = 0; i < out.size(); ++i) out[i] = load<float>(row + 4 * i);
      return;
    case ElementType::i32:
      for (size_t i = 0; i < out.size(); ++i) out[i] = load<int32_t>(row + 4 * i);
      return;
    case ElementType::f16:
      for (size_t i = 0; i < out.size(); ++i) out[i] = half_to_double(load<uint16_t>(row + 2 * i));
      return;
    case ElementType::bf16:
      for (size_t i = 0; i < out.size(); ++i)
        out[i] = std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(row + 2 * i)) << 16);
      return;
    case ElementType::q8_0:
      return decode_blocks(type, decode_q8_0, row, out);
    case ElementType::q4_0:
      return decode_blocks(type, decode_q4_0, row, out);
    case ElementType::q4_k:
      return decode_blocks(type, decode_q4_k, row, out);
    case ElementType::q6_k:
      return decode_blocks(type, decode_q6_k, row, out);
    case ElementType::iq4_nl:
      return decode_blocks(type, decode_iq4_nl, row, out);
  }
}

size_t reference_inputs(const std::string& name) {
  return references().at(name).inputs.size();
}

size_t reference_scalars(const std::string& name) {
  return references().at(name).scalars;
}

std::optional<size_t> misfit(const std::string& name, std::span<const TensorShape> shapes) {
  const std::vector<Role>& roles = references().at(name).inputs;
  for (size_t i = 0; i < roles.size(); ++i)
    if (!suits(roles[i], shapes[i], shapes[0], shapes.back())) return i;
  return shapes.back().type == ElementType::f32 ? std::nullopt : std::optional(roles.size());
}

bool is_reference(const std::string& name) {
  return references().contains(name);
}

std::vector<std::string> reference_names() {
  std::vector<std::string> names;
  for (const auto& [name, known] : references()) names.push_back(name);
  return names;
}

std::unique_ptr<Reference> make_reference(const KernelSpec& spec, std::span<const TensorShape> shapes,
                                          std::span<const std::byte* const> inputs) {
  const auto at = references().find(spec.reference);
  if (at == references().end()) throw Error("there is no reference {}", spec.reference);
  return at->second.make(spec, shapes, inputs);
}

}  // namespace haqa
