#pragma once
#include <string>
#include <vector>

#include "haqa/model/model_info.h"

namespace haqa {

/// The tensors that llama.cpp's converter writes for a model, in its order: matrices F16; norms, biases and position
/// embeddings F32. Reads the sizes and tied_output of `model`, not its tensors.
/// Source: conversion/base.py, conversion/llama.py and conversion/gpt2.py in llama.cpp.
std::vector<TensorInfo> converted_tensors(const ModelInfo& model);

/// Bytes of a tensor of this shape in a type ("Q4_K"). Throws UsageError for an unknown type or a row that its blocks
/// do not divide.
uint64_t tensor_bytes(const std::vector<int64_t>& shape, const std::string& type);

/// The layer in "blk.12.attn_q.weight"; -1 where there is none.
int layer_of(const std::string& tensor_name);

}  // namespace haqa
