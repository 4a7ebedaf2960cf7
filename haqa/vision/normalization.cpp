#include "haqa/vision/normalization.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "haqa/vision/tensor_memory.h"

namespace haqa {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

/// Rows are summed up in blocks that depend on the shape alone, so that sums are the same on any number of threads.
constexpr int64_t kBlockNumbers = 8192, kLeastBlockRows = 32;

struct Shape {
  int64_t rows = 0, channels = 0;
  int64_t block_rows() const { return std::max(kBlockNumbers / channels, kLeastBlockRows); }
  int64_t blocks() const { return (rows + block_rows() - 1) / block_rows(); }
};

Shape shape_of(const Tensor& y) {
  return {y.numel() / y.size(1), y.size(1)};
}

/// Calls work(first row, rows, block) for each block.
template <typename Work>
void in_blocks(const Shape& shape, const Work& work) {
  const int64_t rows = shape.block_rows();
  at::parallel_for(0, shape.blocks(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block)
      work(block * rows, std::min(rows, shape.rows - block * rows), block);
  });
}

/// Sums of the blocks' sums, of which each has `width`.
std::vector<double> added_up(const std::vector<float>& sums, size_t width) {
  std::vector<double> all(width);
  for (size_t i = 0; i < sums.size(); ++i) all[i % width] += static_cast<double>(sums[i]);
  return all;
}

struct Statistics {
  std::vector<float> mean, inverse_deviation;  ///< of y, by channel
};

double at_place(const Tensor& tensor, int64_t i) {
  return static_cast<double>(tensor.data_ptr<float>()[i]);
}

template <typename T>
std::vector<double> sums_of(const Tensor& y, const Shape& shape, const std::vector<float>& center) {
  const auto width = static_cast<size_t>(2 * shape.channels);
  std::vector<float> sums(static_cast<size_t>(shape.blocks()) * width);
  in_blocks(shape, [&](int64_t first, int64_t rows, int64_t block) {
    channel_sums(simd(), rows, shape.channels, memory<T>(y) + first * shape.channels, center.data(),
                 sums.data() + static_cast<size_t>(block) * width);
  });
  return added_up(sums, width);
}

/// Of the batch, which the running ones learn.
Statistics batch_statistics(const Tensor& y, double y_scale, const BatchNorm& norm, const Shape& shape) {
  std::vector<float> center(static_cast<size_t>(shape.channels));  // near the mean: the first row
  std::vector<double> sums;
  by_type(y.scalar_type(), [&]<typename T>() {
    for (int64_t c = 0; c < shape.channels; ++c)
      center[static_cast<size_t>(c)] = sizeof(T) == 2
                                           ? static_cast<float>(static_cast<const at::BFloat16*>(y.data_ptr())[c])
                                           : static_cast<const float*>(y.data_ptr())[c];
    sums = sums_of<T>(y, shape, center);
  });
  const auto channels = static_cast<size_t>(shape.channels);
  const auto n = static_cast<double>(shape.rows);
  Statistics statistics{std::vector<float>(channels), std::vector<float>(channels)};
  for (size_t c = 0; c < channels; ++c) {
    const double shift = sums[c] / n, mean = static_cast<double>(center[c]) + shift;
    const double variance = std::max(0.0, sums[channels + c] / n - shift * shift);
    statistics.mean[c] = static_cast<float>(mean);
    statistics.inverse_deviation[c] = static_cast<float>(1 / std::sqrt(variance + norm.epsilon / (y_scale * y_scale)));
    const auto learn = [&](const Tensor& running, double value) {
      float& number = running.data_ptr<float>()[c];
      number = static_cast<float>((1 - norm.momentum) * static_cast<double>(number) + norm.momentum * value);
    };
    learn(norm.running_mean, mean * y_scale);
    learn(norm.running_var, variance * y_scale * y_scale * n / std::max(1.0, n - 1));
  }
  return statistics;
}

