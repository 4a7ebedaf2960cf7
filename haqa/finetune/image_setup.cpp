#include "haqa/finetune/image_setup.h"

#include <fmt/format.h>

#include <charconv>

#include "haqa/base/error.h"

namespace haqa {
namespace {

/// The number at the beginning of the text, which is taken from it; nothing where there is none from 1 to 32.
std::optional<int> take_bits(std::string_view& text, char before) {
  if (text.empty() || text.front() != before) return std::nullopt;
  int bits = 0;
  const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), bits);
  if (error != std::errc() || bits < 1 || bits > 32) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return bits;
}

}  // namespace

LayerBits layer_bits_from(std::string_view name) {
  std::string_view rest = name;
  const auto weights = take_bits(rest, 'w'), activations = weights ? take_bits(rest, 'a') : std::nullopt;
  if (!activations || !rest.empty())
    throw UsageError("'{}' is no bit width of weights and activations, each from 1 to 32; w4a4 is one", name);
  return {*weights, *activations};
}

std::string to_string(const LayerBits& bits) {
  return fmt::format("w{}a{}", bits.weights, bits.activations);
}

Json image_request(const ImageSetup& s) {
  return {{"images", s.images.string()},
          {"weights", s.model.string()},
          {"validation_share", s.validation_share},
          {"normalization", s.normalization},
          {"threads", s.threads},
          {"augmentation", {{"flip", s.flip}, {"padding", s.padding}}},
          {"network",
           {{"kind", s.network},
            {"shortcut", s.shortcut},
            {"method", s.method},
            {"scaling", s.scaling},
            {"weight_bits", s.bits.weights},
            {"activation_bits", s.bits.activations},
            {"first_layer", s.first_layer},
            {"last_layer", s.last_layer}}},
          {"method",
           {{"optimizer", s.optimizer},
            {"schedule", s.schedule},
            {"nesterov", s.nesterov},
            {"decay_norms", s.decay_norms},
            {"warmup_epochs", s.warmup_epochs},
            {"label_smoothing", s.label_smoothing},
            {"ema_decay", s.ema_decay},
            {"device", s.device},
            {"compute", s.compute}}}};
}

}  // namespace haqa
