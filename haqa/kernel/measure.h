#pragma once
#include <functional>

#include "haqa/base/json.h"

namespace haqa {

/// What the worker haqa-kernel does for one request:
///   command        "verify": compile and verify; "measure": and time beside others
///   kernel         folder of the specification; engine: "cpu", "opencl", "cuda"
///   type, shape    the problem
///   configuration  of the engine's space; source: text in place of the shipped one (empty or missing: that)
///   threads        those of llama.cpp, and what a configuration without "threads" gets
///   against        what it is timed beside, the first of which is what all ratios refer to: "ggml", "default" (this
///                  kernel's default variant), "openblas" (where it is installed), "read" (reading its weights alone)
///   cold           caches as measured (missing: as the specification says)
///   seconds        of timing; rotations: at least
///   machine        {"cores", "fp32", "int8", "bandwidth", "last_level_cache", "copies"} (judge.h); seed
///   timeout        seconds that a contestant may take for what it is asked at once
///   rebuild        compile even where the cache has it, and verify in full
/// The answer:
///   compile_s, verify_s; prebuilt: true where there is no compiler; device: that of a device's engine
///   cached         true where it was neither compiled nor verified in full, as it had passed on this problem before
///   library        the file that was verified, where it was compiled for the engine cpu
///   no_landlock    true where a compiler with a strange source can read any file
///   us, times      of timing: {NAME: {"us", "ratio", "low", "high", "samples_us"}}
///   busy           share of the machine that others used; disturbed: of the rounds in which they held up a contestant
///   drift          how much slower it was in the second half; packed_bytes: of the weights
///   partly_cold    true where copies of the weights fit into the caches
///   fault, message where the variant has one
Json measure_kernel(const Json& request, const std::function<void(double)>& progress);

}  // namespace haqa
