#include "haqa/vision/onnx_export.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <utility>

#include "haqa/base/json.h"
#include "haqa/onnx/onnx_model.h"

namespace haqa {
namespace {

using torch::Tensor;
using Shape = std::vector<int64_t>;

constexpr int kMostBits = 8;  ///< of the whole numbers that ONNX Runtime has products of

/// What a normalization makes of a convolution's sums, by channel: sum * factor + offset.
struct Folded {
  std::vector<double> factor, offset;
};

std::vector<double> numbers_of(const Tensor& tensor) {
  const Tensor doubles = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  return {doubles.data_ptr<double>(), doubles.data_ptr<double>() + doubles.numel()};
}

Folded folded(const BatchNorm& norm) {
  Folded made{numbers_of(norm.weight), numbers_of(norm.bias)};
  const std::vector<double> mean = numbers_of(norm.running_mean), variance = numbers_of(norm.running_var);
  for (size_t i = 0; i < mean.size(); ++i) {
    made.factor[i] /= std::sqrt(variance[i] + norm.epsilon);
    made.offset[i] -= mean[i] * made.factor[i];
  }
  return made;
}

/// How the result of a layer is rounded: to a whole number from `first` to `last`, times `step`.
struct Rounding {
  double step = 1;
  int first = 0, last = 255;
};

/// What multiplies whole weights, whose largest is `most` times below the largest of INT8, and with them the bias,
/// which is to be a whole number too, in units of the sums of products. As it lies between two of them, it is rounded;
/// times more, by less. That changes a result only where an edge of its rounding comes to lie on the other side of a
/// sum, which is a whole number: of all multiples the one with the fewest such edges.
int best_multiple(double bias, double unit, const Rounding& rounding, int most) {
  int best = 1;
  std::pair<int, double> least = {std::numeric_limits<int>::max(), 0};
  for (int multiple = 1; multiple <= most; ++multiple) {
    const double taken = std::nearbyint(bias * multiple) / multiple;
    int moved = 0;
    for (int i = rounding.first + 1; i <= rounding.last; ++i) {
      const double edge = (i - 0.5) * rounding.step / unit;
      moved += std::ceil(edge - bias) != std::ceil(edge - taken);
    }
    const std::pair candidate(moved, std::abs(taken - bias));
    if (candidate < least) least = candidate, best = multiple;
  }
  return best;
}

/// What a step of the network gives.
struct Value {
  std::string name;
  double scale = 0;  ///< of whole numbers; 0: floats
  double cap = 0;    ///< which whole numbers times the scale do not exceed
  bool whole() const { return scale > 0; }
  double levels() const { return std::nearbyint(cap / scale); }
};

/// Weights and bias of one layer as whole numbers: odd * multiple * scale are the weights, by channel of its output.
struct IntegerWeights {
  std::vector<double> odd;  ///< DoReFa's codes, with the sign of the normalization's factor
  std::vector<float> multiples, scales;
  std::vector<int32_t> biases;

