#pragma once
#include <filesystem>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "haqa/study/study.h"
#include "haqa/worker/worker.h"

namespace haqa {

/// What accuracies are of: what rounds choose by, or what the report is of, which no round has seen.
enum class Half { validation, held_out };

/// A hyperparameter that a training takes: numbers, or whole ones, from `low` to below a bound.
struct Hyperparameter {
  std::string_view name;
  bool whole = false;
  double low = 0, below = 0;
};
inline constexpr double kAny = std::numeric_limits<double>::infinity();
inline constexpr double kAboveZero = std::numeric_limits<double>::min();

/// Throws UsageError that names the parameter: one that the training has not, or that may get a value it does not take.
void check_hyperparameters(const SearchSpace& space, std::span<const Hyperparameter> known);

/// Ends of the range, or all choices.
std::vector<Json> values_within(const Parameter& parameter);

/// Six digits behind the point, as shares are written down.
double rounded(double value);

/// A training in the worker haqa-train as an objective, whatever it trains; its value is an accuracy, from 0 to 1. What
/// a training gives is kept in a folder of its own.
class TrainingObjective : public Objective {
 public:
  /// A training that was killed goes on from its checkpoint; one that is finished is not done again. What failed is not
  /// tried again and leaves nothing. A full disk is no fault of a configuration: NoSpaceError ends the study.
  Outcome evaluate(const Configuration& configuration, const Report& report = {}) final;

  /// Where a configuration's training leaves what it made.
  std::filesystem::path trained_folder(const Configuration& configuration) const;
  /// Removes all of these but those of the configurations, trained with this or another seed.
  void keep_only(std::span<const Configuration> configurations) const;
  /// Of trainings from now on.
  void use_seed(uint64_t seed) { seed_ = seed; }
  uint64_t seed() const { return seed_; }

  /// Accuracies as {"tasks", "mean", "error"}: of the model without training, and of what a training with the
  /// configuration made, which must be there. Throws Error, WorkerError.
  virtual Json untuned(Half half) = 0;
  virtual Json tuned(const Configuration& configuration, Half half) = 0;
  /// The file in trained_folder() that tuned() measures.
  virtual std::string trained_file() const = 0;
  /// {"/path/to/file": "1f...", ...}: what tells whether a file that the training reads is still the same.
  virtual Json fingerprints() const = 0;

 protected:
  /// trained: gets the folders of trainings, which the space names. progress: called with what is done and its share.
  TrainingObjective(const SearchSpace& space, std::filesystem::path trained, const WorkerLimits& limits, uint64_t seed,
                    std::function<void(std::string_view what, double share)> progress);

  /// The worker's request, and what becomes of the training.
  virtual Json request(const Configuration& configuration) const = 0;
  virtual Outcome measure(const Configuration& configuration) = 0;

  /// What the worker told of the training, kept beside its files: a kill during what follows costs no second training.
  Json train(const Configuration& configuration);
  void tell(std::string_view what, double share) const;

  const SearchSpace space_;

 private:
  const std::filesystem::path trained_;
  const WorkerLimits limits_;
  uint64_t seed_;
  const std::function<void(std::string_view, double)> progress_;
};

/// The outcome of a configuration that was not trained or gave nothing.
Outcome failure(FailReason reason, std::string message);

/// Losses of a training as the agent is told them.
Json told_losses(const Json& losses);

}  // namespace haqa
