#include "haqa/kernel/device_variant.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/kernel/checks.h"

namespace haqa {
namespace {

constexpr uint64_t kPage = 4096;

std::vector<std::string> texts_of(const std::vector<Expression>& expressions) {
  std::vector<std::string> texts;
  for (const Expression& e : expressions) texts.push_back(e.text());
  return texts;
}

/// The parameters, and the names in the shape, which are found where an argument's size is just a name.
Json numbers_of(const DeviceVariant& variant, const Control& control) {
  Json numbers = variant.parameters;
  for (size_t i = 0; i < variant.sizes.size(); ++i) {
    const TensorShape& shape = i + 1 == variant.sizes.size() ? control.out : control.in[i];
    for (size_t d = 0; d < variant.sizes[i].size(); ++d) numbers[variant.sizes[i][d]] = shape.ne[d];
  }
  return numbers;
}

size_t whole(const std::string& text, const Json& numbers) {
  const auto value = Expression(text).number(numbers);
  if (!value || !(*value >= 1 && *value <= 1e9) || *value != std::floor(*value))
    throw Error("'{}' is no whole number of at least 1", text);
  return static_cast<size_t>(*value);
}

int32_t narrowed(int64_t value) {
  if (value < 0 || value > std::numeric_limits<int32_t>::max())
    throw Error("a tensor's {} does not fit 32 bits", value);
  return static_cast<int32_t>(value);
}

DeviceTensor device_tensor(const TensorShape& shape) {
  DeviceTensor t;
  for (size_t d = 0; d < 3; ++d) {
    t.ne[d] = narrowed(shape.ne[d]);
    t.nb[d] = narrowed(shape.nb[d]);
  }
  return t;
}

template <typename Place>
MemoryRange range_of(const Control& control, uint64_t bytes, uint64_t margin, Place place) {
  uint64_t first = std::numeric_limits<uint64_t>::max(), last = 0;
  for (uint32_t l = 0; l < control.launches; ++l) {
    first = std::min<uint64_t>(first, place(control.places[l]));
    last = std::max<uint64_t>(last, place(control.places[l]));
  }
  const uint64_t from = (first - margin) / kPage * kPage;
  return {from, last + bytes + margin - from};
}

}  // namespace

DeviceVariant device_variant(const KernelSpec& spec, const KernelEngine& engine, const SourceVariant& variant,
                             const std::string& prelude) {
  DeviceVariant v{prelude,
                  variant.source,
                  macros_of(variant),
                  variant.options,
                  variant.parameters,
                  {},
                  texts_of(engine.problem_size),
                  texts_of(engine.block)};
  for (const KernelArgument& a : spec.arguments) v.sizes.push_back(texts_of(a.size));
  return v;
}

void write_device_variant(const DeviceVariant& variant, const std::filesystem::path& file) {
  const Json json = {
      {"prelude", variant.prelude},           {"source", variant.source}, {"macros", variant.macros},
      {"options", variant.options},           {"sizes", variant.sizes},   {"parameters", variant.parameters},
      {"problem_size", variant.problem_size}, {"block", variant.block}};
  write_file(file, json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

DeviceVariant read_device_variant(const std::filesystem::path& file) {
  const Json json = read_json(file);
  DeviceVariant v;
  json.at("prelude").get_to(v.prelude);
  json.at("source").get_to(v.source);
  json.at("macros").get_to(v.macros);
  json.at("options").get_to(v.options);
  v.parameters = json.at("parameters");
  json.at("sizes").get_to(v.sizes);
  json.at("problem_size").get_to(v.problem_size);
  json.at("block").get_to(v.block);
  return v;
}

Geometry geometry_of(const DeviceVariant& variant, const Control& control) {
  const Json numbers = numbers_of(variant, control);
  Geometry g;
  for (size_t d = 0; d < 3; ++d) {
    if (d < variant.block.size()) g.block[d] = whole(variant.block[d], numbers);
    const size_t items = d < variant.problem_size.size() ? whole(variant.problem_size[d], numbers) : 1;
    g.global[d] = (items + g.block[d] - 1) / g.block[d] * g.block[d];
  }
  return g;
}

DeviceShape device_shape(const Control& control) {
  DeviceShape shape;
  for (uint32_t i = 0; i < control.inputs; ++i) shape.in[i] = device_tensor(control.in[i]);
  shape.out = device_tensor(control.out);
  return shape;
}

MemoryRange input_range(const Control& control, uint32_t i) {
  return range_of(control, static_cast<uint64_t>(control.in[i].bytes()), 0,
                  [i](const LaunchPlace& place) { return place.in[i]; });
}

MemoryRange output_range(const Control& control) {
  return range_of(control, static_cast<uint64_t>(control.out.bytes()), kMargin,
                  [](const LaunchPlace& place) { return place.out; });
}

std::string build_messages(const std::string& log) {
  static const std::regex folders(R"((/[^\s/:'"]+)+/)");
  std::string text = printable(std::regex_replace(log, folders, ""));
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  return shortened(text, 900);
}

}  // namespace haqa