  int64_t rounded = 0;  ///< weights of channels that INT8 has no room for
};

/// codes * scale are the trained weights. Sums of products are in units of their scale times that of what is read.
IntegerWeights integer_weights(const Tensor& codes, double scale, const Folded& norm, const Value& reads,
                               const Rounding& rounding) {
  constexpr double kMostBias = 1 << 30, kLeastStep = 1e-30;
  // Processors without VNNI add up two products in 16 bits.
  const double safe = std::min(127.0, std::floor(32767 / (2 * reads.levels())));
  IntegerWeights made{.odd = numbers_of(codes)};
  const size_t channels = norm.factor.size(), length = made.odd.size() / channels;
  for (size_t c = 0; c < channels; ++c) {
    const std::span row(made.odd.data() + c * length, length);
    double largest = 1;
    for (double& code : row) {
      largest = std::max(largest, std::abs(code));
      if (norm.factor[c] < 0) code = -code;
    }
    const double trained = scale * std::abs(norm.factor[c]), offset = norm.offset[c];
    double step = std::max(std::abs(offset) / reads.scale / kMostBias, kLeastStep);  // at least, as a bias has 32 bits
    double multiple = std::min((largest <= safe ? safe : 127) / largest, trained / step);
    if (multiple >= 1) {
      const double unit = trained * reads.scale;
      multiple = best_multiple(offset / unit, unit, rounding, static_cast<int>(multiple));
    }
    if (multiple > 0) step = trained / multiple;
    if (largest > 127) made.rounded += static_cast<int64_t>(length);
    made.multiples.push_back(static_cast<float>(multiple));
    made.scales.push_back(static_cast<float>(step));
    made.biases.push_back(static_cast<int32_t>(std::nearbyint(offset / (reads.scale * step))));
  }
  return made;
}

/// How UINT8 stands for the sums of a convolution before a shortcut is added.
struct SumScale {
  double scale = 0;
  uint8_t zero = 128;
  bool exact = true;        ///< nothing is lost
  int first = 0, last = 0;  ///< the whole numbers that matter
  Rounding rounding() const { return {scale, first, last}; }
};

/// Where the shortcut's whole numbers count in the same steps as the result's, rounding before the addition is rounding
/// behind it, and up to 7 bits all that matters lies within -127 to 127: less gives 0 or more the largest, whatever the
/// shortcut. Otherwise 256 steps go from where the result is 0 to where it is largest.
SumScale sum_scale(const Value& shortcut, int bits, double cap) {
  const int levels = (1 << bits) - 1;
  const double scale = cap / levels;
  if (bits < kMostBits && std::abs(shortcut.scale - scale) < 1e-9 * scale)
    return {.scale = scale, .first = -levels, .last = levels};
  const double range = shortcut.cap + cap;
  const int zero = static_cast<int>(std::nearbyint(255 * shortcut.cap / range));
  return {range / 255, static_cast<uint8_t>(zero), false, -zero, 255 - zero};
}

class Exporter {
 public:
  Exporter(const ResNet& network, const OnnxExportOptions& options)
      : network_(network),
        quantization_(network.options().quantization),
        packs_(packs(options)),
        exact_(options.exact) {
    result_.opset = packs_ ? 21 : 13;
    model_ = std::make_unique<OnnxModel>("resnet", result_.opset);
    build(options);
  }

  OnnxExport write(const std::filesystem::path& file) const {
    model_->write(file);
    return result_;
  }

 private:
  using Attributes = std::vector<OnnxModel::Attribute>;

  bool packs(const OnnxExportOptions& options) const { return options.four_bits && quantization_.weight_bits <= 4; }

  void build(const OnnxExportOptions& options) {
    const std::string images = model_->input("images", {"n", int64_t{3}, "height", "width"});
    const ResNet::Unit& stem = network_.stem();
    Value x = activated(convolved(stem, {scaled(images, options.pixels)}, {}), stem.activation, stem.convolution.name);
    if (network_.options().kind == ResNetKind::resnet50)
      x.name = model_->node("maxpool", "MaxPool", {x.name},
                            {{"kernel_shape", Shape{3, 3}}, {"pads", Shape{1, 1, 1, 1}}, {"strides", Shape{2, 2}}});
    for (const ResNet::Block& block : network_.blocks()) x = through(block, x);
    classify(x);
    if (!options.classes.empty()) model_->note("classes", to_line(options.classes));
  }

  std::string scaled(const std::string& images, const std::optional<Normalization>& pixels) {
    if (!pixels) return images;
    const Shape shape = {3, 1, 1};
    const std::string centred =
        model_->node("centred", "Sub", {images, model_->constant("mean", shape, std::span<const float>(pixels->mean))});
    return model_->node("scaled", "Div",
                        {centred, model_->constant("deviation", shape, std::span<const float>(pixels->deviation))});
  }

  Value through(const ResNet::Block& block, const Value& x) {
    Value inner = x;
    for (size_t i = 0; i + 1 < block.units.size(); ++i) {
      const ResNet::Unit& unit = block.units[i];
      inner = activated(convolved(unit, inner, rounding_of(unit.activation)), unit.activation, unit.convolution.name);
    }
    const ResNet::Unit& last = block.units.back();
    const Value shortcut = passed(block, x);
    return activated(sum(last, inner, shortcut), last.activation, last.convolution.name);
  }

