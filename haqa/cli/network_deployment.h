#pragma once
#include "haqa/base/progress.h"
#include "haqa/finetune/image_objective.h"

namespace haqa {

/// What networks take where they are deployed: as ONNX files, in ONNX Runtime on this machine. Rows are {"bit_width",
/// "bytes", "size_ratio" (to full precision), "latency_ms" and "speed_up" (over full precision): {"median", "low",
/// "high"}, "memory_bytes" (onnx_runtime.h)}, these three null where ONNX Runtime is not there.

/// The model in full precision and, quantized without training, at each bit width that rounds may choose, measured in
/// turn: what they take does not depend on the training. Those that break a limit have it in words in "left_out".
/// Where ONNX Runtime cannot be had and no limit asks for it, sizes alone are weighed, and that is said.
/// Returns {"runtime", "threads", "candidates": rows}, full precision first. Throws Error where no bit width keeps the
/// limits, or what is limited cannot be measured.
Json measure_candidates(const ImageObjective& objective, Progress& progress);

/// The row of a network that was trained, from its ONNX file, beside full precision; "broken" has the limits that it
/// breaks. measured: what measure_candidates() gave, which says whether ONNX Runtime is there.
Json measure_trained(const ImageObjective& objective, const LayerBits& bits, const std::filesystem::path& file,
                     const Json& measured, Progress& progress);

}  // namespace haqa
