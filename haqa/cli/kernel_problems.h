#pragma once
#include <filesystem>
#include <vector>

#include "haqa/kernel/kernel_spec.h"
#include "haqa/model/model_info.h"

namespace haqa {

/// The kernels that a LLaMA runs, with its shapes: for one token, and for 128 where batches differ; products with the
/// weights in the file's own type where kernels know it, else in F16, Q8_0 and Q4_0.
std::vector<SuiteEntry> kernels_of_model(const ModelInfo& model);

}  // namespace haqa
