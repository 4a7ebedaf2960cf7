#include "haqa/vision/resnet.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

/// Every other place of x, between channels of zeros up to `channels`.
struct PaddedShortcut : Function<PaddedShortcut> {
  static Tensor forward(AutogradContext* context, const Tensor& x, int64_t channels, int64_t stride) {
    context->saved_data["sizes"] = x.sizes().vec();
    context->saved_data["stride"] = stride;
    const Tensor places = taken(x, stride);
    Tensor out = at::empty({x.size(0), channels, places.size(2), places.size(3)}, x.options(), kLast).zero_();
    inner(out, x.size(1)).copy_(places);
    return out;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto sizes = context->saved_data["sizes"].toIntVector();
    Tensor dx = at::empty(sizes, gradients[0].options(), kLast).zero_();
    taken(dx, context->saved_data["stride"].toInt()).copy_(inner(gradients[0], sizes[1]));
    return {dx, Tensor(), Tensor()};
  }

  static Tensor taken(const Tensor& x, int64_t stride) {
    return x.slice(2, 0, x.size(2), stride).slice(3, 0, x.size(3), stride);
  }
  static Tensor inner(const Tensor& wide, int64_t channels) {
    return wide.narrow(1, (wide.size(1) - channels) / 2, channels);
  }
};

/// Numbers from all over activations, for their distribution.
Tensor some_of(const Tensor& activations) {
  constexpr int64_t kEnough = 1 << 16;
  const Tensor all = activations.permute({0, 2, 3, 1}).reshape(-1);
  return all.slice(0, 0, all.numel(), std::max<int64_t>(1, all.numel() / kEnough) | 1).to(at::kFloat);
}

/// The bound with the least squared error of quantization, of those up to the largest number.
double best_bound(const Tensor& numbers, int bits) {
  constexpr int kBounds = 64;
  const double largest = numbers.max().item<double>();
  double best = largest, least = std::numeric_limits<double>::infinity();
  for (int i = 1; i <= kBounds && largest > 0; ++i) {
    const double bound = largest * i / kBounds;
    const double error = (quantized_activation(numbers / bound, bits) * bound - numbers).square().sum().item<double>();
    if (error < least) least = error, best = bound;
  }
  return best > 0 ? best : 1;
}

/// Multiplies a parameter, and what it learns by so that a step of SGD is the same as before, times the factor.
void scale(const Tensor& parameter, double factor) {
  parameter.mul_(factor);
  parameter.register_hook([squared = factor * factor](const Tensor& gradient) { return gradient * squared; });
}

void check(const ResNetOptions& o) {
  check(o.quantization);
  if (o.classes < 2) throw UsageError("a network for {} classes has nothing to tell apart", o.classes);
  if (o.compute != at::kFloat && o.compute != at::kBFloat16 && o.compute != at::kDouble)
    throw UsageError("a network computes in float, bfloat16 or double, not in {}", toString(o.compute));
  for (const int bits : {o.quantization.weight_bits, o.quantization.activation_bits})
    if (o.compute == at::kBFloat16 && bits > 8 && bits != kFullPrecision)
      throw UsageError("bfloat16 cannot tell numbers of {} bits apart, as it has 8; compute in float", bits);
  if (!(o.pact_clip > 0)) throw UsageError("PACT's first bound is {}; it must be above 0", o.pact_clip);
}

}  // namespace

ResNetKind resnet_kind_from(std::string_view name) {
  if (name == "resnet20") return ResNetKind::resnet20;
  if (name == "resnet32") return ResNetKind::resnet32;
  if (name == "resnet50") return ResNetKind::resnet50;
  throw UsageError("'{}' is no network here; resnet20, resnet32 and resnet50 are", name);
}

std::string_view name_of(ResNetKind kind) {
  return kind == ResNetKind::resnet20 ? "resnet20" : kind == ResNetKind::resnet32 ? "resnet32" : "resnet50";
}

ResNet::ResNet(const ResNetOptions& options)
    : options_(options), random_(at::make_generator<at::CPUGeneratorImpl>(options.seed)) {
  check(options);
  build();
}

Tensor ResNet::parameter(const std::string& name, Tensor values) {
  values = values.to(options_.device, options_.compute == at::kDouble ? at::kDouble : at::kFloat);
  if (values.dim() == 4) values = values.contiguous(kLast);
  return parameters_[name] = values.requires_grad_(true);
}

ResNet::Convolution ResNet::convolution(const std::string& name, int64_t in, int64_t out, int64_t size, int64_t stride,
                                        int bits) {
  const double deviation = std::sqrt(2.0 / static_cast<double>(out * size * size));  // He et al. 2015, by what goes out
  const Tensor weight = at::empty({out, in, size, size}).normal_(0, deviation, random_);
  return {name, parameter(name + ".weight", weight), stride, size / 2, bits};
}

