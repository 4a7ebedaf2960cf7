#pragma once
#include "haqa/agent/prompt.h"
#include "haqa/cli/training_rounds.h"
#include "haqa/finetune/image_objective.h"

namespace haqa {

/// "fine-tuning": the space, the value and the static prompt's facts, the core code of quantizer, network and training
/// among them. full, before: accuracies of the model in full precision and quantized without training, where bit widths
/// are to choose among at each of them, by its name; deployment: what they take there, null where that was not asked
/// for (cli/network_deployment.h). Source: the paper, appendix E, fine-tuning.
Track image_track(const ImageObjective& objective, const SearchSpace& space, const Json& full, const Json& before,
                  const Json& deployment = nullptr);

/// Quantization-aware training of a network on images.
class ImageFinetuning : public TrainingRounds {
 public:
  /// As TrainingRounds has them. Throws what ImageObjective's constructor does.
  ImageFinetuning(const ImageSetup& setup, const SearchSpace& space, RunLog& log, const std::vector<Trial>& trials,
                  Progress& progress);

  ImageObjective& objective() override { return objective_; }
  /// Measures the model in full precision, and quantized without training; before that, where it was asked for, what it
  /// takes deployed at each bit width. The track's space has those that keep the limits.
  void begin() override;

  /// On the images that no round has seen: {"given": in full precision, "base": quantized without training, "defaults",
  /// "best"}.
  Json measure_held_out();

  /// Of the best round.
  LayerBits best_bits() const { return objective_.bits_of(best()->configuration); }
  /// {"runtime", "threads", "candidates", "best"}: what networks take where they are deployed, the best one by its
  /// file; null where that was not asked for.
  Json measure_deployment(const std::filesystem::path& best_file);

 private:
  Json accuracy_untuned(const LayerBits& bits);

  ImageObjective objective_;
  Json deployment_;
};

}  // namespace haqa
