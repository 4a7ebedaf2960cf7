#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "haqa/adapter/adapter.h"
#include "haqa/model/tensor_data.h"
#include "haqa/train/frozen_matrix.h"
#include "haqa/train/functions.h"
#include "haqa/train/torch.h"

namespace haqa {

/// Sequences of tokens, laid one after another: no token is computed for padding.
struct TokenBatch {
  torch::Tensor tokens;          ///< [n] int64, in main memory
  std::vector<int64_t> lengths;  ///< of the sequences; their sum is n
  torch::Tensor scored;          ///< [m] int64: the places in `tokens` whose next token counts for the loss
  torch::Tensor targets;         ///< [m] int64: those next tokens
};
/// scored and targets go to the device of the model, which is not waited for.
TokenBatch token_batch(const std::vector<int64_t>& tokens, std::vector<int64_t> lengths,
                       const std::vector<int64_t>& scored, const std::vector<int64_t>& targets, at::Device device);

struct LoraOptions {
  int64_t rank = 16;
  double alpha = 8;  ///< the adapter is scaled by alpha / rank
  double dropout = 0.05;
  std::vector<std::string> targets = lora_targets();  ///< adapter/adapter.h
};

struct LlamaOptions {
  std::optional<LoraOptions> lora;      ///< empty: every weight is trained
  BaseFormat base = BaseFormat::gguf;   ///< of the frozen weights
  at::ScalarType compute = at::kFloat;  ///< of activations and products: kFloat or kBFloat16
  at::Device device = at::kCPU;
  bool checkpointing = false;  ///< each layer keeps its input alone and is computed again on the way back
  uint64_t seed = 0;           ///< of the adapters' first values
};

/// A LLaMA to train, read from a GGUF file: RMSNorm, rotary positions (with LLaMA 3's factors or linear scaling),
/// grouped-query attention, SwiGLU, a tied or a separate output.
/// Sources: Touvron et al. 2023; Dubey et al. 2024; llama.cpp's src/models/llama.cpp, whose layout of weights it keeps.
class Llama {
 public:
  /// Throws Error for another architecture and for what llama.cpp computes otherwise: biases, fused projections, YaRN.
  /// Throws UsageError for a rank above a layer's width and for an unknown target.
  Llama(const std::filesystem::path& file, const LlamaOptions& options);

  /// Sum of the cross-entropy over the scored tokens, with a gradient. seed: of the dropout in this pass; unused in
  /// evaluation.
  torch::Tensor summed_loss(const TokenBatch& batch, std::optional<uint64_t> dropout_seed = {});
  /// [m, n_vocab] of the scored places, without a gradient.
  torch::Tensor logits(const TokenBatch& batch);

  struct Predictions {
    torch::Tensor log_probability;  ///< [m] float64: of each target
    torch::Tensor likeliest;        ///< [m] bool: whether it has the largest logit
  };
  /// What it says of the targets; the logits exist for a few places at a time.
  Predictions predictions(const TokenBatch& batch);

  /// What is trained, by the GGUF's names; adapters as NAME.lora_a and NAME.lora_b.
  const std::map<std::string, torch::Tensor>& parameters() const { return parameters_; }
  const TensorData& data() const { return data_; }
  const ModelInfo& info() const { return info_; }
  const LlamaOptions& options() const { return options_; }
  uint64_t base_bytes() const;  ///< of the frozen matrices

 private:
  /// Trained whole, or frozen with or without an adapter.
  struct Linear {
    torch::Tensor trained;
    std::unique_ptr<FrozenMatrix> frozen;
    std::optional<LoraWeights> lora;
  };
  struct Layer {
    torch::Tensor attn_norm, ffn_norm;
    Linear q, k, v, o, gate, up, down;
  };
  struct Pass;
  /// Of linear layers: what those that read the same share.
  struct Input {
    torch::Tensor x;
    std::optional<torch::Tensor> dropped;
    SharedInput shared;
  };

  Linear linear(const std::string& name);
  torch::Tensor vector(const std::string& name);
  torch::Tensor whole(const std::string& name, at::ScalarType dtype) const;
  torch::Tensor trained(const std::string& name, torch::Tensor value);
  void read_rotation();
  torch::Tensor embed(const torch::Tensor& tokens) const;
  torch::Tensor turns(const std::vector<int64_t>& lengths) const;
  Input input(const torch::Tensor& x, const Pass& pass, uint64_t place) const;
  torch::Tensor apply(const Linear& linear, Input& input) const;
  torch::Tensor attention(const Layer& layer, const torch::Tensor& x, const Pass& pass, size_t index) const;
  torch::Tensor feed_forward(const Layer& layer, const torch::Tensor& x, const Pass& pass, size_t index) const;
  torch::Tensor forward(const Layer& layer, const torch::Tensor& x, const Pass& pass, size_t index) const;
  torch::Tensor checkpointed(const Layer& layer, const torch::Tensor& x, const Pass& pass, size_t index) const;
  torch::Tensor hidden(const TokenBatch& batch, std::optional<uint64_t> dropout_seed) const;

  friend struct Checkpoint;

  ModelInfo info_;
  TensorData data_;
  LlamaOptions options_;
  double epsilon_ = 1e-5;
  torch::Tensor frequencies_;  ///< [width of a head / 2] float64: radians a position
  std::map<std::string, torch::Tensor> parameters_;
  torch::Tensor embedding_;  ///< [n_vocab, n_embd] where it is trained
  std::vector<Layer> layers_;
  torch::Tensor output_norm_;
  torch::Tensor output_;  ///< [n_vocab, n_embd]
};

}  // namespace haqa
