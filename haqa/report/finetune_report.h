#pragma once
#include <span>
#include <string>
#include <vector>

#include "haqa/report/findings.h"

namespace haqa {

/// Readings of what `haqa finetune` writes to summary.json (docs/finetune.md), and `haqa run` to its member finetune.
/// As in report/report.h, whatever is missing is left out.

/// A row a task and one of their mean, a column for each of what was measured; accuracies in percent ± their standard
/// errors. measured: {"name of the column", {"tasks", "mean", "error"}}.
Table accuracy_table(std::span<const std::pair<std::string, Json>> measured);

/// What came out, in sentences that say where a gain lies within its error: below twice the standard error of the
/// difference, taken as if the two had answered different questions, which is on the careful side.
std::vector<std::string> finetune_answer(const Json& summary);

/// finetune_answer() of a run's fine-tuning; nothing where it has none.
std::vector<std::string> finetune_sentences(const Part& run);

/// Accuracies on held-out questions: of the model as given, and with the adapter; untuned in the bit width; by the
/// defaults; the best, and merged; what is deployed; as far as they were measured.
Table held_out_table(const Part& summary);
/// What a network for images takes as it is deployed: a row each for full precision, the bit widths to choose among and
/// the network that was made; nothing where that was not asked for.
Table deployment_table(const Part& summary);
inline constexpr const char* kDeploymentTitle = "Bit widths as they are deployed, in ONNX Runtime on this machine";
/// A row a round of a fine-tuning.
Table finetune_rounds_table(const Part& summary);
/// What to try next, of the fine-tuning alone: sentences of plain text.
std::vector<std::string> finetune_ideas(const Part& summary);

/// For a terminal: the answer, the accuracies on held-out questions, the rounds, where the files are.
std::string finetune_text(const Json& summary);
/// What to try next, in Markdown.
std::string finetune_suggestions(const Json& summary);

/// The paper's tables 2 and 6: a row a method, a column a task and one of the mean, each the mean ± standard deviation
/// over seeds, in percent, and of how many where it is not of all; without the column of the mean where no outcome has
/// one. outcomes: of each run {"method", "seed", "held_out": {"tasks", "mean"}}; held_out is null where no trial of the
/// run gave a value. Tasks stand in the order in which outcomes have them.
Table methods_table(std::span<const Json> outcomes);
/// The same as CSV: method,seeds and for each task TASK,TASK_sd, then mean,mean_sd; shares from 0 to 1.
std::string methods_csv(std::span<const Json> outcomes);

}  // namespace haqa
