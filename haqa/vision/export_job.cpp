#include "haqa/vision/export_job.h"

#include "haqa/base/error.h"
#include "haqa/vision/weights.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// Takes what was asked for, unless the file knows otherwise.
template <typename T>
void take(const Json& asked, const char* key, bool known, T& value, const fs::path& file) {
  if (!asked.contains(key)) return;
  const T wanted = asked.at(key).get<T>();
  if (known && wanted != value)
    throw UsageError("{}: was trained with {} {}, not {}; leave that option out", file.string(), key, value, wanted);
  value = wanted;
}

Quantization quantization_of(const Weights& found, const Json& asked) {
  const fs::path& file = found.file;
  const bool known = found.quantization.has_value();
  Quantization q = found.quantization.value_or(Quantization{});
  take(asked, "weight_bits", known, q.weight_bits, file);
  take(asked, "activation_bits", known, q.activation_bits, file);
  take(asked, "first_layer", known, q.first_layer, file);
  take(asked, "last_layer", known, q.last_layer, file);
  std::string scaling(name_of(q.scaling));
  take(asked, "scaling", known, scaling, file);
  q.scaling = weight_scaling_from(scaling);
  if (!known && has_clips(found)) {
    if (!asked.contains("activation_bits"))
      throw UsageError("{}: has PACT's bounds, but does not say how many bits activations have; give --activation-bits",
                       file.string());
    q.method = QuantizationMethod::pact;
  }
  return q;
}

OnnxExportOptions options_from(const Json& request, const std::optional<TrainedImages>& trained) {
  OnnxExportOptions options{.four_bits = request.value("four_bits", true), .exact = request.value("exact", false)};
  if (request.contains("mean"))
    options.pixels = Normalization{request.at("mean"), request.at("deviation")};
  else if (trained && !request.value("normalized", false))
    options.pixels = trained->normalization;
  if (trained) options.classes = trained->classes;
  return options;
}

}  // namespace

Json to_json(const ResNet& network, const OnnxExport& made, const OnnxExportOptions& how) {
  const ResNetOptions& options = network.options();
  const Quantization& q = options.quantization;
  return {{"network", name_of(options.kind)},
          {"mean", how.pixels ? Json(how.pixels->mean) : Json(nullptr)},
          {"deviation", how.pixels ? Json(how.pixels->deviation) : Json(nullptr)},
          {"classes", options.classes},
          {"weight_bits", q.weight_bits},
          {"activation_bits", q.activation_bits},
          {"method", name_of(q.method)},
          {"scaling", name_of(q.scaling)},
          {"opset", made.opset},
          {"integer_layers", made.integer_layers},
          {"float_layers", made.float_layers},
          {"integer_weights", made.weights},
          {"rounded_weights", made.rounded_weights},
          {"rounded_sums", made.rounded_sums}};
}

Json export_checkpoint(const Json& request) {
  const fs::path checkpoint = request.at("checkpoint").get<std::string>();
  const fs::path output = request.at("output").get<std::string>();
  const Weights found = read_weights(checkpoint);
  ResNetOptions options = network_of(found);
  options.quantization = quantization_of(found, request.value("quantization", Json::object()));
  ResNet network(options);
  load_weights(network, found);
  const OnnxExportOptions how = options_from(request, found.images);
  const OnnxExport made = export_onnx(network, output, how);
  return to_json(network, made, how);
}

}  // namespace haqa
