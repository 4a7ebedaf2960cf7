#pragma once
#include <ggml.h>

#include <cstdint>
#include <string_view>

#include "haqa/model/memory_plan.h"
#include "haqa/model/model_info.h"

namespace haqa {

/// A batch as llama.cpp reserves memory for it.
struct GraphSize {
  int64_t n_tokens = 512;   ///< tokens computed at once
  int64_t n_outputs = 512;  ///< tokens whose logits are kept
  int64_t n_kv = 512;       ///< cells of the KV cache
};

/// Bytes of the buffer that holds every intermediate result of one batch. No formula: the graph of the model is built
/// without data and given to ggml's own graph allocator, which lays out tensors that do not live at the same time over
/// each other. The graph repeats llama.cpp's src/models/llama.cpp and gpt2.cpp operation by operation, so the figure is
/// exact for llama.cpp 0.5.0; memory_plan_test.cpp compares.
uint64_t compute_graph_bytes(const ModelInfo& model, const MemoryUse& use, const GraphSize& size);

/// The type of a KV cache from llama.cpp's name ("q8_0"). Throws UsageError that lists the names.
enum ggml_type kv_cache_type(std::string_view name);

}  // namespace haqa