Statistics running_statistics(double y_scale, const BatchNorm& norm) {
  Statistics statistics;
  for (int64_t c = 0; c < norm.running_mean.numel(); ++c) {
    statistics.mean.push_back(static_cast<float>(at_place(norm.running_mean, c) / y_scale));
    statistics.inverse_deviation.push_back(
        static_cast<float>(y_scale / std::sqrt(at_place(norm.running_var, c) + norm.epsilon)));
  }
  return statistics;
}

/// z = y * factor + offset.
struct Affine {
  std::vector<float> factor, offset;
};

Affine affine_of(const Statistics& statistics, const Tensor& weight, const Tensor& bias) {
  Affine affine;
  for (size_t c = 0; c < statistics.mean.size(); ++c) {
    const auto place = static_cast<int64_t>(c);
    affine.factor.push_back(
        static_cast<float>(at_place(weight, place) * static_cast<double>(statistics.inverse_deviation[c])));
    affine.offset.push_back(static_cast<float>(at_place(bias, place) - static_cast<double>(statistics.mean[c]) *
                                                                           static_cast<double>(affine.factor[c])));
  }
  return affine;
}

struct Rule {
  ActivationRule rule;
  double scale = 1;  ///< of the codes
};

double clip_of(const ActivationLayer& layer) {
  return layer.clip.defined() ? layer.clip.item<double>() : 1;
}

Rule rule_of(const ActivationLayer& layer) {
  if (layer.kind == ActivationLayer::Kind::none) return {identity_rule()};
  if (layer.kind == ActivationLayer::Kind::relu) return {relu_rule()};
  const ActivationRule rule = quantized_rule(layer.bits, clip_of(layer));
  return {rule, rule.steps > 0 ? 1 / static_cast<double>(rule.steps) : 1};
}

/// What the backward pass needs beside tensors. Kept by the graph's node, as is the memory of its tensors.
struct Saved : torch::CustomClassHolder {
  Statistics statistics;
  Affine affine;
  ActivationRule rule;
  float shortcut_scale = 0;
};

template <typename T>
NormalizedRows<T> rows_of(const Tensor& y, const Tensor& shortcut, const Saved& saved) {
  const Shape shape = shape_of(y);
  return {.rows = shape.rows,
          .channels = shape.channels,
          .values = memory<const T>(y),
          .factor = saved.affine.factor.data(),
          .offset = saved.affine.offset.data(),
          .shortcut = memory<const T>(shortcut),
          .shortcut_scale = saved.shortcut_scale,
          .rule = saved.rule};
}

template <typename T>
NormalizedRows<T> block_of(NormalizedRows<T> all, int64_t first, int64_t rows) {
  all.rows = rows;
  all.values += first * all.channels;
  if (all.shortcut) all.shortcut += first * all.channels;
  return all;
}

template <typename T>
ReadersGradients<T> block_of(ReadersGradients<T> all, int64_t first_number) {
  if (all.first) all.first += first_number;
  if (all.second) all.second += first_number;
  return all;
}

Tensor activated(const Tensor& y, const Tensor& shortcut, const Saved& saved) {
  Tensor out = at::empty_like(y);
  by_type(y.scalar_type(), [&]<typename T>() {
    const NormalizedRows<T> all = rows_of<T>(y, shortcut, saved);
    in_blocks(shape_of(y), [&](int64_t first, int64_t rows, int64_t) {
      activate(simd(), block_of(all, first, rows), memory<T>(out) + first * all.channels);
    });
  });
  return out;
}

