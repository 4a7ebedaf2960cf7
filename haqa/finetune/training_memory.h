#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "haqa/adapter/adapter.h"
#include "haqa/model/model_info.h"

namespace haqa {

/// What decides how much memory a training of adapters takes (haqa/train).
struct TrainingUse {
  std::string base = "nf4_double";                    ///< format of the frozen weights: train/frozen_matrix.h
  int64_t rank = 16;                                  ///< of the adapters, on every linear layer but the output
  int64_t tokens = 4096;                              ///< in the largest batch
  int64_t sequences = 8;                              ///< in that batch
  bool dropout = true;                                ///< of the adapters' inputs
  bool bf16 = false;                                  ///< activations and products
  bool checkpointing = false;                         ///< of activations
  bool gpu = false;                                   ///< whose memory is counted, then
  std::string optimizer_states = "fp32";              ///< train/adamw.h
  std::vector<std::string> targets = lora_targets();  ///< layers that get an adapter
};

/// Bytes at the peak, by what they are for. Pages of the model's file, which the system can drop, do not count.
struct TrainingMemory {
  uint64_t base = 0;         ///< frozen matrices of the layers
  uint64_t output = 0;       ///< the output matrix, whole
  uint64_t adapters = 0;     ///< weights and gradients, fp32, and two states of AdamW
  uint64_t activations = 0;  ///< kept for the way back
  uint64_t logits = 0;       ///< of the chunk in hand, and what is made of them
  uint64_t passing = 0;      ///< frozen matrices made whole, and the gradients on their way
  uint64_t program = 0;      ///< libtorch, the vocabulary, the examples
  uint64_t total() const { return base + output + adapters + activations + logits + passing + program; }
};

/// What train/llama.cpp and train/functions.cpp keep for the way back, counted: a layer's two inputs of norms, the
/// inputs of its products (with dropout a mask besides), queries, keys, values, what attention gives, gate and up; as
/// if every layer had an adapter. An estimate: within a quarter of what was measured (training_memory_test.cpp). Throws
/// UsageError for a base format that it does not know.
TrainingMemory training_memory(const ModelInfo& model, const TrainingUse& use);

}  // namespace haqa
