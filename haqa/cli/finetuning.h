#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "haqa/base/progress.h"
#include "haqa/cli/task.h"
#include "haqa/cli/training_rounds.h"
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

/// The fine-tuning of a language model in a run, which is all of it or one of its tracks.
class Finetuning : public TrainingRounds {
 public:
  /// As TrainingRounds has them. Throws what FinetuneObjective's constructor does.
  Finetuning(const FinetuneSetup& setup, const SearchSpace& space, RunLog& log, const std::vector<Trial>& trials,
             Progress& progress);

  FinetuneObjective& objective() override { return objective_; }
  /// Brings the model to the bit width, where it is not, and measures it untuned.
  void begin() override;

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

 private:
  FinetuneObjective objective_;
  std::map<std::string, Json> measured_;  ///< accuracies by what they are of
};

}  // namespace haqa
