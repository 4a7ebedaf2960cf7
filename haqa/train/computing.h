#pragma once
#include <cstdint>
#include <string>

#include "haqa/train/torch.h"

namespace haqa {

/// The type of products and activations: "fp32" or "bf16". Throws UsageError.
at::ScalarType compute_type(const std::string& name);

/// "cpu" or "cuda". Throws UsageError, also where libtorch finds no CUDA.
at::Device device_named(const std::string& name);

/// The largest memory of this process, but for pages of files, which can be dropped: those that are held now are the
/// model's, and were held at the peak. Source: proc(5).
uint64_t peak_bytes();

}  // namespace haqa
