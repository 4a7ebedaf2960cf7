#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "haqa/evaluate/llama_handles.h"
#include "haqa/tasks/multiple_choice.h"
#include "haqa/tokenizer/tokenizer.h"

namespace haqa {

/// Loads models, so it runs in haqa-infer, never in the coordinator.

struct LlamaScorerOptions {
  std::filesystem::path model;    ///< GGUF
  std::filesystem::path adapter;  ///< GGUF LoRA for this model; empty: none
  double adapter_scale = 1;       ///< of what the adapter adds
  int threads = 0;                ///< 0: all cores
  int max_length = 0;             ///< tokens read at most; 0: the model's training context
  int batch_tokens = 512;         ///< computed at once
  std::string type_k = "f16", type_v = "f16";
  std::string flash_attention = "auto";
};

/// What scoring took.
struct ScoringWork {
  size_t requests = 0, truncated = 0;
  size_t tokens = 0;        ///< that the model computed
  size_t tokens_apart = 0;  ///< what it would have been with each request alone
};

/// A GGUF, with a LoRA adapter or without, through llama.cpp: the file that will ship, by the program that will run it.
/// Many requests are decoded at once as sequences of one batch, and what several share is computed once
/// (tasks/prefix_batches.h); logits are computed only where a continuation is scored.
class LlamaScorer : public Scorer {
 public:
  /// Throws Error: no model, no vocabulary, an adapter for another model, options that llama.cpp does not know.
  explicit LlamaScorer(const LlamaScorerOptions& options);

  /// Throws Error: llama.cpp fails, or the model computes NaN.
  std::vector<Score> score(std::span<const Request> requests, const std::function<void(double)>& progress) override;

  /// Tokens that the model reads at most.
  int max_length() const { return options_.max_length; }
  /// Of the last score().
  const ScoringWork& work() const { return work_; }

 private:
  struct FreeAdapter {
    void operator()(llama_adapter_lora* adapter) const { llama_adapter_lora_free(adapter); }
  };
  LlamaContext make_context(int n_tokens, int n_sequences) const;

  LlamaScorerOptions options_;
  Tokenizer tokenizer_;
  LlamaModel model_;
  std::unique_ptr<llama_adapter_lora, FreeAdapter> adapter_;  // after model_, as it must be freed before it
  ScoringWork work_;
};

}  // namespace haqa
