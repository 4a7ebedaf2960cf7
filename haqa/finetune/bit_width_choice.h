#pragma once
#include <span>
#include <string>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/finetune/image_setup.h"
#include "haqa/space/search_space.h"

namespace haqa {

/// The parameter of a configuration that says how many bits weights and activations have.
inline constexpr const char* kBitWidth = "bit_width";
/// The name of full precision beside those of bit widths.
inline constexpr const char* kFloats = "fp32";

/// The space with `bit_width` before its parameters, the first one as the default; the same where there are none.
/// Throws UsageError where it has a parameter of that name.
SearchSpace with_bit_width(const SearchSpace& space, std::span<const LayerBits> bit_widths);

/// What bit widths take where they are deployed is told in rows {"bit_width", "bytes", "latency_ms": {"median", ...},
/// "memory_bytes"}; that of full precision is no choice.

/// Which limits a row breaks, in words; empty where it keeps all. What was not measured keeps every limit.
std::string broken_limits(const Json& row, const DeploymentLimits& limits);
/// Of the rows those that keep the limits. Throws Error with the figures of all rows where there is none.
std::vector<LayerBits> within_limits(const Json& rows, const DeploymentLimits& limits);

}  // namespace haqa