BatchNorm ResNet::batch_norm(const std::string& name, int64_t channels) {
  const Tensor weight = parameter(name + ".weight", at::ones(channels));
  const Tensor bias = parameter(name + ".bias", at::zeros(channels));
  buffers_[name + ".running_mean"] = at::zeros(channels, weight.options().requires_grad(false));
  buffers_[name + ".running_var"] = at::ones(channels, weight.options().requires_grad(false));
  return {weight, bias, buffers_[name + ".running_mean"], buffers_[name + ".running_var"]};
}

ActivationLayer ResNet::activation(const std::string& name) {
  const Quantization& q = options_.quantization;
  if (q.activation_bits == kFullPrecision) return {.kind = ActivationLayer::Kind::relu};
  ActivationLayer layer{.kind = ActivationLayer::Kind::quantized, .bits = q.activation_bits};
  if (q.method == QuantizationMethod::pact) layer.clip = parameter(name + ".clip", at::full({}, options_.pact_clip));
  return layer;
}

ResNet::Block ResNet::block(const std::string& name, int64_t in, int64_t width, int64_t stride) {
  const bool bottleneck = options_.kind == ResNetKind::resnet50;
  const int bits = options_.quantization.weight_bits;
  const int64_t out = bottleneck ? 4 * width : width;
  Block block;
  const auto unit = [&](int64_t from, int64_t to, int64_t size, int64_t step) {
    const std::string number = std::to_string(block.units.size() + 1);
    block.units.push_back({convolution(name + ".conv" + number, from, to, size, step, bits),
                           batch_norm(name + ".bn" + number, to), activation(name + ".act" + number)});
  };
  if (bottleneck) {
    unit(in, width, 1, 1);
    unit(width, width, 3, stride);
    unit(width, out, 1, 1);
  } else {
    unit(in, width, 3, stride);
    unit(width, width, 3, 1);
  }
  if (stride == 1 && in == out) return block;
  block.padded = !bottleneck && options_.shortcut == Shortcut::a;
  if (!block.padded)
    block.projection.push_back(
        {convolution(name + ".downsample.0", in, out, 1, stride, bits), batch_norm(name + ".downsample.1", out), {}});
  return block;
}

void ResNet::build() {
  const bool large = options_.kind == ResNetKind::resnet50;
  const int depth = options_.kind == ResNetKind::resnet20 ? 3 : 5;
  const std::vector<int> depths = large ? std::vector<int>{3, 4, 6, 3} : std::vector<int>(3, depth);
  const Quantization& q = options_.quantization;
  int64_t channels = large ? 64 : 16;
  stem_.push_back(
      {convolution("conv1", 3, channels, large ? 7 : 3, large ? 2 : 1, q.first_layer ? q.weight_bits : kFullPrecision),
       batch_norm("bn1", channels), activation("act1")});
  int64_t width = channels;
  for (size_t stage = 0; stage < depths.size(); ++stage, width *= 2)
    for (int i = 0; i < depths[stage]; ++i) {
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(i);
      blocks_.push_back(block(name, channels, width, stage > 0 && i == 0 ? 2 : 1));
      channels = large ? 4 * width : width;
    }
  const double bound = 1 / std::sqrt(static_cast<double>(channels));  // as libtorch's own linear layers
  fc_weight_ = parameter("fc.weight", at::empty({options_.classes, channels}).uniform_(-bound, bound, random_));
  fc_bias_ = parameter("fc.bias", at::empty({options_.classes}).uniform_(-bound, bound, random_));
  if (q.last_layer) fc_activation_ = activation("fc");
}

Activations ResNet::through(const Unit& unit, const Tensor& x, double scale, const std::optional<Activations>& shortcut,
                            bool training) const {
  const Convolution& c = unit.convolution;
  const CodedWeight weight = coded_weight(c.weight, c.bits, options_.quantization.scaling, options_.compute);
  const Tensor y =
      at::convolution(x, weight.codes, {}, {c.stride, c.stride}, {c.padding, c.padding}, {1, 1}, false, {0, 0}, 1);
  Activations out = normalized(y, scale * weight.scale, unit.norm, shortcut, unit.activation, training);
  if (samples_ && unit.activation.kind != ActivationLayer::Kind::none) samples_->push_back(some_of(out.codes));
  return out;
}

