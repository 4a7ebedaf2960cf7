#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// Bits of weights and of activations; 32 are full precision.
struct LayerBits {
  int weights = 4, activations = 4;
  bool operator==(const LayerBits&) const = default;
};
inline constexpr LayerBits kUnquantized = {32, 32};
/// Of a name such as "w4a4" or "w8a32". Throws UsageError for other forms and for bits that are not from 1 to 32.
LayerBits layer_bits_from(std::string_view name);
std::string to_string(const LayerBits& bits);

/// What a network may take where it is deployed: as an ONNX file, in ONNX Runtime on this machine.
struct DeploymentLimits {
  std::optional<uint64_t> file_bytes;
  std::optional<double> latency_ms;      ///< of one image
  std::optional<uint64_t> memory_bytes;  ///< to load it and run it, beside ONNX Runtime's own
  bool any() const { return file_bytes || latency_ms || memory_bytes; }
};

/// What every training of a network on images shares.
struct ImageSetup {
  std::filesystem::path model;   ///< weights in full precision, safetensors or PyTorch's; empty: random ones
  std::filesystem::path images;  ///< folder (images/image_set.h)
  std::string network = "resnet20";
  std::string shortcut = "a";
  std::string method = "dorefa";  ///< "dorefa" or "pact"
  LayerBits bits;
  std::vector<LayerBits> bit_widths;   ///< to choose among in each round, `bits` first; empty: nothing is to choose
  DeploymentLimits limits;             ///< which every bit width that is tried keeps
  std::string scaling = "pretrained";  ///< of weights: "pretrained" or "original"
  bool first_layer = false, last_layer = false;
  double validation_share = 0.1;  ///< of the images to train on, by which rounds choose
  bool flip = true;
  int padding = 4;
  std::string normalization = "images";  ///< or "imagenet"
  std::string optimizer = "sgd", schedule = "cosine";
  bool nesterov = false, decay_norms = true;
  double warmup_epochs = 0, label_smoothing = 0, ema_decay = 0;
  std::string device = "cpu", compute = "fp32";
  double timeout_s = 0;                  ///< of one training; 0: none
  int threads = 0;                       ///< 0: all cores
  std::optional<uint64_t> memory_limit;  ///< bytes a training may take, on the CPU
  uint64_t seed = 1;

  /// The bit widths that rounds may choose, or the one that they have.
  std::vector<LayerBits> choices() const { return bit_widths.empty() ? std::vector{bits} : bit_widths; }
  /// Whether what the deployed network takes is asked for.
  bool weighs_deployment() const { return !bit_widths.empty() || limits.any(); }
};

/// The setup's part of what haqa-train is asked: everything but "command", "folder" and "configuration".
Json image_request(const ImageSetup& setup);

}  // namespace haqa
