#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/finetune/finetune_setup.h"
#include "haqa/finetune/training_memory.h"
#include "haqa/finetune/training_objective.h"
#include "haqa/model/model_info.h"
#include "haqa/study/study.h"

namespace haqa {

struct Evaluation;

/// The model's information, once all that a fine-tuning reads is found readable and in order: the model, that it is at
/// least as wide as the bit width and can be trained, the examples, the questions of both halves of each task, and the
/// names and ranges of the space.
/// Throws Error or UsageError that names the file and line, or the parameter.
ModelInfo check_finetune(const FinetuneSetup& setup, const SearchSpace& space);

/// {"/path/model.gguf": "1f...", ...}: what tells whether a file that the fine-tuning reads is still the same: of the
/// model the beginning of each tensor, of the examples and the tasks' questions all of it. Throws Error.
Json input_fingerprints(const FinetuneSetup& setup);

/// {"boolq": {"accuracy": 0.61, "error": 0.02}, ...}: acc_norm where the task has it, else acc, with its standard
/// error (null for a single question); and the mean over the tasks.
struct TaskAccuracies {
  Json tasks = Json::object();
  double mean = 0, error = 0;
};
TaskAccuracies accuracies(const Evaluation& evaluation);
/// {"tasks", "mean", "error"}, rounded to six digits.
Json to_json(const TaskAccuracies& accuracies);

/// Format of the frozen weights while adapters are trained (train/frozen_matrix.h): "nf4_double" for int4, "int8" for
/// int8, "gguf", as they are, for fp16, and for int8 on a GPU, where LLM.int8's products are not.
std::string training_base(const FinetuneSetup& setup);

/// Fine-tunes a model by QLoRA with one configuration and measures what would ship: the model in its bit width
/// (int4: Q4_0, int8: Q8_0, fp16: F16, unless the setup names another type) with the adapter, beside it or merged, by
/// llama.cpp, on one half of the tasks' questions (tasks/task.h, ItemPart).
/// Value: the mean accuracy over the tasks, from 0 to 1. Source: the paper, section 4.1.
class FinetuneObjective : public TrainingObjective {
 public:
  /// folder: gets models/ and adapters/. progress: called with what is done and its share. The space names the folders
  /// of trials. Throws what check_finetune() throws.
  FinetuneObjective(FinetuneSetup setup, const SearchSpace& space, std::filesystem::path folder,
                    std::function<void(std::string_view what, double share)> progress = {});

  const FinetuneSetup& setup() const { return setup_; }
  const ModelInfo& model() const { return model_; }
  size_t n_examples() const { return n_examples_; }
  /// Whether they are texts to learn whole, which are divided where they are long; else those are cut.
  bool plain_texts() const { return plain_texts_; }
  std::string gguf_type() const;
  /// The model in the bit width, quantized where it is not there yet. Throws Error (no space), WorkerError.
  std::filesystem::path base();
  /// The model as it was given with a configuration's adapter in its weights, quantized to a type, where that file is
  /// not there yet: in adapter_folder(). The training must be finished. Throws Error (no space), WorkerError.
  std::filesystem::path merged(const Configuration& configuration, const std::string& gguf_type) const;
  /// Of a model with an adapter; an empty one: none. type_k, type_v: of the KV cache. Throws Error, WorkerError.
  TaskAccuracies accuracy(const std::filesystem::path& model, const std::filesystem::path& adapter, Half half,
                          const std::string& type_k = "f16", const std::string& type_v = "f16") const;

  /// Where a configuration's adapter.gguf and adapter/ are kept, and what it is merged into.
  std::filesystem::path adapter_folder(const Configuration& configuration) const {
    return trained_folder(configuration);
  }
  Json untuned(Half half) override;
  Json tuned(const Configuration& configuration, Half half) override;
  std::string trained_file() const override { return "adapter.gguf"; }
  Json fingerprints() const override;

  /// What a training with this configuration needs; nothing where it fits, else why it does not.
  TrainingMemory memory(const Configuration& configuration) const;
  std::optional<std::string> too_large(const Configuration& configuration) const;

 private:
  Json request(const Configuration& configuration) const override;
  Outcome measure(const Configuration& configuration) override;

  const FinetuneSetup setup_;
  const std::filesystem::path folder_;
  ModelInfo model_;
  size_t n_examples_ = 0;
  bool plain_texts_ = false;
  std::vector<int64_t> lengths_;  ///< of the sequences to train on, in tokens, estimated; the longest first
};

}  // namespace haqa
