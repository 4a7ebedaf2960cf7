#pragma once
#include <functional>

#include "haqa/base/json.h"

namespace haqa {

/// What the worker haqa-kernel does for one request:
///   command        "verify": compile and verify; "measure": and time beside others
///   kernel         folder of the specification; engine: "cpu", "opencl"
///   type, shape    the problem
///   configuration  of the engine's space; source: text in place of the shipped one (empty or missing: that)
///   threads        those of llama.cpp, and what a configuration without "threads" gets
///   against        "ggml", "default" (this kernel's default variant), "openblas" (where it is installed), "read"
///   (reading its weights alone): what it is timed beside; the first
///                  is what all ratios refer to
///   cold           caches as measured (missing: as the specification says); seconds, rotations (at least): of timing
///   machine        {"cores", "fp32", "int8", "bandwidth", "last_level_cache", "copies"}; seed
///   timeout        seconds that a contestant may take for what it is asked at once
///   rebuild        compile even where the cache has it
/// The answer: {"compile_s", "cached", "verify_s"}, of a device's engine its "device", and of timing {"us", "times":
/// {NAME: {"us", "ratio", "low", "high", "samples_us"}}, "busy": the share of the machine that others used,
/// "disturbed": of the rounds in which they held up a contestant, "drift": how much slower it was in the second
/// half, "packed_bytes", "partly_cold" where copies of the weights fit into the caches}, and "no_landlock" where a
/// compiler with a strange source can read any file; or {"fault", "message"} where the variant has one.
Json measure_kernel(const Json& request, const std::function<void(double)>& progress);

}  // namespace haqa
