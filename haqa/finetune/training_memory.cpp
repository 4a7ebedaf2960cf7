#include "haqa/finetune/training_memory.h"

#include <algorithm>
#include <cmath>

#include "haqa/base/error.h"

namespace haqa {
namespace {

constexpr int64_t kLogitsChunk = 256;  // rows: train/functions.h
/// Measured of a training of a model of hardly any weights.
constexpr uint64_t kProgram = 130u << 20;

bool is_frozen(const TensorInfo& tensor) {
  return tensor.name.starts_with("blk.") && tensor.shape.size() == 2;
}

/// Of one weight of an adapter: itself, its gradient, and what AdamW keeps of it here.
int64_t bytes_per_adapter_weight(const TrainingUse& use) {
  if (use.gpu && use.optimizer_states != "fp32") return 4 + 4;  // those are in main memory
  return 4 + 4 + (use.optimizer_states == "int8" ? 2 : 8);
}

double bits_per_weight(const TensorInfo& tensor, const TrainingUse& use) {
  const std::string& format = use.base;
  if (format == "nf4_double") return 4 + 8.0 / 64 + 32.0 / (64 * 256);
  if (format == "nf4" || format == "fp4") return 4 + 32.0 / 64;
  if (format == "int8") return 8 + 32.0 / static_cast<double>(tensor.shape[0]);
  if (format == "gguf") return use.gpu ? (use.bf16 ? 16 : 32) : 0;  // whole on a GPU; else the file's own pages
  throw UsageError("'{}' is no format that the memory of a training is known for", format);
}

/// Bytes a token that a layer keeps.
int64_t kept_by_layer(const ModelInfo& m, const TrainingUse& use) {
  const int64_t number = use.bf16 ? 2 : 4;
  const int64_t width = m.n_embd, inner = m.n_ff;
  const int64_t queries = static_cast<int64_t>(m.n_head) * m.n_embd_head_k;
  const int64_t keys = static_cast<int64_t>(m.n_head_kv) * m.n_embd_head_k;
  const int64_t inputs = width + queries + width + inner;  // of the adapters, before q, o, gate and down
  const int64_t attention = queries + 2 * keys + (use.dropout || use.sequences > 1 ? queries : 0);
  const int64_t others = 2 * width + 2 * inner;  // before the norms; gate and up
  return number * (inputs + attention + others + 7 * use.rank) + (use.dropout ? inputs : 0);
}

}  // namespace

TrainingMemory training_memory(const ModelInfo& m, const TrainingUse& use) {
  const int64_t number = use.bf16 ? 2 : 4;
  TrainingMemory memory;
  double base_bits = 0;
  int64_t adapter_weights = 0, largest = 0;
  for (const TensorInfo& tensor : m.tensors) {
    if (!is_frozen(tensor)) continue;
    base_bits += bits_per_weight(tensor, use) * static_cast<double>(tensor.elements());
    if (is_lora_target(tensor.name, use.targets)) adapter_weights += use.rank * (tensor.shape[0] + tensor.shape[1]);
    largest = std::max(largest, tensor.elements());
  }
  const auto bytes = [](int64_t n) { return static_cast<uint64_t>(n); };
  const int64_t vocabulary = static_cast<int64_t>(m.n_vocab) * m.n_embd;
  const int64_t of_layer = use.tokens * kept_by_layer(m, use), of_input = use.tokens * m.n_embd * number;
  memory.base = static_cast<uint64_t>(std::ceil(base_bits / 8));
  memory.output = bytes(vocabulary * number);
  memory.adapters = bytes(bytes_per_adapter_weight(use) * adapter_weights);
  memory.activations = bytes(use.checkpointing ? m.n_layer * of_input + of_layer : m.n_layer * of_layer);
  memory.logits = bytes(3 * 4 * kLogitsChunk * m.n_vocab);
  memory.passing = bytes(2 * largest * number + 3 * use.tokens * m.n_ff * number);
  memory.program = kProgram;
  return memory;
}

}  // namespace haqa
