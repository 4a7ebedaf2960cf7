#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/progress.h"
#include "haqa/finetune/training_objective.h"
#include "haqa/report/run_log.h"
#include "haqa/study/study.h"

namespace haqa {

/// What an objective tells of its work (finetune/training_objective.h), as progress, which must outlive it.
std::function<void(std::string_view what, double share)> shown_by(Progress& progress);

/// The rounds of a fine-tuning, whatever it trains: what is measured before, during and after them. Each measurement is
/// recorded in the run's log when it is done, and not done again.
class TrainingRounds {
 public:
  virtual ~TrainingRounds() = default;

  virtual TrainingObjective& objective() = 0;
  /// What is to be done before the first round. Throws Error where the run goes on and a file that it reads is not what
  /// it was.
  virtual void begin() = 0;
  /// Once begun.
  const Track& track() const { return track_; }
  /// After a round: tells of it, and removes what no one needs any more: files of neither the defaults nor the best.
  void finish_round(const Trial& trial);

  const Trial* best() const;  ///< nullptr where no round gave a model
  /// Throws Error that says why, where no round gave a model.
  void require_best() const;
  /// {"track", "base_validation", "trials", "best"}; best is null where no round gave a model.
  Json summary() const;

 protected:
  /// trials: those of its track that are finished, as the study goes on. All must outlive this.
  TrainingRounds(const SearchSpace& space, RunLog& log, const std::vector<Trial>& trials, Progress& progress)
      : log_(log), progress_(progress), trials_(trials), space_(space) {}

  /// A ranking of rounds is of one model, one set of data and the same questions.
  void require_same_inputs();
  /// The accuracies {"tasks", "mean", "error"} that a step of this name measured, or measures now.
  Json accuracy_of(const std::string& step, const std::function<Json()>& measure);

  RunLog& log_;
  Progress& progress_;
  const std::vector<Trial>& trials_;
  const SearchSpace space_;
  Track track_;
  Json before_;  ///< of the untuned model
};

}  // namespace haqa
