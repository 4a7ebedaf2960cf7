// Stock llama.cpp with the module and without: the same model, the same prompts.
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "haqa/adapter/adapter_test_support.h"
#include "haqa/adapter/gguf_adapter.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"
#include "haqa/model/model_info.h"
#include "haqa/plugin/module_test_support.h"

namespace haqa {
namespace {

/// A model with a context, on the module's device or on the processor alone.
class Llama {
 public:
  Llama(const std::filesystem::path& file, bool with_module, const char* cache = "f16", uint32_t sequences = 1,
        int threads = 2) {
    ggml_backend_dev_t devices[] = {with_module ? module_device() : nullptr, nullptr};
    llama_model_params params = llama_model_default_params();
    params.devices = devices;
    model_.reset(llama_model_load_from_file(file.c_str(), params));
    EXPECT_NE(model_, nullptr);
    llama_context_params c = llama_context_default_params();
    c.n_ctx = 512 * sequences;
    c.n_seq_max = sequences;
    c.n_threads = c.n_threads_batch = threads;
    c.type_k = c.type_v = std::string(cache) == "q8_0" ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
    context_.reset(llama_init_from_model(model_.get(), c));
    EXPECT_NE(context_, nullptr);
  }

  llama_context* context() const { return context_.get(); }
  int vocabulary() const { return llama_vocab_n_tokens(llama_model_get_vocab(model_.get())); }

  void apply(const std::filesystem::path& adapter) {
    llama_adapter_lora* lora = llama_adapter_lora_init(model_.get(), adapter.c_str());  // freed with the model
    ASSERT_NE(lora, nullptr);
    float scale = 1;
    ASSERT_EQ(llama_set_adapters_lora(context_.get(), &lora, 1, &scale), 0);
  }

  /// The logits after each of the tokens, which are computed together.
  std::vector<float> logits(const std::vector<llama_token>& tokens, int from = 0, llama_seq_id sequence = 0) {
    llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
    for (size_t i = 0; i < tokens.size(); ++i) {
      batch.token[i] = tokens[i];
      batch.pos[i] = from + static_cast<int>(i);
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = sequence;
      batch.logits[i] = 1;
    }
    batch.n_tokens = static_cast<int32_t>(tokens.size());
    EXPECT_EQ(llama_decode(context_.get(), batch), 0);
    llama_batch_free(batch);
    const float* all = llama_get_logits(context_.get());
    return {all, all + tokens.size() * static_cast<size_t>(vocabulary())};
  }

 private:
  std::unique_ptr<llama_model, FreeLlama> model_;
  std::unique_ptr<llama_context, FreeLlama> context_;
};

/// Mean over the tokens of KL(stock, other).
double divergence(const std::vector<float>& stock, const std::vector<float>& other, int vocabulary) {
  double total = 0;
  const auto rows = stock.size() / static_cast<size_t>(vocabulary);
  for (size_t r = 0; r < rows; ++r) {
    const float *a = stock.data() + r * static_cast<size_t>(vocabulary),
                *b = other.data() + r * static_cast<size_t>(vocabulary);
    const auto log_sum = [&](const float* x) {
      double sum = 0;
      for (int i = 0; i < vocabulary; ++i) sum += std::exp(double(x[i]));
      return std::log(sum);
    };
    const double za = log_sum(a), zb = log_sum(b);
    for (int i = 0; i < vocabulary; ++i) total += std::exp(a[i] - za) * ((a[i] - za) - (b[i] - zb));
  }
  return total / static_cast<double>(rows);
}

std::vector<llama_token> some_tokens(int n) {
  std::vector<llama_token> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(1 + (i * 7919) % 31000);
  return tokens;
}

class Models : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_NE(module_device(), nullptr) << "stock code would be compared with itself";
    folder_ = new TemporaryFolder;
    make_model(model_shape("tiny"), default_vocabulary(), 1, file("f16"));
    for (const auto& [name, type] : {std::pair("q8_0", LLAMA_FTYPE_MOSTLY_Q8_0), {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0}}) {
      llama_model_quantize_params params = llama_model_quantize_default_params();
      params.ftype = type;
      ASSERT_EQ(llama_model_quantize(file("f16").c_str(), file(name).c_str(), &params), 0);
    }
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::filesystem::path file(const std::string& type) { return folder_->path() / (type + ".gguf"); }

