#include "haqa/finetune/bit_width_choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"

namespace haqa {
namespace {

std::optional<double> latency_of(const Json& row) {
  const Json latency = row.value("latency_ms", Json());
  return latency.is_object() ? std::optional(latency.at("median").get<double>()) : std::nullopt;
}

std::optional<uint64_t> memory_of(const Json& row) {
  const Json memory = row.value("memory_bytes", Json());
  return memory.is_number() ? std::optional(memory.get<uint64_t>()) : std::nullopt;
}

std::string figures(const Json& row) {
  std::vector<std::string> all = {format_bytes(row.at("bytes").get<uint64_t>())};
  if (const auto ms = latency_of(row)) all.push_back(fmt::format("{:.3g} ms", *ms));
  if (const auto memory = memory_of(row)) all.push_back(fmt::format("{} of memory", format_bytes(*memory)));
  return fmt::format("{} {}", row.at(kBitWidth).get<std::string>(), fmt::join(all, " and "));
}

std::string words_of(const DeploymentLimits& limits) {
  std::vector<std::string> words;
  if (limits.file_bytes) words.push_back(fmt::format("file_limit {}", format_bytes(*limits.file_bytes)));
  if (limits.latency_ms) words.push_back(fmt::format("latency_limit_ms {}", *limits.latency_ms));
  if (limits.memory_bytes)
    words.push_back(fmt::format("inference_memory_limit {}", format_bytes(*limits.memory_bytes)));
  return fmt::format("{}", fmt::join(words, ", "));
}

}  // namespace

SearchSpace with_bit_width(const SearchSpace& space, std::span<const LayerBits> bit_widths) {
  if (bit_widths.empty()) return space;
  std::vector<Json> names;
  for (const LayerBits& bits : bit_widths) names.push_back(to_string(bits));
  std::vector<Parameter> parameters = {
      categorical_parameter(kBitWidth, names, names.front(), "Bits of weights and of activations: w4a8 has 4 and 8.")};
  for (const Parameter& p : space.parameters()) {
    if (p.name == kBitWidth)
      throw UsageError("the search space has '{}', which finetune.{} gives as a list; take it out of one of them",
                       kBitWidth, kBitWidth);
    parameters.push_back(p);
  }
  return SearchSpace(std::move(parameters), space.constraints());
}

std::string broken_limits(const Json& row, const DeploymentLimits& limits) {
  std::vector<std::string> broken;
  const auto bytes = row.at("bytes").get<uint64_t>();
  const auto ms = latency_of(row);
  if (limits.file_bytes && bytes > *limits.file_bytes)
    broken.push_back(fmt::format("its file of {} is larger than file_limit {}", format_bytes(bytes),
                                 format_bytes(*limits.file_bytes)));
  if (limits.latency_ms && ms && *ms > *limits.latency_ms)
    broken.push_back(
        fmt::format("an image takes it {:.3g} ms, more than latency_limit_ms {}", *ms, *limits.latency_ms));
  const auto memory = memory_of(row);
  if (limits.memory_bytes && memory && *memory > *limits.memory_bytes)
    broken.push_back(fmt::format("running it takes {} of memory, more than inference_memory_limit {}",
                                 format_bytes(*memory), format_bytes(*limits.memory_bytes)));
  return fmt::format("{}", fmt::join(broken, "; "));
}

std::vector<LayerBits> within_limits(const Json& rows, const DeploymentLimits& limits) {
  std::vector<LayerBits> within;
  std::vector<std::string> all;
  for (const Json& row : rows) {
    all.push_back(figures(row));
    if (row.at(kBitWidth) != kFloats && broken_limits(row, limits).empty())
      within.push_back(layer_bits_from(row.at(kBitWidth).get<std::string>()));
  }
  if (within.empty())
    throw Error("no bit width keeps the limits ({}): {}; raise them, or allow others in finetune.{}", words_of(limits),
                fmt::join(all, ", "), kBitWidth);
  return within;
}

}  // namespace haqa
