#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/model/model_info.h"
#include "haqa/model/quant_rules.h"

namespace haqa {

/// How the model will be run; the defaults hold the paper's 128 tokens in and 256 out.
struct MemoryUse {
  int n_ctx = 512;                             ///< tokens of context
  std::string type_k = "f16", type_v = "f16";  ///< llama.cpp's names of KV cache types
  int n_batch = 2048, n_ubatch = 512;
  /// Tokens of a micro-batch whose logits are kept: 1 as in llama-server with one slot; 0: all, as libllama does unless
  /// told otherwise, and llama-bench with it.
  int n_outputs = 1;
  bool flash_attention = true;
  uint64_t adapter_bytes = 0;  ///< a LoRA adapter loaded beside the weights
  bool amx =
      false;  ///< on a processor with Intel's AMX, for which llama.cpp lays weights out anew, some of them larger
};

/// All in bytes; total = weights + kv_cache + compute + adapter + overhead.
struct MemoryRow {
  BitWidth bit_width = BitWidth::fp16;
  std::string gguf_type;
  uint64_t weights = 0, kv_cache = 0, compute = 0, adapter = 0, overhead = 0;
  bool fits = true;
  uint64_t total() const { return weights + kv_cache + compute + adapter + overhead; }
};

struct MemoryPlan {
  std::optional<uint64_t> limit;  ///< bytes
  MemoryUse use;
  std::vector<MemoryRow> rows;  ///< one per bit width, its plainest GGUF type
  bool any_fits() const;
};

/// Bytes of the KV cache and of the compute buffers as llama.cpp's CPU back end allocates them.
uint64_t kv_cache_bytes(const ModelInfo& model, const MemoryUse& use);
uint64_t compute_bytes(const ModelInfo& model, const MemoryUse& use);

/// A quantization to `gguf_type`; where the file has that main type already ("Q4_K" of a Q4_K_M), the file as it is.
MemoryRow plan_row(const ModelInfo& model, std::string_view gguf_type, const MemoryUse& use);
MemoryPlan plan_memory(const ModelInfo& model, const MemoryUse& use, std::optional<uint64_t> limit);

/// For a plan in which nothing fits: by how much, and which levers (context, KV type, micro-batch, smaller model) would
/// make it fit, each with the figure it leads to.
std::string explain_no_fit(const ModelInfo& model, const MemoryPlan& plan);

/// [{"bit_width","gguf_type","weights_bytes","kv_cache_bytes","compute_bytes","adapter_bytes","overhead_bytes",
///   "total_bytes","fits"}]
Json to_json(const MemoryPlan& plan);

}  // namespace haqa