  /// Of a convolution and what goes past it.
  Value sum(const ResNet::Unit& unit, const Value& x, const Value& shortcut) {
    const std::string& name = unit.convolution.name;
    SumScale scale;
    bool whole = x.whole() && shortcut.whole() && counts(unit.activation);
    if (whole) {
      scale = sum_scale(shortcut, unit.activation.bits, cap_of(unit.activation));
      whole = scale.exact || !exact_;
    }
    Value y = convolved(unit, x, whole ? std::optional(scale.rounding()) : std::nullopt);
    if (whole) {
      result_.rounded_sums += !scale.exact;
      const std::string step = number(name + ".sum.scale", static_cast<float>(scale.scale));
      const std::string zero = small(scale.zero);
      y.name = model_->node(name + ".counted", "QuantizeLinear", {y.name, step, zero});
      y.name = model_->node(name + ".counts", "DequantizeLinear", {y.name, step, zero});
    }
    return {model_->node(name + ".sum", "Add", {y.name, floats(shortcut, name + ".shortcut")})};
  }

  /// What goes past the block.
  Value passed(const ResNet::Block& block, const Value& x) {
    if (!block.projection.empty()) return convolved(block.projection.front(), x, {});
    if (!block.padded) return x;
    const ResNet::Convolution &first = block.units.front().convolution, &last = block.units.back().convolution;
    const int64_t missing = (last.weight.size(0) - first.weight.size(1)) / 2;
    const auto whole = [&](const std::string& name, const Shape& numbers) {
      return model_->constant(first.name + name, {std::ssize(numbers)}, std::span<const int64_t>(numbers));
    };
    const std::string taken =
        model_->node(first.name + ".taken", "Slice",
                     {x.name, whole(".first", {0, 0}),
                      whole(".last", {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::max()}),
                      whole(".axes", {2, 3}), whole(".steps", {first.stride, first.stride})});
    return {model_->node(first.name + ".padded", "Pad", {taken, whole(".pads", {0, missing, 0, 0, 0, missing, 0, 0})}),
            x.scale, x.cap};
  }

  /// Normalized sums, for a reader that rounds them to UINT8, or not.
  Value convolved(const ResNet::Unit& unit, const Value& x, const std::optional<Rounding>& rounding) {
    const ResNet::Convolution& c = unit.convolution;
    return {layer(c.name, "Conv", x, c.weight, c.bits, folded(unit.norm), rounding,
                  {{"kernel_shape", Shape{c.weight.size(2), c.weight.size(3)}},
                   {"pads", Shape(4, c.padding)},
                   {"strides", Shape{c.stride, c.stride}}})};
  }

  /// A convolution or a product, with the normalization's factors in its weights. ONNX Runtime makes an integer product
  /// of it where it reads whole numbers and its result is rounded to such. Otherwise weights become floats as the file
  /// is loaded, as products of floats are slow where they are unpacked each time.
  std::string layer(const std::string& name, const std::string& operation, const Value& x, const Tensor& weight,
                    int bits, const Folded& norm, const std::optional<Rounding>& rounding,
                    const Attributes& attributes) {
    const bool stored = bits <= kMostBits, whole = stored && rounding && x.whole();
    ++(whole ? result_.integer_layers : result_.float_layers);
    const Shape shape = weight.sizes().vec();
    std::string weights, bias;
    if (stored) {
      const CodedWeight coded = coded_weight(weight.detach().to(at::kCPU), bits, quantization_.scaling, at::kFloat);
      result_.weights += weight.numel();
      if (whole) {
        const IntegerWeights integers = integer_weights(coded.codes, coded.scale, norm, x, *rounding);
        weights = whole_weights(name, shape, integers, packs_ && bits <= 4);
        bias = whole_bias(name, integers, x.scale);
      } else {
        weights = weights_to_unpack(name, shape, coded, norm, packs_ && bits <= 4);
      }
    } else {
      weights = float_weights(name, weight, bits, norm);
    }
    if (!whole) bias = floats_of(name + ".bias", {std::ssize(norm.offset)}, norm.offset);
    return model_->node(name, operation, {floats(x, name + ".input"), weights, bias}, attributes);
  }