 private:
  static inline TemporaryFolder* folder_ = nullptr;
};

TEST_F(Models, LogitsAreThoseOfStockCode) {
  for (const auto& [type, cache, most] :
       {std::tuple("f16", "f16", 1e-5), {"q8_0", "f16", 1e-3}, {"q4_0", "f16", 1e-3}, {"q8_0", "q8_0", 1e-3}}) {
    SCOPED_TRACE(std::string(type) + " with a cache of " + cache);
    Llama stock(file(type), false, cache), ours(file(type), true, cache);
    const std::vector<llama_token> tokens = some_tokens(70);
    EXPECT_LT(divergence(stock.logits(tokens), ours.logits(tokens), stock.vocabulary()), most);
    for (int i = 0; i < 3; ++i)  // one token after the other
      EXPECT_LT(divergence(stock.logits({tokens[5]}, 70 + i), ours.logits({tokens[5]}, 70 + i), stock.vocabulary()),
                most);
  }
}

/// llama.cpp looks up the embedding on the processor; all the rest of a token's graph, and of a prompt's, is one split.
TEST_F(Models, ALlamasGraphIsComputedFromEndToEnd) {
  static std::string log;
  for (const char* type : {"f16", "q8_0"})
    for (const char* cache : {"f16", "q8_0"}) {
      log.clear();
      llama_log_set([](ggml_log_level, const char* text, void*) { log += text; }, nullptr);
      { const Llama ours(file(type), true, cache); }
      llama_log_set(nullptr, nullptr);
      std::smatch splits;
      ASSERT_TRUE(std::regex_search(log, splits, std::regex(R"( splits = (\d+))"))) << log;
      EXPECT_EQ(splits[1], "2") << type << " with a cache of " << cache;
    }
}

TEST_F(Models, ThreadsMayBeFewOrMoreThanProcessors) {
  const std::vector<llama_token> tokens = some_tokens(37);
  for (const int threads : {1, 3, 9}) {
    SCOPED_TRACE(threads);
    Llama stock(file("q8_0"), false), ours(file("q8_0"), true, "f16", 1, threads);
    EXPECT_LT(divergence(stock.logits(tokens), ours.logits(tokens), stock.vocabulary()), 1e-3);
    EXPECT_LT(divergence(stock.logits({42}, 37), ours.logits({42}, 37), stock.vocabulary()), 1e-3);
  }
}

/// Heads that share no cache, an output that is the embedding, and widths that fill no vector or block.
TEST_F(Models, OfOtherShapesTheyAgreeToo) {
  const ModelShape shapes[] = {{"multi-head", 2, 128, 4, 4, 320},
                               {"tied", 2, 128, 4, 2, 320, 2048, /*tied_output=*/true},
                               {"odd", 2, 120, 3, 1, 250},
                               {"wide heads", 1, 256, 2, 1, 300}};
  for (const ModelShape& shape : shapes) {
    SCOPED_TRACE(shape.name);
    const std::filesystem::path halves = file(shape.name), quantized = file(shape.name + " q8_0");
    make_model(shape, default_vocabulary(), 2, halves);
    const std::filesystem::path floats = file(shape.name + " f32");
    for (const auto& [to, type] : {std::pair(quantized, LLAMA_FTYPE_MOSTLY_Q8_0), {floats, LLAMA_FTYPE_ALL_F32}}) {
      llama_model_quantize_params params = llama_model_quantize_default_params();
      params.ftype = type;
      ASSERT_EQ(llama_model_quantize(halves.c_str(), to.c_str(), &params), 0);
    }
    // By weights in F16 llama.cpp may round activations to F16, and does not by the same in F32, which is what we are
    // held to token by token.
    struct Case {
      std::filesystem::path model, reference;
      double of_prompt, of_token;
    };
    for (const Case& c :
         {Case{halves, floats, 1e-5, 1e-5}, {halves, halves, 1e-5, 2e-5}, {quantized, quantized, 1e-3, 1e-3}}) {
      Llama stock(c.reference, false), ours(c.model, true);
      const std::vector<llama_token> tokens = some_tokens(37);
      EXPECT_LT(divergence(stock.logits(tokens), ours.logits(tokens), stock.vocabulary()), c.of_prompt);
      double sum = 0;
      for (int i = 0; i < 8; ++i)
        sum += divergence(stock.logits({42 + i}, 37 + i), ours.logits({42 + i}, 37 + i), stock.vocabulary());
      EXPECT_LT(sum / 8, c.of_token);
    }
  }
}

TEST_F(Models, AdaptersAreApplied) {
  const ModelInfo model = read_model(file("q8_0"));
  const std::filesystem::path adapter = file("adapter");
  write_gguf(random_adapter(model, all_matrices(model), 4, 8), model, adapter);
  Llama stock(file("q8_0"), false), ours(file("q8_0"), true);
  const std::vector<llama_token> tokens = some_tokens(20);
  const std::vector<float> without = stock.logits(tokens);
  for (Llama* l : {&stock, &ours}) {
    llama_memory_clear(llama_get_memory(l->context()), true);
    l->apply(adapter);
  }
  const std::vector<float> with = stock.logits(tokens);
  EXPECT_GT(divergence(without, with, stock.vocabulary()), 1e-2) << "the adapter changes nothing";
  EXPECT_LT(divergence(with, ours.logits(tokens), stock.vocabulary()), 1e-3);
}

TEST_F(Models, SeveralSequencesKeepApart) {
  Llama stock(file("q8_0"), false, "f16", 3), ours(file("q8_0"), true, "f16", 3);
  for (llama_seq_id s = 0; s < 3; ++s) {
    const std::vector<llama_token> tokens = some_tokens(9 + 4 * s);
    EXPECT_LT(divergence(stock.logits(tokens, 0, s), ours.logits(tokens, 0, s), stock.vocabulary()), 1e-3);
  }
  for (llama_seq_id s = 0; s < 3; ++s)
    EXPECT_LT(divergence(stock.logits({42}, 9 + 4 * s, s), ours.logits({42}, 9 + 4 * s, s), stock.vocabulary()), 1e-3);
}

TEST_F(Models, ContextMovesAlong) {
  Llama stock(file("q8_0"), false), ours(file("q8_0"), true);
  for (Llama* l : {&stock, &ours}) {
    l->logits(some_tokens(40));
    llama_memory_t memory = llama_get_memory(l->context());
    ASSERT_TRUE(llama_memory_seq_rm(memory, 0, 4, 20));
    llama_memory_seq_add(memory, 0, 20, 40, -16);
  }
  EXPECT_LT(divergence(stock.logits({42}, 24), ours.logits({42}, 24), stock.vocabulary()), 1e-3);
}

TEST_F(Models, StateIsSavedAndRestored) {
  Llama first(file("q4_0"), true), second(file("q4_0"), true), stock(file("q4_0"), false);
  first.logits(some_tokens(30));
  std::vector<uint8_t> state(llama_state_get_size(first.context()));
  state.resize(llama_state_get_data(first.context(), state.data(), state.size()));
  for (Llama* other : {&second, &stock})
    ASSERT_EQ(llama_state_set_data(other->context(), state.data(), state.size()), state.size());
  const std::vector<float> expected = first.logits({42}, 30);
  EXPECT_EQ(second.logits({42}, 30), expected);
  EXPECT_LT(divergence(stock.logits({42}, 30), expected, stock.vocabulary()), 1e-3);
}

}  // namespace
}  // namespace haqa
