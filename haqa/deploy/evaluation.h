#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "haqa/tasks/lm_eval.h"

namespace haqa {

struct EvaluationRequest {
  std::filesystem::path model;    ///< GGUF
  std::filesystem::path adapter;  ///< GGUF LoRA; empty: none
  double adapter_scale = 1;
  std::vector<EvaluationTask> tasks;
  std::filesystem::path data;  ///< folder with TASK.jsonl for each task
  ItemPart part = ItemPart::all;
  int limit = 0;       ///< the first of each task's part; 0: all
  int threads = 0;     ///< 0: all cores
  int max_length = 0;  ///< tokens the model reads at most; 0: its training context
  std::string type_k = "f16", type_v = "f16";
  std::string flash_attention = "auto";
  double timeout_s = 0;  ///< 0: none
};

struct Evaluation {
  std::vector<TaskRun> runs;
  RunFacts facts;
  size_t requests = 0;
  size_t truncated = 0;     ///< requests whose context was cut at its beginning
  size_t tokens = 0;        ///< computed
  size_t tokens_apart = 0;  ///< that there would have been without sharing
  MeanAccuracy mean() const;
};

/// The file with a task's rows. Throws Error that says how to get one that is missing.
std::filesystem::path rows_of(const EvaluationTask& task, const std::filesystem::path& data);

/// Scores a GGUF on multiple-choice tasks, in the worker haqa-infer. Every file is read and checked before the model
/// is. Throws Error (a file that is missing, named with how to get it, or broken), WorkerError.
Evaluation evaluate_model(const EvaluationRequest& request, const std::function<void(double)>& progress = {});

}  // namespace haqa
