#include "haqa/train/llama.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/error.h"
#include "haqa/dataset/split.h"
#include "haqa/model/model_info.h"
#include "haqa/model/trainable.h"

namespace haqa {
namespace {

using torch::Tensor;

std::optional<double> number(const GgufFile& header, const std::string& key) {
  const int64_t id = gguf_find_key(header.context(), key.c_str());
  if (id < 0 || gguf_get_kv_type(header.context(), id) != GGUF_TYPE_FLOAT32) return std::nullopt;
  return gguf_get_val_f32(header.context(), id);
}

}  // namespace

TokenBatch token_batch(const std::vector<int64_t>& tokens, std::vector<int64_t> lengths,
                       const std::vector<int64_t>& scored, const std::vector<int64_t>& targets, at::Device device) {
  const auto tensor = [](const std::vector<int64_t>& values, at::Device where) {
    return torch::tensor(at::ArrayRef<int64_t>(values), at::kLong).to(where, at::kLong, /*non_blocking=*/true);
  };
  return {tensor(tokens, at::kCPU), std::move(lengths), tensor(scored, device), tensor(targets, device)};
}

/// What one pass over the layers needs beside the activations.
struct Llama::Pass {
  Tensor turns;
  std::vector<int64_t> lengths;
  std::optional<uint64_t> seed;
  Tensor scored;  ///< the only places that matter after the last attention
};

Llama::Llama(const std::filesystem::path& file, const LlamaOptions& options)
    : info_(read_model(file)), data_(file), options_(options) {
  check_trainable(info_);
  epsilon_ = number(data_.header(), "llama.attention.layer_norm_rms_epsilon").value_or(1e-5);
  read_rotation();
  if (options_.lora)
    for (const std::string& target : options_.lora->targets)
      if (const auto known = lora_targets(); std::find(known.begin(), known.end(), target) == known.end())
        throw UsageError("'{}' is no layer that takes an adapter; {} are", target, fmt::join(known, ", "));
  at::manual_seed(options_.seed);
  for (int i = 0; i < info_.n_layer; ++i) {
    const auto name = [i](const char* part) { return fmt::format("blk.{}.{}.weight", i, part); };
    layers_.push_back({vector(name("attn_norm")), vector(name("ffn_norm")), linear(name("attn_q")),
                       linear(name("attn_k")), linear(name("attn_v")), linear(name("attn_output")),
                       linear(name("ffn_gate")), linear(name("ffn_up")), linear(name("ffn_down"))});
  }
  output_norm_ = vector("output_norm.weight");
  const std::string output = info_.tied_output ? "token_embd.weight" : "output.weight";
  if (!options_.lora) {
    embedding_ = trained("token_embd.weight", whole("token_embd.weight", at::kFloat));
    output_ = info_.tied_output ? embedding_ : trained(output, whole(output, at::kFloat));
  } else {
    output_ = whole(output, options_.compute);
  }
}

Tensor Llama::whole(const std::string& name, at::ScalarType dtype) const {
  return frozen_matrix(data_, name, BaseFormat::gguf)->whole(dtype).to(options_.device);
}

Tensor Llama::trained(const std::string& name, Tensor value) {
  value.requires_grad_(true);
  parameters_[name] = value;
  return value;
}

Tensor Llama::vector(const std::string& name) {
  const std::vector<float> values = data_.floats(name);
  const Tensor tensor = torch::tensor(at::ArrayRef<float>(values)).to(options_.device);
  return options_.lora ? tensor : trained(name, tensor);
}

Llama::Linear Llama::linear(const std::string& name) {
  Linear linear;
  if (!options_.lora) {
    linear.trained = trained(name, whole(name, at::kFloat));
    return linear;
  }
  auto frozen = frozen_matrix_on(options_.device, options_.compute, data_, name, options_.base);
  const LoraOptions& lora = *options_.lora;
  if (is_lora_target(name, lora.targets)) {
    if (lora.rank < 1 || lora.rank > std::min(frozen->rows(), frozen->columns()))
      throw UsageError("LoRA's rank {} does not fit '{}' of {} x {}; choose 1 to {}", lora.rank, name, frozen->rows(),
                       frozen->columns(), std::min(frozen->rows(), frozen->columns()));
    // As PEFT begins: a uniform within ±1/√columns (Kaiming with a = √5), b zero, so that the adapter changes nothing.
    const double bound = 1 / std::sqrt(static_cast<double>(frozen->columns()));
    Tensor a = at::empty({lora.rank, frozen->columns()}).uniform_(-bound, bound).to(options_.device);
    Tensor b = at::zeros({frozen->rows(), lora.rank}, at::TensorOptions(options_.device));
    linear.lora = {trained(name + ".lora_a", a), trained(name + ".lora_b", b),
                   lora.alpha / static_cast<double>(lora.rank)};
  }
  linear.frozen = std::move(frozen);
  return linear;
}

void Llama::read_rotation() {
  const GgufFile& header = data_.header();
  const std::string scaling = header.text("llama.rope.scaling.type");
  const double factor =
      scaling == "none"
          ? 1
          : number(header, "llama.rope.scaling.factor").value_or(number(header, "llama.rope.scale_linear").value_or(1));
  const double base = number(header, "llama.rope.freq_base").value_or(10000);
  std::vector<double> frequencies;
  for (int i = 0; i < info_.n_embd_head_k / 2; ++i)
    frequencies.push_back(std::pow(base, -2.0 * i / info_.n_embd_head_k) / (factor == 0 ? 1 : factor));
  if (data_.contains("rope_freqs.weight")) {  // LLaMA 3's
    const std::vector<float> factors = data_.floats("rope_freqs.weight");
    if (factors.size() != frequencies.size())
      throw Error("{}: 'rope_freqs.weight' has {} numbers for heads of width {}; convert the model again",
                  info_.file.string(), factors.size(), info_.n_embd_head_k);
    for (size_t i = 0; i < factors.size(); ++i) frequencies[i] /= factors[i];
  }
  frequencies_ = torch::tensor(at::ArrayRef<double>(frequencies), at::kDouble).to(options_.device);
}

Tensor Llama::turns(const std::vector<int64_t>& lengths) const {
  std::vector<Tensor> positions;
  for (const int64_t length : lengths) positions.push_back(at::arange(length, frequencies_.options()));
  const Tensor angles = at::outer(at::cat(positions), frequencies_);
  return at::complex(angles.cos(), angles.sin()).to(at::kComplexFloat);
}

Tensor Llama::embed(const Tensor& tokens) const {
  if (embedding_.defined())
    return at::embedding(embedding_, tokens.to(options_.device, at::kLong, /*non_blocking=*/true)).to(options_.compute);
  const Tensor ids = tokens.contiguous();
  const auto* id = ids.const_data_ptr<int64_t>();
  Tensor rows = at::empty({ids.size(0), info_.n_embd});
  for (int64_t i = 0; i < ids.size(0); ++i)
    data_.read_rows("token_embd.weight", id[i], 1,
                    {rows.data_ptr<float>() + i * info_.n_embd, static_cast<size_t>(info_.n_embd)});
  return rows.to(options_.device, options_.compute, /*non_blocking=*/true);
}

Tensor Llama::apply(const Linear& linear, Input& input) const {
  if (linear.trained.defined()) return at::linear(input.x, linear.trained.to(input.x.scalar_type()));
  return frozen_linear(input.x, input.dropped, input.shared, *linear.frozen, linear.lora);
}

/// q, k and v share one mask, gate and up another: `place` counts the inputs of adapters through the model.
Llama::Input Llama::input(const Tensor& x, const Pass& pass, uint64_t place) const {
  if (!pass.seed || !options_.lora || options_.lora->dropout <= 0) return {x, {}, {}};
  return {x, seeded_dropout(x, options_.lora->dropout, mixed_seed(*pass.seed, place)), {}};
}

Tensor Llama::attention(const Layer& layer, const Tensor& x, const Pass& pass, size_t index) const {
  Input normed = input(rms_norm(x, layer.attn_norm, epsilon_), pass, 4 * index);
  const auto heads = [&](const Linear& linear, int64_t count) {
    return apply(linear, normed).view({-1, count, info_.n_embd_head_k});
  };
  const auto q = rope(heads(layer.q, info_.n_head), pass.turns).split_with_sizes(pass.lengths);
  const auto k = rope(heads(layer.k, info_.n_head_kv), pass.turns).split_with_sizes(pass.lengths);
  const auto v = heads(layer.v, info_.n_head_kv).split_with_sizes(pass.lengths);
  const auto rows_of_heads = [](const Tensor& t) {
    return t.transpose(0, 1).unsqueeze(0);
  };  // [1, heads, length, width]
  std::vector<Tensor> attended;
  for (size_t i = 0; i < pass.lengths.size(); ++i)
    attended.push_back(at::scaled_dot_product_attention(rows_of_heads(q[i]), rows_of_heads(k[i]), rows_of_heads(v[i]),
                                                        {}, 0.0, /*is_causal=*/true, std::nullopt,
                                                        /*enable_gqa=*/info_.n_head != info_.n_head_kv)
                           .squeeze(0)
                           .transpose(0, 1)
                           .flatten(1));
  Tensor together = attended.size() == 1 ? attended[0] : at::cat(attended);
  Tensor residual = x;
  if (pass.scored.defined() && index + 1 == layers_.size()) {
    together = together.index_select(0, pass.scored);
    residual = x.index_select(0, pass.scored);
  }
  Input of_heads = input(together, pass, 4 * index + 1);
  return residual + apply(layer.o, of_heads);
}

Tensor Llama::feed_forward(const Layer& layer, const Tensor& x, const Pass& pass, size_t index) const {
  Input normed = input(rms_norm(x, layer.ffn_norm, epsilon_), pass, 4 * index + 2);
  const Tensor gate = apply(layer.gate, normed), up = apply(layer.up, normed);
  Input inner = input(swiglu(gate, up), pass, 4 * index + 3);
  return x + apply(layer.down, inner);
}

Tensor Llama::forward(const Layer& layer, const Tensor& x, const Pass& pass, size_t index) const {
  return feed_forward(layer, attention(layer, x, pass, index), pass, index);
}

/// A layer of which only the input is kept. Source: Chen et al. 2016. Its parameters get their gradients within the
/// backward pass, so that the graph outside knows of its input alone.
struct Checkpoint : torch::autograd::Function<Checkpoint> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Llama* llama,
                        const Llama::Layer* layer, const Llama::Pass* pass, size_t index) {
    context->save_for_backward({x});
    context->saved_data["layer"] = reinterpret_cast<int64_t>(layer);
    context->saved_data["llama"] = reinterpret_cast<int64_t>(llama);
    context->saved_data["index"] = static_cast<int64_t>(index);
    context->saved_data["lengths"] = pass->lengths;
    context->saved_data["turns"] = pass->turns;
    context->saved_data["scored"] = pass->scored;
    context->saved_data["seeded"] = pass->seed.has_value();
    context->saved_data["seed"] = static_cast<int64_t>(pass->seed.value_or(0));
    return llama->forward(*layer, x, *pass, index);
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    auto& kept = context->saved_data;
    const auto* llama = reinterpret_cast<const Llama*>(kept["llama"].toInt());
    const auto* layer = reinterpret_cast<const Llama::Layer*>(kept["layer"].toInt());
    Llama::Pass pass{kept["turns"].toTensor(), kept["lengths"].toIntVector(), {}, kept["scored"].toTensor()};
    if (kept["seeded"].toBool()) pass.seed = static_cast<uint64_t>(kept["seed"].toInt());
    const at::AutoGradMode with_gradients(true);
    Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    const Tensor y = llama->forward(*layer, x, pass, static_cast<size_t>(kept["index"].toInt()));
    torch::autograd::backward({y}, {gradients[0]});
    return {x.grad(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Tensor Llama::checkpointed(const Layer& layer, const Tensor& x, const Pass& pass, size_t index) const {
  return Checkpoint::apply(x, this, &layer, &pass, index);
}

Tensor Llama::hidden(const TokenBatch& batch, std::optional<uint64_t> dropout_seed) const {
  const Pass pass{turns(batch.lengths), batch.lengths, dropout_seed, batch.scored};
  Tensor x = embed(batch.tokens);
  // The gradient must reach the adapters of every layer, although the first input has none to take.
  const bool keep_inputs_only = options_.checkpointing && at::GradMode::is_enabled();
  if (keep_inputs_only && !x.requires_grad()) x.requires_grad_(true);
  for (size_t i = 0; i < layers_.size(); ++i)
    x = keep_inputs_only ? checkpointed(layers_[i], x, pass, i) : forward(layers_[i], x, pass, i);
  return rms_norm(x, output_norm_, epsilon_);
}

Tensor Llama::summed_loss(const TokenBatch& batch, std::optional<uint64_t> dropout_seed) {
  return summed_cross_entropy(hidden(batch, dropout_seed), output_.to(options_.compute), batch.targets);
}

Tensor Llama::logits(const TokenBatch& batch) {
  const at::NoGradGuard no_grad;
  return at::linear(hidden(batch, {}), output_.to(options_.compute)).to(at::kFloat);
}

Llama::Predictions Llama::predictions(const TokenBatch& batch) {
  constexpr int64_t kPlacesAtOnce = 256;
  const at::NoGradGuard no_grad;
  const Tensor all = hidden(batch, {});
  std::vector<Tensor> log_probabilities, likeliest;
  for (int64_t first = 0; first < all.size(0); first += kPlacesAtOnce) {
    const int64_t n = std::min(kPlacesAtOnce, all.size(0) - first);
    const Tensor logits = at::linear(all.narrow(0, first, n), output_.to(options_.compute)).to(at::kFloat);
    const Tensor targets = batch.targets.narrow(0, first, n);
    const Tensor chosen = logits.gather(1, targets.unsqueeze(1)).squeeze(1);
    log_probabilities.push_back((chosen - logits.logsumexp(1)).to(at::kDouble));
    likeliest.push_back(logits.argmax(1) == targets);
  }
  return {at::cat(log_probabilities).cpu(), at::cat(likeliest).cpu()};
}

uint64_t Llama::base_bytes() const {
  uint64_t sum = 0;
  for (const Layer& layer : layers_)
    for (const Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
      if (linear->frozen) sum += linear->frozen->bytes();
  return sum;
}

}  // namespace haqa
