#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>

#include "haqa/base/json.h"
#include "haqa/images/augmentation.h"
#include "haqa/vision/image_trainer.h"

namespace haqa {

/// Images and how a network is given them.
struct ImageInput {
  std::filesystem::path images;  ///< folder (images/image_set.h)
  /// Of the images to train on, kept to choose by: the same ones whatever the seed, so that no model that is
  /// trained further has learned from them.
  double validation_share = 0.1;
  Augmentation augmentation;
  bool imagenet_normalization = false;  ///< that of torchvision's pretrained networks; else the images' own
};

/// A training of a ResNet, in full precision or quantized.
struct ImageTraining {
  ImageInput input;
  std::filesystem::path weights;  ///< to begin with; empty: random ones
  std::filesystem::path folder;   ///< gets network.safetensors; a checkpoint is there on the way
  size_t batch = 128;
  double checkpoint_s = 60;  ///< seconds between checkpoints
  int threads = 0;           ///< 0: all cores
  uint64_t seed = 0;         ///< of the order, the augmentation and random weights
  ResNetOptions network;     ///< classes: as many as the images have
  ImageTrainerOptions trainer;
};

/// From a worker's request; docs/images.md has its keys. Throws UsageError naming what is wrong.
ImageTraining image_training_from(const Json& request);

/// Trains and writes network.safetensors into the folder, with what it learned from (images/trained_images.h). Goes on
/// from a checkpoint that an interrupted training left there, which stays: the caller removes it when the result is
/// safe. Returns {"losses", "accuracies", "validation_losses": of each epoch, "accuracy": of the network that is
/// written, "training_images", "validation_images": those that are no damaged ones, "classes", "mean", "deviation": of
/// the pixels, what the network was given being (value from 0 to 1 - mean) / deviation, "resumed_after": epochs that a
/// checkpoint spared, "images" and "seconds": of the others, "images_per_second", "trained_parameters", "skipped":
/// damaged images, "skipped_files": the first of them, "peak_bytes"}. Throws Error: images, weights that do not fit the
/// network, no space, Diverged.
Json train_images(const ImageTraining& training, const std::function<void(double)>& progress);

/// Which images a network is measured on.
enum class ImagePart { validation, test };

/// The weights of a request as they are, on one part. fit: activations are brought into the quantizer's range first, as
/// a training does with a model in full precision.
/// Returns {"accuracy", "loss", "images", "skipped", "skipped_files"}.
Json measure_images(const ImageTraining& training, ImagePart part, bool fit);

/// Writes the network with the weights of a request in ONNX's form, as one that takes pixels from 0 to 1. fit: as in
/// measure_images().
/// Returns what export_checkpoint() does, and "image": channels, height and width.
Json export_network(const ImageTraining& training, const std::filesystem::path& output, bool fit);

/// The same by requests of "command" "train_images", "measure_images" with "part", "validation" or "test", and "fit",
/// and "export_network" with "output" and "fit". Throws what they throw.
Json serve_images(const Json& request, const std::function<void(double)>& progress);

}  // namespace haqa