  std::string float_weights(const std::string& name, const Tensor& weight, int bits, const Folded& norm) {
    const Tensor factor = torch::tensor(norm.factor, at::kDouble).view(by_channel(weight.dim()));
    const Tensor trained = quantized_weight(weight.detach().to(at::kCPU), bits, quantization_.scaling);
    return floats_of(name + ".weight", weight.sizes().vec(), numbers_of(trained.to(at::kDouble) * factor));
  }

  std::string whole_weights(const std::string& name, const Shape& shape, const IntegerWeights& weights, bool packed) {
    std::string values;
    if (packed) {
      const Shape channels = by_channel(std::ssize(shape), shape.front());
      const std::string odd = unpacked(name, shape, weights.odd, true);
      const std::string multiples =
          model_->constant(name + ".weight.multiple", channels, std::span<const float>(weights.multiples));
      values = model_->node(name + ".weight.whole", "Cast",
                            {model_->node(name + ".weight.multiplied", "Mul", {odd, multiples})}, {{"to", kOnnxInt8}});
    } else {
      std::vector<int8_t> whole;
      const size_t length = weights.odd.size() / weights.scales.size();
      for (size_t i = 0; i < weights.odd.size(); ++i)
        whole.push_back(static_cast<int8_t>(std::nearbyint(weights.odd[i] * weights.multiples[i / length])));
      result_.rounded_weights += weights.rounded;
      values = model_->constant(name + ".weight", shape, std::span<const int8_t>(whole));
    }
    const std::string scales =
        model_->constant(name + ".weight.scale", {shape.front()}, std::span<const float>(weights.scales));
    return model_->node(name + ".weight.floats", "DequantizeLinear", {values, scales}, {{"axis", int64_t{0}}});
  }

  /// No DequantizeLinear, which ONNX Runtime leaves for each run.
  std::string weights_to_unpack(const std::string& name, const Shape& shape, const CodedWeight& weights,
                                const Folded& norm, bool packed) {
    std::vector<double> scales = norm.factor;
    for (double& scale : scales) scale *= weights.scale;
    return model_->node(name + ".weight.floats", "Mul",
                        {unpacked(name, shape, numbers_of(weights.codes), packed),
                         floats_of(name + ".weight.scale", by_channel(std::ssize(shape), shape.front()), scales)});
  }

  static Shape by_channel(int64_t dimensions, int64_t channels = -1) {
    Shape shape(static_cast<size_t>(dimensions), 1);
    shape.front() = channels;
    return shape;
  }

  /// Odd numbers 2 * q + 1, as floats, from q of 4 or 8 bits; readers work them out once, as they load the file.
  std::string unpacked(const std::string& name, const Shape& shape, const std::vector<double>& odd, bool four_bits) {
    std::vector<int8_t> halves(odd.size());
    std::transform(odd.begin(), odd.end(), halves.begin(), [](double n) { return static_cast<int8_t>((n - 1) / 2); });
    const std::string stored = name + ".weight";
    if (four_bits)
      model_->constant_of_4_bits(stored, shape, halves);
    else
      model_->constant(stored, shape, std::span<const int8_t>(halves));
    const std::string wide = model_->node(stored + ".wide", "Cast", {stored}, {{"to", kOnnxFloat}});
    const std::string doubled = model_->node(stored + ".doubled", "Mul", {wide, number("two", 2)});
    return model_->node(stored + ".odd", "Add", {doubled, number("one", 1)});
  }

  std::string whole_bias(const std::string& name, const IntegerWeights& weights, double reads_scale) {
    std::vector<float> scales;
    for (const float scale : weights.scales) scales.push_back(static_cast<float>(reads_scale * scale));
    const Shape shape = {std::ssize(scales)};
    return model_->node(name + ".bias.floats", "DequantizeLinear",
                        {model_->constant(name + ".bias", shape, std::span<const int32_t>(weights.biases)),
                         model_->constant(name + ".bias.scale", shape, std::span<const float>(scales))},
                        {{"axis", int64_t{0}}});
  }

  /// For one reader alone, as ONNX Runtime wants it.
  std::string floats(const Value& x, const std::string& name) {
    if (!x.whole()) return x.name;
    return model_->node(name, "DequantizeLinear",
                        {x.name, number(name + ".scale", static_cast<float>(x.scale)), small(0)});
  }

