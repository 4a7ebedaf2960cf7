#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "haqa/images/augmentation.h"
#include "haqa/vision/resnet.h"

namespace haqa {

struct OnnxExportOptions {
  bool four_bits = true;  ///< weights of up to 4 bits take 4 in the file, which needs version 21 of ONNX's operators
  bool exact = false;     ///< sums with shortcuts are taken in floats where whole numbers would round them
  std::optional<Normalization> pixels;  ///< the file's network scales its input, values from 0 to 1, itself
  std::vector<std::string> classes;     ///< names for the file's note "classes", a list in JSON; none: no note
};

/// What became of the convolutions and of the last layer.
struct OnnxExport {
  int64_t opset = 0;
  int64_t integer_layers = 0;  ///< compute with whole numbers
  int64_t float_layers = 0;
  int64_t weights = 0;          ///< that are whole numbers in the file
  int64_t rounded_weights = 0;  ///< of them, those that are not exactly what was trained
  int64_t rounded_sums = 0;     ///< sums with shortcuts that are rounded once more than in training
};

/// Writes the network as it computes in evaluation to a file of ONNX, whole or not at all: input "images" [n, 3,
/// height, width], output "logits" [n, classes].
///
/// Quantized activations of up to 8 bits are UINT8, quantized weights of up to 8 bits INT8, each with the trained
/// scale, in the form that ONNX Runtime makes integer products of; normalizations are folded into scales and biases by
/// channel, so that the whole numbers stay those of the training. What has more bits is computed in floats, and so are
/// products that read floats, or whose result another product is added to unrounded. Two things are rounded that
/// training left:
/// - Weights of 8 bits are odd numbers from -255 to 255 in DoReFa's scale: in channels where one is beyond 127 they go
///   to the nearest of INT8's, at most half a step away.
/// - Before a shortcut is added to them, sums of activations of 8 bits, and of PACT's where the bounds differ, go to
///   the nearest of 256 steps. Not so where `exact`; DoReFa's of up to 7 bits lose nothing.
///
/// Throws Error (no space, no permission).
OnnxExport export_onnx(const ResNet& network, const std::filesystem::path& file, const OnnxExportOptions& options = {});

}  // namespace haqa
