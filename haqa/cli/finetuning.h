#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "haqa/base/progress.h"
#include "haqa/cli/task.h"
#include "haqa/finetune/finetune_objective.h"
#include "haqa/report/run_log.h"
#include "haqa/study/study.h"

namespace haqa {

/// The section finetune of a task. Throws UsageError where the task has none, or its agent cannot serve one.
const FinetuneTask& finetune_section(const Task& task);

/// What the objective needs to know of a task, with the memory that is free now.
FinetuneSetup finetune_setup(const FinetuneTask& finetune);

/// "fine-tuning": the space, the value and the static prompt's facts. before: accuracy of the untuned model, as
/// to_json(TaskAccuracies). Source: the paper, appendix E, fine-tuning.
Track finetune_track(const FinetuneObjective& objective, const SearchSpace& space, const Json& before);

/// The fine-tuning of a run, which is all of it or one of its tracks: what is measured before, during and after the
/// rounds. Each measurement is recorded in the run's log when it is done, and not done again.
class Finetuning {
 public:
  /// trials: those of its track that are finished, as the study goes on. All must outlive this. Throws what
  /// FinetuneObjective's constructor does.
  Finetuning(const FinetuneSetup& setup, const SearchSpace& space, RunLog& log, const std::vector<Trial>& trials,
             Progress& progress);

  /// Brings the model to the bit width, where it is not, and measures it untuned. Throws Error where the run goes on
  /// and a file that it reads is not what it was.
  void begin();
  const Track& track() const { return track_; }
  FinetuneObjective& objective() { return objective_; }
  /// After a round: tells of it, and removes what no one needs any more: files of neither the defaults nor the best.
  void finish_round(const Trial& trial);

  const Trial* best() const;  ///< nullptr where no round gave a model
  /// Throws Error that says why, where no round gave a model.
  void require_best() const;
  /// The best, where it answers no worse than the untuned model by the questions that rounds choose by; else nullptr.
  const Trial* improvement() const;
  std::filesystem::path adapter(const Trial& trial) const;
  /// Copies the best round's adapter.gguf and adapter/ into a folder. There must be one.
  void write_adapter(const std::filesystem::path& folder) const;

  /// The accuracy that a step of this name measured, or measures now, unless another one has measured the same; as
  /// to_json(TaskAccuracies).
  Json measured(const std::string& step, const std::filesystem::path& model, const std::filesystem::path& adapter,
                Half half, const std::string& type_k = "f16", const std::string& type_v = "f16");
  /// Of the model as given, in a GGUF type, on the validation half.
  Json untuned(const std::string& gguf_type, const std::filesystem::path& model);
  /// {"track", "base_validation", "trials", "best"}; best is null where no round gave a model.
  Json summary() const;

 private:
  void require_same_inputs();

  RunLog& log_;
  Progress& progress_;
  const std::vector<Trial>& trials_;
  const SearchSpace space_;
  FinetuneObjective objective_;
  Track track_;
  Json before_;
  std::map<std::string, Json> measured_;  ///< accuracies by what they are of
};

}  // namespace haqa
