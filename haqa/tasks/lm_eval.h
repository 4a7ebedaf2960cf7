#pragma once
#include <span>
#include <string>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/tasks/multiple_choice.h"

namespace haqa {

/// A task's questions and what came of them.
struct TaskRun {
  EvaluationTask task;
  std::vector<Item> items;
  size_t n_rows = 0;  ///< of the file, before the part and the limit were taken
  TaskResult result;
};

/// How the model was run, for lm-eval's "config".
struct RunFacts {
  std::string model, adapter;
  double adapter_scale = 1;
  std::string part = "all";
  int limit = 0;  ///< 0: none
  int max_length = 0;
  double seconds = 0;
};

/// Results as lm-eval 0.4.13 writes them to results_*.json, so that programs that read those read ours. "haqa_version"
/// says who wrote it, and the keys that describe Python's libraries are absent.
/// Source: lm-eval 0.4.13, result_schema.py, EvalResults; evaluator_utils.py.
Json lm_eval_results(std::span<const TaskRun> runs, const RunFacts& facts);

/// Items as lm-eval writes them to samples_*.jsonl, one a line; log-likelihoods are numbers, not texts, and the
/// data set's row ("doc") and the hashes are absent: "doc_id" and the arguments say which it is. "task" names the task.
std::vector<Json> lm_eval_samples(const TaskRun& run);

}  // namespace haqa
