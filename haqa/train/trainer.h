#pragma once
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "haqa/dataset/batches.h"
#include "haqa/dataset/token_examples.h"
#include "haqa/train/adamw.h"
#include "haqa/train/checkpoint.h"
#include "haqa/train/llama.h"
#include "haqa/train/schedule.h"

namespace haqa {

/// The paper's search space of QLoRA (appendix E), its defaults, and what goes with it.
struct TrainerOptions {
  double learning_rate = 4e-4;
  size_t batch = 8;         ///< examples computed at once or, packed, rows of them
  size_t length = 512;      ///< tokens of a packed row
  size_t accumulation = 8;  ///< batches whose gradients are added up before a step
  int64_t steps = 400;
  double max_grad_norm = 0.3;
  double warmup_ratio = 0.03;
  Schedule schedule = Schedule::constant;
  Grouping grouping = Grouping::by_length;
  AdamWOptions adamw;
  uint64_t seed = 0;  ///< of the order of the examples and of the dropout
};

/// The examples laid one after another. Tokens behind the last one that counts are left out, as nothing learns of them.
TokenBatch token_batch(std::span<const TokenExample> examples, std::span<const size_t> chosen, at::Device device);

/// Trains a model on examples. What it does depends on the options, the examples and the number of steps done alone:
/// a training that goes on from a checkpoint comes to the numbers of one that was never interrupted.
class Trainer {
 public:
  /// The model and the examples must outlive it. Throws UsageError for options out of range.
  Trainer(Llama& llama, std::span<const TokenExample> examples, const TrainerOptions& options);

  struct Step {
    int64_t number = 0;  ///< from 1
    double loss = 0;     ///< mean over the tokens that count, in nats
    double grad_norm = 0, learning_rate = 0;
    int64_t tokens = 0;  ///< computed
  };
  /// One step of the optimizer. Throws Error where the loss is no number any more: the training has diverged.
  Step step();
  bool finished() const { return done_ >= options_.steps; }
  int64_t steps_done() const { return done_; }

  /// Mean loss over examples, without dropout.
  double loss(std::span<const TokenExample> examples);

  /// Writes the trained weights, the optimizer's states and the number of steps: whole or not at all.
  void save(const std::filesystem::path& file) const;
  /// Throws DamagedCheckpoint, before anything is taken from it, and Error where the file belongs to another model or
  /// other options.
  void load(const std::filesystem::path& file);

 private:
  Step take_step();
  const std::vector<size_t>& batch(uint64_t number);
  std::string identity() const;

  Llama& llama_;
  const std::span<const TokenExample> examples_;
  const TrainerOptions options_;
  AdamW adamw_;
  int64_t done_ = 0;
  uint64_t epoch_ = UINT64_MAX;  ///< that of plan_
  EpochPlan plan_;
};

}  // namespace haqa