struct NormalizedActivation : Function<NormalizedActivation> {
  static tensor_list forward(AutogradContext* context, const Tensor& y, const Tensor& weight, const Tensor& /*bias*/,
                             const std::optional<Tensor>& clip, const std::optional<Tensor>& shortcut,
                             const c10::intrusive_ptr<Saved>& saved) {
    context->set_materialize_grads(false);  // a reader that gives no gradient costs no pass
    context->save_for_backward({y, shortcut.value_or(Tensor()), weight, clip.value_or(Tensor())});
    context->saved_data["saved"] = c10::IValue::make_capsule(saved);
    Tensor out = activated(y, shortcut.value_or(Tensor()), *saved);
    return {out, out.variable_data()};
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto tensors = context->get_saved_variables();
    const Tensor &y = tensors[0], &shortcut = tensors[1], &weight = tensors[2], &clip = tensors[3];
    const auto saved = c10::static_intrusive_pointer_cast<Saved>(context->saved_data["saved"].toCapsule());
    const Tensor first = like(y, gradients[0]), second = like(y, gradients[1]);
    Tensor dy = at::empty_like(y), dshortcut = shortcut.defined() ? at::empty_like(y) : Tensor();
    std::vector<double> sums;
    by_type(y.scalar_type(), [&]<typename T>() {
      const NormalizedRows<T> all = rows_of<T>(y, shortcut, *saved);
      const ReadersGradients<T> readers{memory<const T>(first), memory<const T>(second)};
      sums = summed(all, readers, *saved, memory<T>(dshortcut));
      if (dshortcut.defined())  // which holds the gradient of z already
        through_statistics(alone(all), {memory<const T>(dshortcut), nullptr}, *saved, 1 / saved->shortcut_scale, sums,
                           memory<T>(dy));
      else
        through_statistics(all, readers, *saved, 1, sums, memory<T>(dy));
    });
    const int64_t channels = y.size(1);
    Tensor dweight = at::empty_like(weight), dbias = at::empty_like(weight), dclip;
    for (int64_t c = 0; c < channels; ++c) {
      const auto i = static_cast<size_t>(c), n = static_cast<size_t>(channels);
      dbias.data_ptr<float>()[c] = static_cast<float>(sums[i]);
      dweight.data_ptr<float>()[c] =
          static_cast<float>(sums[n + i] * static_cast<double>(saved->statistics.inverse_deviation[i]));
    }
    if (clip.defined()) {
      double all = 0;
      for (int64_t c = 0; c < channels; ++c) all += sums[static_cast<size_t>(2 * channels + c)];
      dclip = at::full_like(clip, all);
    }
    return {dy, dweight, dbias, dclip, dshortcut, Tensor()};
  }

  static Tensor like(const Tensor& y, const Tensor& gradient) {
    return gradient.defined() ? as_dense_as(y, gradient.to(y.scalar_type())) : Tensor();
  }

  template <typename T>
  static std::vector<double> summed(const NormalizedRows<T>& all, const ReadersGradients<T>& readers,
                                    const Saved& saved, T* dshortcut) {
    const Shape shape{all.rows, all.channels};
    const auto width = static_cast<size_t>(3 * shape.channels);
    std::vector<float> sums(static_cast<size_t>(shape.blocks()) * width);
    in_blocks(shape, [&](int64_t first, int64_t rows, int64_t block) {
      const int64_t number = first * shape.channels;
      gradient_sums(simd(), block_of(all, first, rows), block_of(readers, number), saved.statistics.mean.data(),
                    dshortcut ? dshortcut + number : nullptr, sums.data() + static_cast<size_t>(block) * width);
    });
    return added_up(sums, width);
  }

  /// Rows of which every gradient flows as it is.
  template <typename T>
  static NormalizedRows<T> alone(NormalizedRows<T> rows) {
    rows.shortcut = nullptr;
    rows.rule = identity_rule();
    return rows;
  }

