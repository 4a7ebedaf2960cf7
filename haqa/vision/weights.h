#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "haqa/images/trained_images.h"
#include "haqa/vision/resnet.h"

namespace haqa {

/// The tensors of a file: safetensors, or what torch.save() wrote of a model's state_dict(), alone or in a dictionary
/// under "state_dict", "model", "net" or the like.
/// Throws Error: no such file, damaged, another format.
std::map<std::string, torch::Tensor> read_tensors(const std::filesystem::path& file);

/// What a file of weights holds of its network.
struct Weights {
  std::filesystem::path file;
  std::map<std::string, torch::Tensor> tensors;  ///< by torchvision's names
  std::optional<Quantization> quantization;      ///< as save_weights() noted it, as well as
  std::optional<TrainedImages> images;           ///< what it learned from
};
/// Takes torchvision's names and those of the common CIFAR repositories (linear for fc, shortcut for downsample), each
/// behind "module." and the like or not.
/// Throws Error: no such file, damaged, another format, two names for the same tensor.
Weights read_weights(const std::filesystem::path& file);

/// Kind, shortcut and classes, by names and shapes. Throws Error: no ResNet that is known here.
ResNetOptions network_of(const Weights& weights);
/// Whether their note says that they are to be quantized, as they were in training.
bool is_quantized(const Weights& weights);
/// Whether they have PACT's bounds.
bool has_clips(const Weights& weights);

/// Throws Error that lists what the file lacks, what it has beside the network's, what has another shape, and what is
/// not finite or of a negative variance; nothing is taken then. Counts of batches may be missing, and of weights that
/// were not quantized PACT's bounds.
void load_weights(ResNet& network, const Weights& weights);
/// The same of a file. Throws what read_weights() throws too.
void load_weights(ResNet& network, const std::filesystem::path& file);

/// Writes weights and running statistics as safetensors that load_weights() and torchvision take, and beside them how
/// the network is quantized and what it learned from: whole or not at all. Throws Error (no space).
void save_weights(const ResNet& network, const std::filesystem::path& file,
                  const std::optional<TrainedImages>& images = std::nullopt);

}  // namespace haqa
