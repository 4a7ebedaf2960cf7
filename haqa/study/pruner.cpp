#include "haqa/study/pruner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>

#include "haqa/base/error.h"
#include "haqa/base/stats.h"

namespace haqa {
namespace {

bool better(Direction direction, double a, double b) {
  return direction == Direction::maximize ? a > b : a < b;
}

std::optional<double> best_until(const Trial& trial, int step, Direction direction) {
  std::optional<double> best;
  for (const Intermediate& i : trial.intermediate)
    if (i.step <= step && (!best || better(direction, i.value, *best))) best = i.value;
  return best;
}

/// The first value at a step or after it.
std::optional<double> value_from(const Trial& trial, int step) {
  for (const Intermediate& i : trial.intermediate)
    if (i.step >= step) return i.value;
  return std::nullopt;
}

}  // namespace

bool MedianPruner::hopeless(Direction direction, std::span<const Trial> trials, const Trial& running) const {
  if (running.intermediate.empty()) return false;
  const int step = running.intermediate.back().step;
  if (step < warmup_) return false;
  std::vector<double> others;
  for (const Trial& t : trials)
    if (t.state == TrialState::complete)
      for (const Intermediate& i : t.intermediate)
        if (i.step == step) others.push_back(i.value);
  if (others.empty() || static_cast<int>(others.size()) < startup_) return false;
  return better(direction, median(others), *best_until(running, step, direction));
}

AshaPruner::AshaPruner(int resource, int reduction) : resource_(resource), reduction_(reduction) {
  if (resource < 1 || reduction < 2) throw std::invalid_argument("successive halving needs a resource and a reduction");
}

bool AshaPruner::hopeless(Direction direction, std::span<const Trial> trials, const Trial& running) const {
  if (running.intermediate.empty()) return false;
  // Only at the step that reaches a rung: between rungs nothing is decided.
  const int step = running.intermediate.back().step;
  const size_t n = running.intermediate.size();
  const int before = n > 1 ? running.intermediate[n - 2].step : std::numeric_limits<int>::min();
  for (int64_t rung = resource_; rung <= step; rung *= reduction_) {
    if (before >= rung) continue;
    std::vector<double> values = {running.intermediate.back().value};
    for (const Trial& t : trials)
      if (const auto value = value_from(t, static_cast<int>(rung)); value && t.number != running.number)
        values.push_back(*value);
    const double own = values.front();
    std::sort(values.begin(), values.end(), [&](double a, double b) { return better(direction, a, b); });
    const size_t promoted = std::max<size_t>(1, values.size() / static_cast<size_t>(reduction_));
    if (better(direction, values[promoted - 1], own)) return true;
  }
  return false;
}

std::unique_ptr<Pruner> make_pruner(const std::string& name) {
  if (name == "none") return nullptr;
  if (name == "median") return std::make_unique<MedianPruner>();
  if (name == "asha") return std::make_unique<AshaPruner>();
  throw UsageError("'{}' is no pruner; choose none, median or asha", name);
}

}  // namespace haqa
