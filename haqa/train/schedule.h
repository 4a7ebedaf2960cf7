#pragma once
#include <cstdint>
#include <string_view>

namespace haqa {

/// How the learning rate goes on after the warm-up. `constant` is what transformers calls constant_with_warmup: its own
/// "constant" has no warm-up, whatever warmup_ratio says.
enum class Schedule { constant, linear, cosine };

/// "constant", "linear" or "cosine". Throws UsageError that lists them.
Schedule schedule_from(std::string_view name);

/// What the learning rate is multiplied with at a step, counted from 0, of `steps`: it rises linearly over the first
/// ceil(warmup_ratio * steps) steps from 0, then stays, or falls to 0 in a line or in half a cosine.
/// Source: transformers, get_constant_schedule_with_warmup and its kin in optimization.py.
double schedule_factor(Schedule schedule, int64_t step, int64_t steps, double warmup_ratio);

}  // namespace haqa
