#pragma once
#include "haqa/base/json.h"
#include "haqa/vision/onnx_export.h"

namespace haqa {

/// The worker's side of `haqa export`: reads "checkpoint" and writes "output" in ONNX's form. How the network is
/// quantized comes from the checkpoint where that knows it, else from "quantization" (any of weight_bits,
/// activation_bits, scaling, first_layer, last_layer; the rest is full precision as trained); what contradicts the
/// checkpoint is refused. "four_bits" and "exact" as in OnnxExportOptions. The file's network scales pixels itself by
/// "mean" and "deviation" (of three), or by those that the checkpoint knows, where not "normalized". Returns what `haqa
/// export --json` prints. Throws Error and UsageError: what read_weights(), load_weights() and export_onnx() throw.
Json export_checkpoint(const Json& request);

/// What it returns of a network and its export.
Json to_json(const ResNet& network, const OnnxExport& made, const OnnxExportOptions& how);

}  // namespace haqa
