#pragma once
#include <filesystem>
#include <functional>
#include <optional>

#include "haqa/base/json.h"
#include "haqa/dataset/examples.h"
#include "haqa/train/trainer.h"

namespace haqa {

/// One training, from files to files.
struct FinetuneJob {
  std::filesystem::path model;     ///< GGUF
  std::filesystem::path examples;  ///< what to learn from (dataset/examples.h)
  std::optional<ExampleForm> form;
  std::filesystem::path folder;  ///< gets what is trained; a checkpoint is there on the way
  size_t context = 512;          ///< tokens of an example, at most
  double validation_share = 0.05;
  double checkpoint_s = 60;  ///< seconds between checkpoints
  int threads = 0;           ///< 0: all cores
  LlamaOptions llama;
  TrainerOptions trainer;
};

/// From a worker's request; docs/finetune.md has its keys. Throws UsageError naming the key that is wrong.
FinetuneJob finetune_job_from(const Json& request);

/// Trains and writes into the job's folder: adapter.gguf (for llama.cpp) and adapter/ (for PEFT), or model.gguf where
/// every weight is trained. Goes on from a checkpoint that an interrupted training left there, which stays: the caller
/// removes it when the result is safe.
/// Returns {"losses": [mean over each twentieth of the steps], "validation_loss", "validation_loss_before", "steps",
/// "resumed_after": those of them that a checkpoint spared, "tokens" and "seconds": of the others, "tokens_per_second",
/// "base_bytes", "trained_parameters", "examples", "validation_examples", "truncated", "dropped", "peak_bytes": the
/// largest memory, but for pages of files, which can be dropped}.
/// Throws Error: no examples, another architecture, no space, divergence.
Json finetune(const FinetuneJob& job, const std::function<void(double)>& progress);

}  // namespace haqa
