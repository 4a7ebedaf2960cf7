#include "haqa/train/llama.h"

#include <gtest/gtest.h>
#include <llama.h>

#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"
#include "haqa/train/trainer.h"

namespace haqa {
namespace {

TokenBatch batch_of(const std::vector<int64_t>& lengths) {
  TokenBatch batch;
  batch.lengths = lengths;
  int64_t n = 0;
  for (const int64_t length : lengths) n += length;
  batch.tokens = at::arange(n).mul(7919).remainder(31000).add(100);
  batch.scored = at::arange(n);
  batch.targets = at::arange(n).mul(104729).remainder(31000);
  return batch;
}

/// [n, n_vocab] by llama.cpp.
torch::Tensor logits_by_llama_cpp(const std::filesystem::path& file, const torch::Tensor& tokens) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model_params weights = llama_model_default_params();
  weights.use_extra_bufts = false;  // as they are in the file, not in another layout for this processor
  llama_model* model = llama_model_load_from_file(file.c_str(), weights);
  const auto n = static_cast<uint32_t>(tokens.size(0));
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = n;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* context = llama_init_from_model(model, params);
  llama_batch batch = llama_batch_init(static_cast<int32_t>(n), 0, 1);
  batch.n_tokens = static_cast<int32_t>(n);
  for (uint32_t i = 0; i < n; ++i) {
    batch.token[i] = static_cast<llama_token>(tokens[i].item<int64_t>());
    batch.pos[i] = static_cast<llama_pos>(i);
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  EXPECT_EQ(llama_decode(context, batch), 0);
  const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
  torch::Tensor logits = torch::from_blob(llama_get_logits(context), {n, n_vocab}).clone();
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
  return logits;
}

struct Variant {
  std::string name;
  int n_head, n_head_kv;
  bool tied;
  double linear_scaling = 0;       // of the rotary positions
  bool frequency_factors = false;  // LLaMA 3's
};

void PrintTo(const Variant& variant, std::ostream* out) {  // else the test's name holds its bytes
  *out << variant.name;
}

class LlamaTest : public testing::TestWithParam<Variant> {
 protected:
  /// A small model with random weights; f32: its matrices in full precision, as llama.cpp rounds activations to F16
  /// before they meet F16 weights.
  std::filesystem::path model(bool f32 = false) const {
    const ModelShape shape{.name = "t",
                           .n_layer = 3,
                           .n_embd = 128,
                           .n_head = GetParam().n_head,
                           .n_head_kv = GetParam().n_head_kv,
                           .n_ff = 352,
                           .n_ctx_train = 512,
                           .tied_output = GetParam().tied};
    const auto file = folder_ / "f16.gguf";
    make_model(shape, default_vocabulary(), 1, file);
    rewrite(file, folder_ / "changed.gguf", f32);
    return folder_ / "changed.gguf";
  }

 private:
  void rewrite(const std::filesystem::path& from, const std::filesystem::path& to, bool f32) const {
    const TensorData data(from);
    const GgufPtr g(gguf_init_empty());
    gguf_set_kv(g.get(), data.header().context());
    if (GetParam().linear_scaling > 0) {
      gguf_set_val_str(g.get(), "llama.rope.scaling.type", "linear");
      gguf_set_val_f32(g.get(), "llama.rope.scaling.factor", static_cast<float>(GetParam().linear_scaling));
    }
    const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
        ggml_init({.mem_size = size_t{256} << 20, .mem_buffer = nullptr, .no_alloc = false}), ggml_free);
    const auto add = [&](const std::string& name, ggml_type type, const std::vector<int64_t>& shape) {
      ggml_tensor* added = ggml_new_tensor(context.get(), type, static_cast<int>(shape.size()), shape.data());
      ggml_set_name(added, name.c_str());
      gguf_add_tensor(g.get(), added);
      return added;
    };
    for (const TensorInfo& tensor : data.tensors()) {
      const bool widens = f32 && tensor.type == "F16";
      ggml_tensor* added = add(tensor.name, widens ? GGML_TYPE_F32 : ggml_type_named(tensor.type), tensor.shape);
      const std::vector<float> values = widens ? data.floats(tensor.name) : std::vector<float>();
      const auto bytes = widens ? std::as_bytes(std::span(values)) : data.bytes(tensor.name);
      std::copy(bytes.begin(), bytes.end(), static_cast<std::byte*>(added->data));
    }
    if (GetParam().frequency_factors) {
      const int64_t n = 128 / GetParam().n_head / 2;
      auto* factors = static_cast<float*>(add("rope_freqs.weight", GGML_TYPE_F32, {n})->data);
      for (int64_t i = 0; i < n; ++i) factors[i] = 2 * i < n ? 1.0f : 8.0f;
    }
    gguf_write_to_file(g.get(), to.c_str(), /*only_meta=*/false);
  }

