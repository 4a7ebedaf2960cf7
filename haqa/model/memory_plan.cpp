#include "haqa/model/memory_plan.h"

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/model/compute_graph.h"
#include "haqa/model/gguf_file.h"
#include "haqa/model/tensor_list.h"

namespace haqa {
namespace {

constexpr int64_t kCellsPad = 256;  // llama.cpp rounds the context up to this many cells
// Beyond what any model takes; within, no product of sizes overflows.
constexpr int kMaxTokens = 1 << 27, kMaxBatch = 1 << 20;

int64_t context_tokens(const ModelInfo& model, const MemoryUse& use) {
  const bool possible = use.n_ctx >= 0 && use.n_ctx <= kMaxTokens && use.n_batch >= 1 && use.n_batch <= kMaxBatch &&
                        use.n_ubatch >= 0 && use.n_ubatch <= kMaxBatch;
  if (!possible)
    throw UsageError(
        "a context of {} tokens with n_batch {} and n_ubatch {} cannot run; give 1 to {} tokens and batches of 1 to {}",
        use.n_ctx, use.n_batch, use.n_ubatch, kMaxTokens, kMaxBatch);
  return use.n_ctx == 0 ? std::min(model.n_ctx_train, kMaxTokens) : use.n_ctx;
}

int64_t cache_cells(const ModelInfo& model, const MemoryUse& use) {
  return (context_tokens(model, use) + kCellsPad - 1) / kCellsPad * kCellsPad;
}

/// What llama_init_from_model refuses, and heads that are no whole blocks, which it lets pass without flash attention.
void check_cache_types(const ModelInfo& model, const MemoryUse& use) {
  if (ggml_is_quantized(kv_cache_type(use.type_v)) && !use.flash_attention)
    throw UsageError("a {} V cache needs flash attention; turn it on or take f16", use.type_v);
  const auto check = [&](const std::string& type, int width) {
    if (width % ggml_blck_size(kv_cache_type(type)) != 0)
      throw UsageError("a {} KV cache needs heads whose width is a multiple of {}, but {}'s are {} wide; take f16",
                       type, ggml_blck_size(kv_cache_type(type)), model.name, width);
  };
  check(use.type_k, model.n_embd_head_k);
  check(use.type_v, model.n_embd_head_v);
}

GraphSize graph_size(const ModelInfo& model, const MemoryUse& use) {
  const int64_t n_batch = std::min<int64_t>(context_tokens(model, use), use.n_batch);
  const int64_t n_tokens = use.n_ubatch == 0 ? n_batch : std::min<int64_t>(n_batch, use.n_ubatch);
  const int64_t n_outputs = use.n_outputs <= 0 ? n_tokens : std::min<int64_t>(n_tokens, use.n_outputs);
  return {.n_tokens = n_tokens, .n_outputs = n_outputs, .n_kv = cache_cells(model, use)};
}

/// What a llama.cpp process holds besides. Measured as the peak resident memory of llama-bench 0.5.0 (--load-mode none,
/// 16 tokens) less weights, cache and compute buffer: 20.4 to 21.7 MB with LLaMA-2's vocabulary of 32,000, whatever the
/// model's size (39 MB to 2.2 GB) and type; 31.8 MB with GPT-2's of 50,257; 79.8 MB with LLaMA-3's of 128,256, which is
/// reached while it is read, with its merges. Hence 8 MB of program and 600 bytes a token, 6 MB on the safe side.
/// Besides, the CPU back end converts the input of each product to the weight's type, at most two bytes a number, in a
/// work buffer that llama.cpp does not report, and keeps the logits of one token outside the compute buffer.
uint64_t overhead_bytes(const ModelInfo& model, const MemoryUse& use) {
  constexpr uint64_t program = 8'000'000, per_token = 600;
  const auto n_vocab = static_cast<uint64_t>(model.n_vocab),
             widest = static_cast<uint64_t>(std::max(model.n_ff, model.n_embd));
  return program + n_vocab * (per_token + sizeof(float)) +
         2 * widest * static_cast<uint64_t>(graph_size(model, use).n_tokens);
}

/// How llama.cpp's layout for AMX treats a type: rows in blocks of so many numbers, each with so many bytes more.
/// Source: supports_op and get_row_size in llama.cpp's ggml/src/ggml-cpu/amx.
struct AmxType {
  std::string_view type;
  int64_t block, more;
};
constexpr AmxType kAmxTypes[] = {{"F16", 16, 0},   {"Q4_0", 32, 0},  {"Q4_1", 32, 0},  {"Q8_0", 32, 4},
                                 {"Q4_K", 256, 4}, {"Q5_K", 256, 4}, {"Q6_K", 256, 0}, {"IQ4_XS", 256, 2}};

/// The bytes that a product's weights take there besides theirs; nothing where they stay as they are.
std::optional<uint64_t> amx_extra(const TensorInfo& tensor, std::string_view type) {
  const auto known =
      std::find_if(std::begin(kAmxTypes), std::end(kAmxTypes), [&](const AmxType& t) { return t.type == type; });
  constexpr int64_t kRows = 32;
  if (known == std::end(kAmxTypes) || tensor.shape[0] % known->block != 0 || tensor.shape[1] % kRows != 0)
    return std::nullopt;
  return static_cast<uint64_t>(tensor.shape[1] * (tensor.shape[0] / known->block) * known->more);
}

/// What all weights take there besides their bytes: an embedding that is the output too lies there a second time.
uint64_t amx_bytes(const ModelInfo& model, std::string_view gguf_type, bool own) {
  uint64_t sum = 0;
  for (const TensorInfo& tensor : model.tensors) {
    const bool is_embedding = tensor.name == "token_embd.weight";
    const bool is_product = tensor.shape.size() == 2 && tensor.name.ends_with(".weight") &&
                            tensor.name != "position_embd.weight" && tensor.name != "token_types.weight";
    if (!is_product || (is_embedding && !model.tied_output)) continue;
    const std::string type = own ? tensor.type : quantized_type(model, tensor, gguf_type);
    const auto extra = amx_extra(tensor, type);
    if (extra) sum += *extra + (is_embedding ? tensor_bytes(tensor.shape, type) : 0);
  }
  return sum;
}

bool fits(const MemoryRow& row, const std::optional<uint64_t>& limit) {
  return !limit || row.total() <= *limit;
}

}  // namespace

bool MemoryPlan::any_fits() const {
  return std::any_of(rows.begin(), rows.end(), [](const MemoryRow& row) { return row.fits; });
}

uint64_t kv_cache_bytes(const ModelInfo& model, const MemoryUse& use) {
  check_cache_types(model, use);
  const auto row = [&](const std::string& type, int64_t width) {
    return ggml_row_size(kv_cache_type(type), width * model.n_head_kv);
  };
  const uint64_t cell = row(use.type_k, model.n_embd_head_k) + row(use.type_v, model.n_embd_head_v);
  return static_cast<uint64_t>(model.n_layer) * static_cast<uint64_t>(cache_cells(model, use)) * cell;
}

uint64_t compute_bytes(const ModelInfo& model, const MemoryUse& use) {
  check_cache_types(model, use);
  return compute_graph_bytes(model, use, graph_size(model, use));
}

MemoryRow plan_row(const ModelInfo& model, std::string_view gguf_type, const MemoryUse& use) {
  const bool own = gguf_type == model.main_type();
  MemoryRow row;
  row.bit_width = own ? width_of_file(model) : bit_width_of(gguf_type);
  row.gguf_type = gguf_type;
  row.weights = own ? model.weights_bytes() : quantized_bytes(model, gguf_type);
  if (use.amx) row.weights += amx_bytes(model, gguf_type, own);
  row.kv_cache = kv_cache_bytes(model, use);
  row.compute = compute_bytes(model, use);
  row.adapter = use.adapter_bytes;
  row.overhead = overhead_bytes(model, use);
  return row;
}

MemoryPlan plan_memory(const ModelInfo& model, const MemoryUse& use, std::optional<uint64_t> limit) {
  MemoryPlan plan{.limit = limit, .use = use, .rows = {}};
  for (const BitWidth width : all_bit_widths()) {
    MemoryRow& row = plan.rows.emplace_back(plan_row(model, gguf_types(width).front(), use));
    row.fits = fits(row, limit);
  }
  return plan;
}

Json to_json(const MemoryPlan& plan) {
  Json rows = Json::array();
  for (const MemoryRow& row : plan.rows)
    rows.push_back({{"bit_width", to_string(row.bit_width)},
                    {"gguf_type", row.gguf_type},
                    {"weights_bytes", row.weights},
                    {"kv_cache_bytes", row.kv_cache},
                    {"compute_bytes", row.compute},
                    {"adapter_bytes", row.adapter},
                    {"overhead_bytes", row.overhead},
                    {"total_bytes", row.total()},
                    {"fits", row.fits}});
  return rows;
}

}  // namespace haqa
