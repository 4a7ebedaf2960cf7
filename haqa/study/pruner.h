#pragma once
#include <memory>
#include <string>

#include "haqa/study/study.h"

namespace haqa {

/// Gives up a trial whose best value so far is worse than the median of what the complete trials had at that step.
/// Source: Golovin et al. 2017, Google Vizier, section 3.2.2 (the median stopping rule), with the values themselves, as
/// Optuna has it, instead of their running averages.
class MedianPruner : public Pruner {
 public:
  /// Nothing is given up before `startup` trials are complete, nor before step `warmup`.
  explicit MedianPruner(int startup = 3, int warmup = 0) : startup_(startup), warmup_(warmup) {}
  bool hopeless(Direction direction, std::span<const Trial> trials, const Trial& running) const override;

 private:
  int startup_, warmup_;
};

/// Asynchronous successive halving: at each rung (step resource, resource * reduction, resource * reduction^2, ...) a
/// trial goes on where it is among the best 1/reduction of those that came that far.
/// Source: Li et al. 2020, A system for massively parallel hyperparameter tuning, algorithm 2.
class AshaPruner : public Pruner {
 public:
  /// resource from 1, reduction from 2. Throws std::invalid_argument.
  explicit AshaPruner(int resource = 1, int reduction = 3);
  bool hopeless(Direction direction, std::span<const Trial> trials, const Trial& running) const override;

 private:
  int resource_, reduction_;
};

/// "median" or "asha"; nullptr for "none". Throws UsageError for another name.
std::unique_ptr<Pruner> make_pruner(const std::string& name);

}  // namespace haqa