Activations ResNet::through(const Block& block, const Activations& x, bool training) const {
  Activations shortcut = x;
  if (block.padded)
    shortcut.again = PaddedShortcut::apply(x.again, block.units.back().convolution.weight.size(0),
                                           block.units.front().convolution.stride);
  if (!block.projection.empty()) shortcut = through(block.projection.front(), x.again, x.scale, {}, training);
  Activations inner = x;
  for (size_t i = 0; i + 1 < block.units.size(); ++i)
    inner = through(block.units[i], inner.codes, inner.scale, {}, training);
  return through(block.units.back(), inner.codes, inner.scale, shortcut, training);
}

std::vector<ResNet::Range> ResNet::ranges() const {
  std::vector<Range> all = {{.writers = {stem_.front().norm}, .activations = {0}}};
  size_t path = 0, count = 1;  // the range of what goes past the blocks; activations so far
  for (const Block& block : blocks_) {
    all[path].readers.push_back(block.units.front().norm);
    for (size_t i = 0; i + 1 < block.units.size(); ++i)
      all.push_back({{block.units[i].norm}, {block.units[i + 1].norm}, {count++}});
    if (!block.projection.empty()) {  // behind which another range can begin
      all[path].readers.push_back(block.projection.front().norm);
      all.push_back({.writers = {block.projection.front().norm}});
      path = all.size() - 1;
    }
    all[path].writers.push_back(block.units.back().norm);
    all[path].activations.push_back(count++);
  }
  std::swap(all[path], all.back());  // last of all, what the classes are told by
  return all;
}

std::vector<Tensor> ResNet::observed(const Tensor& images) const {
  ResNetOptions options = options_;
  options.quantization = {};
  ResNet whole(options);
  for (const auto& [name, tensor] : whole.parameters()) tensor.copy_(parameters_.at(name));
  for (const auto& [name, tensor] : whole.buffers()) tensor.copy_(buffers_.at(name));
  std::vector<Tensor> samples;
  whole.samples_ = &samples;
  whole.logits(images, false);
  return samples;
}

void ResNet::fit_activations(const Tensor& images) {
  const Quantization& q = options_.quantization;
  if (q.activation_bits == kFullPrecision) return;
  const at::NoGradGuard no_grad;
  const std::vector<Tensor> samples = observed(images);
  if (q.method == QuantizationMethod::pact)
    fit_clips(samples);
  else
    fit_norms(samples);
}

void ResNet::fit_clips(const std::vector<Tensor>& samples) const {
  std::vector<Tensor> clips = {stem_.front().activation.clip};
  for (const Block& block : blocks_)
    for (const Unit& unit : block.units) clips.push_back(unit.activation.clip);
  if (fc_activation_.clip.defined()) clips.push_back(fc_activation_.clip);
  for (size_t i = 0; i < clips.size(); ++i)
    clips[i].fill_(best_bound(samples.at(i), options_.quantization.activation_bits));
}

void ResNet::fit_norms(const std::vector<Tensor>& samples) const {
  double bound = 1;
  for (const Range& range : ranges()) {
    std::vector<Tensor> numbers;
    for (const size_t i : range.activations) numbers.push_back(samples.at(i));
    bound = best_bound(at::cat(numbers), options_.quantization.activation_bits);
    for (const BatchNorm& norm : range.writers) {
      scale(norm.weight, 1 / bound);
      scale(norm.bias, 1 / bound);
    }
    for (const BatchNorm& norm : range.readers) {
      // The epsilon weighs more beside a smaller variance.
      norm.weight.mul_(((norm.running_var + norm.epsilon * bound * bound) / (norm.running_var + norm.epsilon)).sqrt());
      norm.running_mean.div_(bound);
      norm.running_var.div_(bound * bound);
    }
  }
  scale(fc_weight_, bound);
}

Tensor ResNet::logits(const Tensor& images, bool training) {
  const Quantization& q = options_.quantization;
  const Tensor input = images.to(options_.device, options_.compute).contiguous(kLast);
  Activations x = through(stem_.front(), input, 1, {}, training);
  if (options_.kind == ResNetKind::resnet50) {
    x.codes = at::max_pool2d(x.codes, {3, 3}, {2, 2}, {1, 1});
    x.again = x.codes;
  }
  for (const Block& block : blocks_) x = through(block, x, training);
  Tensor features = at::mean(x.codes, {2, 3}, false, fc_weight_.scalar_type()) * x.scale;
  if (samples_) samples_->push_back(features);
  Tensor weight = fc_weight_;
  if (q.last_layer) {
    const Tensor& clip = fc_activation_.clip;
    features = clip.defined() ? pact_activation(features, clip, q.activation_bits)
                              : quantized_activation(features, q.activation_bits);
    weight = quantized_weight(weight, q.weight_bits, q.scaling);
  }
  return at::linear(features, weight, fc_bias_);
}

}  // namespace haqa