  /// Whether activations are whole numbers in the file: not beside weights in floats, as no integer product reads them,
  /// and ONNX Runtime would round those weights by its own rules.
  bool counts(const ActivationLayer& layer) const {
    return layer.kind == ActivationLayer::Kind::quantized && layer.bits <= kMostBits &&
           quantization_.weight_bits <= kMostBits;
  }
  std::optional<Rounding> rounding_of(const ActivationLayer& layer) const {
    if (!counts(layer)) return std::nullopt;
    const int levels = (1 << layer.bits) - 1;
    return Rounding{cap_of(layer) / levels, 0, levels};
  }
  static double cap_of(const ActivationLayer& layer) { return layer.clip.defined() ? layer.clip.item<double>() : 1; }

  Value activated(const Value& y, const ActivationLayer& layer, const std::string& unit) {
    const std::string name = unit + ".activation";
    if (layer.kind == ActivationLayer::Kind::relu) return {model_->node(name, "Relu", {y.name})};
    return quantized(y.name, layer.bits, cap_of(layer), name, counts(layer));
  }

  Value quantized(const std::string& x, int bits, double cap, const std::string& name, bool counted) {
    const double levels = std::exp2(bits) - 1;
    if (!counted) {
      const std::string cut =
          model_->node(name + ".cut", "Clip", {x, number("none", 0), number(name + ".cap", static_cast<float>(cap))});
      const std::string steps = number(name + ".steps", static_cast<float>(levels / cap));
      const std::string many = model_->node(name + ".counted", "Mul", {cut, steps});
      return {model_->node(name, "Div", {model_->node(name + ".whole", "Round", {many}), steps})};
    }
    const double scale = cap / levels;
    const std::string step = number(name + ".scale", static_cast<float>(scale));
    Value made = {model_->node(name, "QuantizeLinear", {x, step, small(0)}), scale, cap};
    if (bits < kMostBits)  // UINT8 itself ends at 8 bits
      made.name = model_->node(name + ".cut", "Clip", {made.name, "", small(static_cast<uint8_t>(levels))});
    return made;
  }

  void classify(const Value& x) {
    const Tensor& weight = network_.parameters().at("fc.weight");
    const std::string average = model_->node("average", "GlobalAveragePool", {floats(x, "average.input")});
    Value features = {model_->node("features", "Flatten", {average})};
    int bits = kFullPrecision;
    if (quantization_.last_layer) {
      bits = quantization_.weight_bits;
      if (quantization_.activation_bits != kFullPrecision) {
        const auto clip = network_.parameters().find("fc.clip");  // PACT's
        const double cap = clip != network_.parameters().end() ? clip->second.item<double>() : 1;
        features = quantized(features.name, quantization_.activation_bits, cap, "features.activation", false);
      }
    }
    const Folded norm{std::vector<double>(static_cast<size_t>(weight.size(0)), 1.0),
                      numbers_of(network_.parameters().at("fc.bias"))};
    model_->output(layer("logits", "Gemm", features, weight, bits, norm, {}, {{"transB", int64_t{1}}}),
                   {"n", weight.size(0)});
  }

  std::string floats_of(const std::string& name, const Shape& shape, const std::vector<double>& numbers) {
    const std::vector<float> rounded(numbers.begin(), numbers.end());
    return model_->constant(name, shape, std::span<const float>(rounded));
  }
  /// A constant that several nodes may read, made once.
  std::string number(const std::string& name, float value) {
    if (made_.insert(name).second) model_->constant(name, {}, std::span<const float>(&value, 1));
    return name;
  }
  std::string small(uint8_t value) {
    const std::string name = "number" + std::to_string(value);
    if (made_.insert(name).second) model_->constant(name, {}, std::span<const uint8_t>(&value, 1));
    return name;
  }

  const ResNet& network_;
  const Quantization quantization_;
  const bool packs_, exact_;
  OnnxExport result_;
  std::unique_ptr<OnnxModel> model_;
  std::set<std::string> made_;  ///< constants that several nodes may read
};

}  // namespace

OnnxExport export_onnx(const ResNet& network, const std::filesystem::path& file, const OnnxExportOptions& options) {
  return Exporter(network, options).write(file);
}

}  // namespace haqa
