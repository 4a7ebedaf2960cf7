#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/finetune/image_setup.h"
#include "haqa/finetune/training_objective.h"
#include "haqa/images/trained_images.h"

namespace haqa {

/// What a folder of images holds, as far as a training depends on it.
struct ImageCounts {
  std::vector<std::string> classes;
  size_t training = 0, validation = 0, test = 0;
  std::string fingerprint;  ///< of the images to train on (images/trained_images.h)
};
/// Throws UsageError: images that cannot be read, nothing to choose by or to learn from.
ImageCounts count_images(const ImageSetup& setup);

/// What a file of weights says of the images that its network learned from; nothing where it does not. Throws Error
/// where what it says is damaged.
std::optional<TrainedImages> trained_images_of(const std::filesystem::path& weights);

/// Throws UsageError where the setup's model learned from some of the images that are kept to choose by.
void check_held_back(const ImageSetup& setup, const ImageCounts& counts);

/// "3 damaged images left out, the first: FILE: reason", as haqa-train told it; empty where there are none.
std::string describe_skipped(const Json& told);

/// count_images(), once the model is there and has not learned from those to choose by, and the names and ranges of the
/// space, which has no bit widths, are those of a training on these images by the setup's method. Throws Error or
/// UsageError that names the file or the parameter.
ImageCounts check_image_training(const ImageSetup& setup, const SearchSpace& space);

/// Trains a quantized network on images from a model in full precision with one configuration and measures it on the
/// images that are kept to choose by. Value: the share that it knows, after the last epoch.
/// Source: the paper, section 4.1, DoReFa on CIFAR-10.
class ImageObjective : public TrainingObjective {
 public:
  /// folder: gets networks/. progress: called with what is done and its share. The space, with the setup's bit widths
  /// where there are some to choose among, names the folders of trials.
  /// Throws what check_image_training() throws.
  ImageObjective(ImageSetup setup, const SearchSpace& space, std::filesystem::path folder,
                 std::function<void(std::string_view what, double share)> progress = {});

  const ImageSetup& setup() const { return setup_; }
  const ImageCounts& counts() const { return counts_; }

  /// Of the model in full precision.
  Json full_precision(Half half) const;
  /// Of the model with its weights and activations quantized and nothing learned: at the setup's bits, or others.
  Json untuned(Half half) override { return untuned(setup_.bits, half); }
  Json untuned(const LayerBits& bits, Half half) const;
  Json tuned(const Configuration& configuration, Half half) override;
  /// Those that the configuration chooses, or the setup's.
  LayerBits bits_of(const Configuration& configuration) const;
  /// Writes the model, quantized without training, or what a training with the configuration made, in ONNX's form.
  /// Returns {"image": [channels, height, width], ...} as haqa-train does.
  Json export_untuned(const LayerBits& bits, const std::filesystem::path& file) const;
  Json export_tuned(const Configuration& configuration, const std::filesystem::path& file) const;

  std::string trained_file() const override { return "network.safetensors"; }
  Json fingerprints() const override;

 private:
  Json request(const Configuration& configuration) const override;
  Outcome measure(const Configuration& configuration) override;
  Json request_at(const std::filesystem::path& weights, const LayerBits& bits, bool fit) const;
  Json measured(Json request, Half half) const;
  Json exported(Json request, const std::filesystem::path& file) const;

  const ImageSetup setup_;
  const ImageCounts counts_;
};

}  // namespace haqa
