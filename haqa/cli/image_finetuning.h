#pragma once
#include "haqa/agent/prompt.h"
#include "haqa/cli/training_rounds.h"
#include "haqa/finetune/image_objective.h"

namespace haqa {

/// "fine-tuning": the space, the value and the static prompt's facts, the core code of quantizer, network and training
/// among them. full, before: accuracies of the model in full precision and quantized without training.
/// Source: the paper, appendix E, fine-tuning.
Track image_track(const ImageObjective& objective, const SearchSpace& space, const Json& full, const Json& before);

/// Quantization-aware training of a network on images.
class ImageFinetuning : public TrainingRounds {
 public:
  /// As TrainingRounds has them. Throws what ImageObjective's constructor does.
  ImageFinetuning(const ImageSetup& setup, const SearchSpace& space, RunLog& log, const std::vector<Trial>& trials,
                  Progress& progress);

  ImageObjective& objective() override { return objective_; }
  /// Measures the model in full precision, and quantized without training.
  void begin() override;

  /// On the images that no round has seen: {"given": in full precision, "base": quantized without training, "defaults",
  /// "best"}.
  Json measure_held_out();

 private:
  ImageObjective objective_;
};

}  // namespace haqa