  /// With n rows, d = 1 / deviation and h = (y - mean) * d: dy = weight * d * (dz - mean(dz) - h * mean(dz * h)).
  /// dz is what the readers' gradients give, times `scale`.
  template <typename T>
  static void through_statistics(const NormalizedRows<T>& all, const ReadersGradients<T>& readers, const Saved& saved,
                                 float scale, const std::vector<double>& sums, T* dy) {
    const auto channels = static_cast<size_t>(all.channels);
    const auto n = static_cast<double>(all.rows);
    std::vector<float> by_z(channels), by_value(channels), constant(channels);
    for (size_t c = 0; c < channels; ++c) {
      const auto d = static_cast<double>(saved.statistics.inverse_deviation[c]);
      const auto mean = static_cast<double>(saved.statistics.mean[c]);
      const auto factor = static_cast<double>(saved.affine.factor[c]);  // weight * d
      const double slope = -factor * d * d * sums[channels + c] / n;
      by_z[c] = saved.affine.factor[c] * scale;
      by_value[c] = static_cast<float>(slope);
      constant[c] = static_cast<float>(-factor * sums[c] / n - slope * mean);
    }
    const InputGradient factors{by_z.data(), by_value.data(), constant.data()};
    in_blocks({all.rows, all.channels}, [&](int64_t first, int64_t rows, int64_t) {
      const int64_t number = first * all.channels;
      gradient_of_values(simd(), block_of(all, first, rows), block_of(readers, number), factors, dy + number);
    });
  }
};

Activations by_operations(const Tensor& y, double y_scale, const BatchNorm& norm,
                          const std::optional<Activations>& shortcut, const ActivationLayer& activation,
                          bool training) {
  Tensor z = y_scale == 1 ? y : y * y_scale;
  z = at::batch_norm(z, norm.weight, norm.bias, norm.running_mean, norm.running_var, training, norm.momentum,
                     norm.epsilon, false);
  if (shortcut) z = z + (shortcut->scale == 1 ? shortcut->again : shortcut->again * shortcut->scale);
  if (activation.kind == ActivationLayer::Kind::relu) z = at::relu(z);
  if (activation.kind == ActivationLayer::Kind::quantized)
    z = activation.clip.defined() ? pact_activation(z, activation.clip, activation.bits)
                                  : quantized_activation(z, activation.bits);
  return {z, z};
}

bool fits_kernels(const Tensor& y, const std::optional<Activations>& shortcut, const ActivationLayer& activation) {
  const auto fits = [&](const Tensor& x) {
    return runs_in_kernels(x, y.scalar_type()) && x.is_contiguous(at::MemoryFormat::ChannelsLast);
  };
  return fits(y) && y.size(1) % kLanes == 0 && kernels_round(activation.bits) &&
         (!shortcut || (fits(shortcut->again) && shortcut->again.scalar_type() == y.scalar_type() &&
                        shortcut->again.sizes() == y.sizes()));
}

}  // namespace

Activations normalized(const Tensor& y, double y_scale, const BatchNorm& norm,
                       const std::optional<Activations>& shortcut, const ActivationLayer& activation, bool training) {
  const bool learns = at::GradMode::is_enabled();
  if (!fits_kernels(y, shortcut, activation) || (learns && !training))
    return by_operations(y, y_scale, norm, shortcut, activation, training);
  const Rule rule = rule_of(activation);
  auto saved = c10::make_intrusive<Saved>();
  saved->statistics = training ? batch_statistics(y, y_scale, norm, shape_of(y)) : running_statistics(y_scale, norm);
  saved->affine = affine_of(saved->statistics, norm.weight, norm.bias);
  saved->rule = rule.rule;
  saved->shortcut_scale = static_cast<float>(shortcut ? shortcut->scale : 0);
  const std::optional<Tensor> from = shortcut ? std::optional(shortcut->again) : std::nullopt;
  if (!learns) {
    const Tensor codes = activated(y, from.value_or(Tensor()), *saved);
    return {codes, codes, rule.scale};
  }
  const std::optional<Tensor> clip = activation.clip.defined() ? std::optional(activation.clip) : std::nullopt;
  const tensor_list both = NormalizedActivation::apply(y, norm.weight, norm.bias, clip, from, saved);
  return {both[0], both[1], rule.scale};
}

}  // namespace haqa