  TemporaryFolder folder_;
};

double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST_P(LlamaTest, LogitsAreThoseOfLlamaCpp) {
  struct Case {
    bool f32;
    double tolerance;  // of the deviation of the logits, which is 2
    double same_top;   // random weights make near ties, which llama.cpp's rounding of activations to F16 decides
  };
  for (const Case& c : {Case{true, 1e-4, 0.995}, Case{false, 2e-2, 0.97}})
    for (const bool lora : {false, true}) {
      const auto file = model(c.f32);
      const TokenBatch batch = batch_of({200});
      const torch::Tensor reference = logits_by_llama_cpp(file, batch.tokens);
      LlamaOptions options;
      if (lora) options.lora = LoraOptions{};
      const torch::Tensor ours = Llama(file, options).logits(batch);
      EXPECT_LT(largest_difference(ours, reference), c.tolerance * reference.std().item<double>());
      EXPECT_GT((ours.argmax(1) == reference.argmax(1)).to(at::kFloat).mean().item<double>(), c.same_top);
    }
}

TEST_P(LlamaTest, SequencesOfABatchDoNotSeeEachOther) {
  const auto file = model();
  LlamaOptions options;
  options.lora = LoraOptions{};
  Llama llama(file, options);
  const TokenBatch all = batch_of({5, 1, 30});
  const torch::Tensor together = llama.logits(all);
  int64_t first = 0;
  for (const int64_t length : all.lengths) {
    TokenBatch alone;
    alone.tokens = all.tokens.narrow(0, first, length);
    alone.lengths = {length};
    alone.scored = at::arange(length);
    EXPECT_LT(largest_difference(llama.logits(alone), together.narrow(0, first, length)), 1e-4);
    first += length;
  }
}

/// The gradients of all parameters after one backward pass.
std::map<std::string, torch::Tensor> gradients(Llama& llama, const TokenBatch& batch) {
  for (const auto& [name, parameter] : llama.parameters()) parameter.mutable_grad() = torch::Tensor();
  llama.summed_loss(batch, 7).backward();
  std::map<std::string, torch::Tensor> all;
  for (const auto& [name, parameter] : llama.parameters()) all[name] = parameter.grad().clone();
  return all;
}

/// b starts at zero, where a has no gradient.
void shake(Llama& llama) {
  const at::NoGradGuard no_grad;
  at::manual_seed(3);
  for (const auto& [name, parameter] : llama.parameters())
    if (name.ends_with("lora_b")) parameter.normal_(0, 0.02);
}

TEST_P(LlamaTest, GradientsAreTheSlopeOfTheLoss) {
  const auto file = model();
  LlamaOptions options;
  options.lora = LoraOptions{.rank = 4, .alpha = 8, .dropout = 0};
  Llama llama(file, options);
  shake(llama);
  TokenBatch batch = batch_of({12, 9});
  batch.scored = torch::tensor({3, 4, 5, 13, 20});
  batch.targets = batch.targets.narrow(0, 0, 5);
  const auto slopes = gradients(llama, batch);
  for (const auto& [name, parameter] : llama.parameters()) {
    const at::NoGradGuard no_grad;
    // Along the gradient itself, where the slope is the largest: loss(+h) - loss(-h) = 2 h |g|.
    const torch::Tensor direction = slopes.at(name) / slopes.at(name).norm();
    const double h = 2e-2;
    parameter.add_(direction, h);
    const double above = llama.summed_loss(batch).item<double>();
    parameter.sub_(direction, 2 * h);
    const double below = llama.summed_loss(batch).item<double>();
    parameter.add_(direction, h);
    const double slope = slopes.at(name).norm().item<double>();
    EXPECT_NEAR((above - below) / (2 * h), slope, 0.02 * slope + 2e-3) << name;
  }
}

TEST_P(LlamaTest, CheckpointingChangesNoGradient) {
  const auto file = model();
  const TokenBatch batch = batch_of({12, 9});
  std::map<std::string, torch::Tensor> reference;
  for (const bool checkpointing : {false, true}) {
    LlamaOptions options;
    options.lora = LoraOptions{.rank = 4, .alpha = 8, .dropout = 0.1};
    options.checkpointing = checkpointing;
    Llama llama(file, options);
    shake(llama);
    const auto slopes = gradients(llama, batch);
    if (!checkpointing) reference = slopes;
    for (const auto& [name, slope] : slopes) EXPECT_LT(largest_difference(slope, reference.at(name)), 1e-5) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LlamaTest,
                         testing::Values(Variant{"multi_head", 4, 4, false}, Variant{"grouped", 8, 2, false},
                                         Variant{"tied", 4, 2, true}, Variant{"linear_scaling", 4, 4, false, 4},
                                         Variant{"llama3_factors", 8, 2, true, 0, true}),
                         [](const auto& variant) { return variant.param.name; });

/// Bases in the types of blocks that GGUF files have. Rows are multiples of 256, as those of K-quants must be.
class QuantizedLlamaTest : public testing::TestWithParam<std::pair<const char*, llama_ftype>> {
 protected:
  QuantizedLlamaTest() {
    make_model({.name = "t", .n_layer = 3, .n_embd = 256, .n_head = 8, .n_head_kv = 4, .n_ff = 512, .n_ctx_train = 512},
               default_vocabulary(), 1, folder_ / "f16.gguf");
    convert(folder_ / "f16.gguf", quantized_, GetParam().second);
    convert(quantized_, copy_, LLAMA_FTYPE_ALL_F32);
  }
  /// By llama.cpp's own quantizer.
  static void convert(const std::filesystem::path& from, const std::filesystem::path& to, llama_ftype type) {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_backend_init();
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = type;
    params.nthread = 2;
    params.allow_requantize = true;
    ASSERT_EQ(llama_model_quantize(from.c_str(), to.c_str(), &params), 0u);
  }

  TemporaryFolder folder_;
  const std::filesystem::path quantized_ = folder_ / "quantized.gguf";
  const std::filesystem::path copy_ = folder_ / "copy.gguf";  ///< the same numbers in F32
};

double root_mean_square(const torch::Tensor& x) {
  return x.square().mean().sqrt().item<double>();
}

// llama.cpp rounds activations to 8 bits in blocks before they meet quantized weights; we do not. Against its logits of
// the same numbers in F32, where it rounds nothing, ours are exact. Against those of the quantized file they are as far
// off as its own of the copy: by its rounding, about half a percent a product and 1.0 to 1.5 in all.
TEST_P(QuantizedLlamaTest, LogitsAreThoseOfLlamaCpp) {
  EXPECT_EQ(read_model(quantized_).main_type(), GetParam().first);
  const TokenBatch batch = batch_of({200});
  LlamaOptions options;
  options.lora = LoraOptions{};
  const torch::Tensor ours = Llama(quantized_, options).logits(batch);
  const torch::Tensor exact = logits_by_llama_cpp(copy_, batch.tokens);
  const torch::Tensor rounded = logits_by_llama_cpp(quantized_, batch.tokens);
  const double deviation = exact.std().item<double>();
  EXPECT_LT(largest_difference(ours, exact), 1e-4 * deviation);
  const double its_own = root_mean_square(exact - rounded);
  EXPECT_NEAR(root_mean_square(ours - rounded), its_own, 0.01 * its_own);
  EXPECT_LT(its_own, 0.03 * deviation);
}

TEST_P(QuantizedLlamaTest, AStepOfTrainingIsThatOnTheSameNumbers) {
  std::vector<TokenExample> examples(2);
  for (int32_t i = 0; i < 40; ++i) {
    examples[i % 2].tokens.push_back(100 + i * 7919 % 31000);
    examples[i % 2].counts.push_back(i > 10);
  }
  const auto step = [&](const std::filesystem::path& file, std::map<std::string, torch::Tensor>& after) {
    LlamaOptions options;
    options.lora = LoraOptions{.rank = 4, .alpha = 8};
    Llama llama(file, options);
    shake(llama);
    const double loss =
        Trainer(llama, examples, {.batch = 2, .accumulation = 1, .steps = 1, .warmup_ratio = 0}).step().loss;
    for (const auto& [name, parameter] : llama.parameters()) after[name] = parameter.detach();
    return loss;
  };
  std::map<std::string, torch::Tensor> ours, reference;
  EXPECT_EQ(step(quantized_, ours), step(copy_, reference));
  ASSERT_EQ(ours.size(), 42u);
  for (const auto& [name, parameter] : reference) EXPECT_TRUE(ours.at(name).equal(parameter)) << name;
}

INSTANTIATE_TEST_SUITE_P(Types, QuantizedLlamaTest,
                         testing::Values(std::pair{"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},
                                         std::pair{"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},
                                         std::pair{"Q4_K", LLAMA_FTYPE_MOSTLY_Q4_K_M},
                                         std::pair{"Q6_K", LLAMA_FTYPE_MOSTLY_Q6_K}),
                         [](const auto& type) { return type.param.first; });

}  // namespace
}  // namespace haqa
