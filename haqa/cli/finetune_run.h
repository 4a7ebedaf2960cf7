#pragma once
#include <memory>
#include <string>

#include "haqa/cli/task.h"
#include "haqa/cli/training_rounds.h"

namespace haqa {

/// A run of haqa finetune, from a task to what its tuning gives. Every step that takes time is recorded in the run's
/// log when it is done.
class FinetuneRun {
 public:
  virtual ~FinetuneRun() = default;
  /// Returns summary.json. command: what the user typed.
  Json run(const std::string& command);

 protected:
  /// All must outlive it.
  FinetuneRun(const Task& task, RunLog& log, Progress& progress);

  virtual TrainingRounds& rounds() = 0;
  /// Of the best round.
  virtual void write_files() = 0;
  /// {"base": accuracies, "best": ...} on what no round has seen, once each, when the choice is made: what one looks at
  /// again and again is chosen by.
  virtual Json measure_held_out() = 0;
  /// {"model", "files", ...}: what the summary says besides.
  virtual Json description() = 0;

  const Task& task_;
  const FinetuneTask& finetune_;
  RunLog& log_;
  Progress& progress_;
  const SearchSpace space_;  ///< of the task's file

 private:
  void tune();
  Json summarize(const std::string& command, const Json& held_out);
};

/// The run that the task's method asks for. Throws what the objectives' constructors do.
std::unique_ptr<FinetuneRun> make_finetune_run(const Task& task, RunLog& log, Progress& progress);

/// Throws Error or UsageError where the task's fine-tuning lacks something that it reads.
void check_finetune_task(const FinetuneTask& finetune, const SearchSpace& space);

/// Of language models and of networks for images.
std::unique_ptr<FinetuneRun> make_llama_run(const Task& task, RunLog& log, Progress& progress);
std::unique_ptr<FinetuneRun> make_image_run(const Task& task, RunLog& log, Progress& progress);

}  // namespace haqa
