#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace haqa {

struct TensorInfo {
  std::string name;            ///< "blk.0.attn_q.weight"
  std::string type;            ///< ggml's name in capitals: "F16", "Q4_K"
  std::vector<int64_t> shape;  ///< ggml's order: the row's length first
  uint64_t bytes = 0;
  int64_t elements() const;
};

/// What planning needs to know of a model, from a GGUF file or from an architecture's published numbers.
struct ModelInfo {
  std::filesystem::path file;  ///< empty where only the architecture is known
  std::string name;            ///< general.name, or the file's name
  std::string architecture;    ///< general.architecture: "llama", "gpt2"
  int n_layer = 0, n_embd = 0, n_head = 0, n_head_kv = 0, n_ff = 0, n_vocab = 0, n_ctx_train = 0;
  int n_embd_head_k = 0, n_embd_head_v = 0;  ///< width of one head's key and value
  bool tied_output = false;                  ///< the output matrix is the token embedding
  std::vector<TensorInfo> tensors;

  int64_t parameters() const;  ///< elements of all tensors
  uint64_t weights_bytes() const;
  /// The type most of the weights have: "F16" for a file to quantize, "Q4_K" for one that is quantized.
  std::string main_type() const;
};

/// Reads the header of a GGUF file through ggml. Supported: llama and gpt2.
/// Throws Error in one sentence for: no such file, a folder, not a GGUF, truncated or corrupt, another architecture,
/// a vocabulary without weights.
ModelInfo read_model(const std::filesystem::path& file);

/// A model known by name alone, as F16: llama2-7b, llama2-13b, llama3.2-3b, llama3-8b, openllama-3b, tinyllama-1.1b,
/// gpt2-large (data/architectures/NAME.json, figures from the models' published configurations).
/// Throws UsageError that lists the names.
ModelInfo architecture(std::string_view name);
std::vector<std::string> architecture_names();

}  // namespace haqa
