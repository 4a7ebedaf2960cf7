#pragma once
#include "haqa/tasks/multiple_choice.h"
#include "haqa/tokenizer/tokenizer.h"
#include "haqa/train/llama.h"

namespace haqa {

/// The model in training, asked the questions of the tasks (evaluate/llama_scorer.h asks the file that will ship).
class TrainingScorer : public Scorer {
 public:
  /// Both must outlive it. batch_tokens: computed at once, but for a request that is longer alone.
  TrainingScorer(Llama& llama, const Tokenizer& tokenizer, int64_t batch_tokens = 2048)
      : llama_(llama), tokenizer_(tokenizer), batch_tokens_(batch_tokens) {}
  std::vector<Score> score(std::span<const Request> requests, const std::function<void(double)>& progress) override;

 private:
  Llama& llama_;
  const Tokenizer& tokenizer_;
  const int64_t batch_tokens_;
};

}  // namespace haqa
