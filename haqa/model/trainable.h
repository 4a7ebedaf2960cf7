#pragma once
#include "haqa/model/model_info.h"

namespace haqa {

/// Throws Error that says why where the model in training (train/llama.h) is not the model of this file: another
/// architecture than llama, biases, fused projections, rotary positions that are scaled otherwise than in a line or by
/// LLaMA 3's factors, a vocabulary of another size than the embedding. Reads the file's header.
void check_trainable(const ModelInfo& model);

}  // namespace haqa
