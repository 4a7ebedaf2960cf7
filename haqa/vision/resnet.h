#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/vision/normalization.h"

namespace haqa {

enum class ResNetKind {
  resnet20,  ///< for images of CIFAR's size: 16, 32 and 64 channels, three blocks of two convolutions each
  resnet32,  ///< the same with five blocks
  resnet50,  ///< for images of ImageNet's size: bottlenecks, striding in their 3 x 3 convolution (v1.5)
};
/// "resnet20", "resnet32" or "resnet50". Throws UsageError that lists them.
ResNetKind resnet_kind_from(std::string_view name);
std::string_view name_of(ResNetKind kind);

/// What the input of a block that changes the shape goes through on its way past: every other place, and channels of
/// zeros before and behind (option A), or a convolution and a normalization (option B).
enum class Shortcut { a, b };

struct ResNetOptions {
  ResNetKind kind = ResNetKind::resnet20;
  Shortcut shortcut = Shortcut::a;  ///< of ResNet20 and ResNet32; ResNet50 has option B always
  int64_t classes = 10;
  Quantization quantization;
  double pact_clip = 10;                ///< PACT's bounds with random weights, as its authors have it
  at::ScalarType compute = at::kFloat;  ///< of products and activations: kFloat or kBFloat16
  at::Device device = at::kCPU;
  uint64_t seed = 0;  ///< of the first weights
};

/// A ResNet in full precision or quantized; weights in float32 always. Sources: He et al. 2015; torchvision's
/// resnet.py, whose names of tensors it keeps: conv1, bn1, layer1.0.conv1, layer1.0.downsample.0, fc; and act1.clip and
/// the like for PACT's bounds, fc.clip for what the last layer reads.
class ResNet {
 public:
  /// With random weights. Throws UsageError for options out of range.
  explicit ResNet(const ResNetOptions& options);

  /// [n, classes] floats. training: normalized by the batch's statistics, which go into the running ones.
  torch::Tensor logits(const torch::Tensor& images, bool training);

  /// Fits the quantizer to the activations of a model that was trained in full precision, by the bounds with the least
  /// error of quantization on these images. PACT's bounds begin there. DoReFa's is 1: the normalizations before its
  /// activations are divided by the bounds, and what reads them makes up for it, so that in full precision the network
  /// computes what it did; activations that pass each other in shortcuts share one. Nothing is done where activations
  /// are not quantized.
  void fit_activations(const torch::Tensor& images);

  /// What it consists of.
  struct Convolution {
    std::string name;
    torch::Tensor weight;
    int64_t stride = 1, padding = 0;
    int bits = kFullPrecision;
  };
  struct Unit {  ///< a convolution, its normalization and its activation
    Convolution convolution;
    BatchNorm norm;
    ActivationLayer activation;
  };
  struct Block {
    std::vector<Unit> units;
    std::vector<Unit> projection;  ///< one, or none
    bool padded = false;           ///< option A
  };

  const ResNetOptions& options() const { return options_; }
  const Unit& stem() const { return stem_.front(); }
  const std::vector<Block>& blocks() const { return blocks_; }
  /// What is trained, by name.
  const std::map<std::string, torch::Tensor>& parameters() const { return parameters_; }
  /// The running statistics, by name.
  const std::map<std::string, torch::Tensor>& buffers() const { return buffers_; }

 private:
  /// Activations of one bound: the normalizations that write them, and those that follow what reads them.
  struct Range {
    std::vector<BatchNorm> writers, readers;
    std::vector<size_t> activations;  ///< in the order in which they are computed
  };

  torch::Tensor parameter(const std::string& name, torch::Tensor values);
  Convolution convolution(const std::string& name, int64_t in, int64_t out, int64_t size, int64_t stride, int bits);
  BatchNorm batch_norm(const std::string& name, int64_t channels);
  ActivationLayer activation(const std::string& name);
  Block block(const std::string& name, int64_t in, int64_t width, int64_t stride);
  void build();
  std::vector<Range> ranges() const;
  /// Numbers of each activation in full precision, in the order in which they are computed, and of what fc reads.
  std::vector<torch::Tensor> observed(const torch::Tensor& images) const;
  void fit_clips(const std::vector<torch::Tensor>& samples) const;
  void fit_norms(const std::vector<torch::Tensor>& samples) const;

  Activations through(const Unit& unit, const torch::Tensor& x, double scale,
                      const std::optional<Activations>& shortcut, bool training) const;
  Activations through(const Block& block, const Activations& x, bool training) const;

  const ResNetOptions options_;
  at::Generator random_;
  std::map<std::string, torch::Tensor> parameters_, buffers_;
  std::vector<Unit> stem_;
  std::vector<Block> blocks_;
  torch::Tensor fc_weight_, fc_bias_;
  ActivationLayer fc_activation_;                  ///< of what the last layer reads, where that is quantized
  std::vector<torch::Tensor>* samples_ = nullptr;  ///< while activations are observed: gets some numbers of each
};

}  // namespace haqa
