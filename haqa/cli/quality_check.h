#pragma once
#include <filesystem>
#include <functional>
#include <string>

#include "haqa/base/progress.h"
#include "haqa/cli/task.h"
#include "haqa/model/model_info.h"
#include "haqa/report/run_log.h"

namespace haqa {

/// What GGUF types and types of the KV cache lose against the file given, by perplexity and KL divergence. Each is
/// measured once in a run, by its log.
class QualityCheck {
 public:
  /// model_file: the file of a GGUF type, quantized if need be. threads: 0: all. All must outlive this.
  QualityCheck(const Task& task, const ModelInfo& model, RunLog& log, Progress& progress, int threads,
               std::function<std::filesystem::path(const std::string& gguf_type)> model_file)
      : task_(task),
        model_(model),
        log_(log),
        progress_(progress),
        threads_(threads),
        model_file_(std::move(model_file)) {}

  Json reference();
  /// {"perplexity", "perplexity_ratio", "perplexity_ratio_error", "kl_divergence", "same_top", "tokens"}, and
  /// "refused": why it is more than the task allows, where it is. Throws WorkerError where the model does not run.
  Json loss(const std::string& gguf_type, const std::string& type_k, const std::string& type_v);

 private:
  std::filesystem::path reference_file() const;
  Json request(const char* command) const;

  const Task& task_;
  const ModelInfo& model_;
  RunLog& log_;
  Progress& progress_;
  const int threads_;
  const std::function<std::filesystem::path(const std::string&)> model_file_;
};

}  // namespace haqa
