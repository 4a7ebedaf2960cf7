#pragma once
#include "haqa/cli/task.h"
#include "haqa/finetune/finetune_objective.h"
#include "haqa/study/study.h"

namespace haqa {

/// The section finetune of a task. Throws UsageError where the task has none, or its agent cannot serve one.
const FinetuneTask& finetune_section(const Task& task);

/// What the objective needs to know of a task, with the memory that is free now.
FinetuneSetup finetune_setup(const FinetuneTask& finetune);

/// "fine-tuning": the space, the value and the static prompt's facts. before: accuracy of the untuned model, as
/// to_json(TaskAccuracies); null: not known. Source: the paper, appendix E, fine-tuning.
Track finetune_track(const FinetuneSetup& setup, const SearchSpace& space, const FinetuneObjective& objective,
                     const Json& before);

/// "round 3: accuracy 61.04 ± 1.10 %, ...: learning_rate 0.0003 [expert]"
std::string describe_finetune(const Trial& trial, const Configuration& defaults);

}  // namespace haqa
