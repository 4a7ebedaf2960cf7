#include "haqa/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "haqa/base/error.h"

namespace haqa {

Schedule schedule_from(std::string_view name) {
  if (name == "constant") return Schedule::constant;
  if (name == "linear") return Schedule::linear;
  if (name == "cosine") return Schedule::cosine;
  throw UsageError("'{}' is no schedule of the learning rate; constant, linear and cosine are", name);
}

double schedule_factor(Schedule schedule, int64_t step, int64_t steps, double warmup_ratio) {
  const auto warmup = static_cast<int64_t>(std::ceil(warmup_ratio * static_cast<double>(steps)));
  if (step < warmup) return static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup));
  const double done = static_cast<double>(step - warmup) / static_cast<double>(std::max<int64_t>(1, steps - warmup));
  switch (schedule) {
    case Schedule::constant:
      return 1;
    case Schedule::linear:
      return std::max(0.0, 1 - done);
    case Schedule::cosine:
      return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * done)));
  }
  return 1;
}

}  // namespace haqa
