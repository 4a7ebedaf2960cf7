#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "haqa/vision/resnet.h"

namespace haqa {

/// The tensors of a file: safetensors, or what torch.save() wrote of a model's state_dict(), alone or in a dictionary
/// under "state_dict", "model", "net" or the like.
/// Throws Error: no such file, damaged, another format.
std::map<std::string, torch::Tensor> read_tensors(const std::filesystem::path& file);

/// What a file of weights says of its network.
struct WeightsFile {
  ResNetOptions options;                     ///< kind, shortcut and classes, by names and shapes
  bool has_clips = false;                    ///< PACT's bounds
  std::optional<Quantization> quantization;  ///< as save_weights() noted it
};
/// Throws Error: no such file, damaged, another format, no ResNet that is known here.
WeightsFile describe_weights(const std::filesystem::path& file);

/// Takes the weights of a file under torchvision's names or those of the common CIFAR repositories (linear for fc,
/// shortcut for downsample), each with or without a "module." before it. new_classes: the last layer keeps its own
/// weights. Throws Error that lists what the file lacks, what it has beside the network's, and what has another shape;
/// nothing is taken then. PACT's bounds and counts of batches may be missing, as models without quantization have none.
void load_weights(ResNet& network, const std::filesystem::path& file, bool new_classes = false);

/// Writes weights and running statistics as safetensors that load_weights() and torchvision take, and beside them how
/// the network is quantized: whole or not at all. Throws Error (no space).
void save_weights(const ResNet& network, const std::filesystem::path& file);

}  // namespace haqa
