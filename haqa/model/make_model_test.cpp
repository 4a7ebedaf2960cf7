#include "haqa/model/make_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llama.h>
#include <sched.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/model/model_test_support.h"

namespace haqa {
namespace {

using ::testing::HasSubstr;

const ModelShape kMini{.name = "mini", .n_layer = 2, .n_embd = 256, .n_head = 4, .n_head_kv = 2, .n_ff = 512};

size_t files_in(const std::filesystem::path& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(ModelShape, Names) {
  for (const char* name : {"tiny", "small", "demo", "tinyllama-1.1b", "llama3.2-3b"})
    EXPECT_EQ(model_shape(name).name, name);
  EXPECT_TRUE(model_shape("llama3.2-3b").tied_output);
  EXPECT_EQ(model_shape("tinyllama-1.1b").n_ff, 5632);
  for (const char* name : {"", "gpt2-large", "llama9"}) EXPECT_THROW(model_shape(name), UsageError) << name;
}

TEST(ModelShape, SizesAndWidthsForKQuants) {
  TemporaryFolder folder;
  make_model(model_shape("tiny"), default_vocabulary(), 1, folder / "tiny.gguf");
  EXPECT_NEAR(static_cast<double>(std::filesystem::file_size(folder / "tiny.gguf")), 40e6, 2e6);
  for (const char* name : {"tiny", "small", "demo"}) {
    const ModelShape s = model_shape(name);
    const ModelInfo m = test_model({.n_layer = s.n_layer,
                                    .n_embd = s.n_embd,
                                    .n_head = s.n_head,
                                    .n_head_kv = s.n_head_kv,
                                    .n_ff = s.n_ff,
                                    .n_vocab = 32000});
    for (const TensorInfo& tensor : m.tensors) EXPECT_EQ(tensor.shape[0] % 256, 0) << name << tensor.name;
    if (std::string(name) == "small") {
      EXPECT_GT(m.weights_bytes(), 300e6);
      EXPECT_LT(m.weights_bytes(), 400e6);
    }
  }
}

TEST(MakeModel, IsWhatItsHeaderSays) {
  TemporaryFolder folder;
  make_model(kMini, default_vocabulary(), 1, folder / "mini.gguf");
  const ModelInfo m = read_model(folder / "mini.gguf");
  EXPECT_EQ(m.name, "mini");
  EXPECT_EQ(m.n_vocab, 32000);
  EXPECT_EQ(m.n_layer, 2);
  EXPECT_EQ(m.n_head_kv, 2);
  EXPECT_EQ(m.main_type(), "F16");
  EXPECT_FALSE(m.tied_output);
  const GgufFile made(folder / "mini.gguf"), vocabulary(default_vocabulary());
  for (int64_t i = 0; i < gguf_get_n_kv(vocabulary.context()); ++i)
    if (const std::string key = gguf_get_key(vocabulary.context(), i); key.starts_with("tokenizer.")) {
      EXPECT_GE(gguf_find_key(made.context(), key.c_str()), 0) << key;
    }
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(MakeModel, SameBytesWhateverTheThreads) {
  TemporaryFolder folder;
  make_model(kMini, default_vocabulary(), 7, folder / "all.gguf");
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &all)) {
      CPU_SET(cpu, &one);
      break;
    }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);  // hardware_concurrency() follows the affinity
  make_model(kMini, default_vocabulary(), 7, folder / "one.gguf");
  sched_setaffinity(0, sizeof all, &all);
  make_model(kMini, default_vocabulary(), 8, folder / "other.gguf");
  const std::string bytes = read_file(folder / "all.gguf");
  EXPECT_TRUE(bytes == read_file(folder / "one.gguf"));
  EXPECT_FALSE(bytes == read_file(folder / "other.gguf"));
  // The same on every machine and in every version: the FNV-1a hash of the numbers, recorded on x86-64.
  uint64_t hash = 14695981039346656037u;
  for (size_t i = gguf_get_data_offset(GgufFile(folder / "all.gguf").context()); i < bytes.size(); ++i)
    hash = (hash ^ static_cast<unsigned char>(bytes[i])) * 1099511628211u;
  EXPECT_EQ(hash, 4616011527640224252u);
}

TEST(MakeModel, ReportsProgress) {
  TemporaryFolder folder;
  std::vector<double> shares;
  make_model(kMini, default_vocabulary(), 1, folder / "mini.gguf", [&](double share) { shares.push_back(share); });
  ASSERT_FALSE(shares.empty());
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_GE(shares.front(), 0);
  EXPECT_EQ(shares.back(), 1);
}

TEST(MakeModel, LeavesNothingBehind) {
  TemporaryFolder folder;
  const auto attempt = [&](const ModelShape& shape, const std::filesystem::path& vocabulary,
                           const std::filesystem::path& file, const std::function<void(double)>& progress = {}) {
    try {
      make_model(shape, vocabulary, 1, file, progress);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  write_model(test_model({}), folder / "plain.gguf");
  const auto out = folder / "out.gguf";
  EXPECT_THAT(attempt(kMini, folder / "none.gguf", out), HasSubstr("no such file"));
  EXPECT_THAT(attempt(kMini, folder / "plain.gguf", out), HasSubstr("has no vocabulary"));
  EXPECT_THAT(attempt(kMini, default_vocabulary(), folder / "no/such/folder.gguf"), HasSubstr("cannot write"));
  EXPECT_THAT(attempt(kMini, default_vocabulary(), out, [](double) { throw Interrupted("stopped"); }),
              HasSubstr("stopped"));
  ModelShape bad = kMini;
  for (int* field : {&bad.n_layer, &bad.n_embd, &bad.n_head, &bad.n_head_kv, &bad.n_ff, &bad.n_ctx_train}) {
    const int kept = std::exchange(*field, 0);
    EXPECT_THAT(attempt(bad, default_vocabulary(), out), HasSubstr("make no llama"));
    *field = kept;
  }
  bad.merges = -1;
  EXPECT_THAT(attempt(bad, default_vocabulary(), out), HasSubstr("make no llama"));
  bad.merges = 0;
  bad.n_head_kv = 3;
  EXPECT_THAT(attempt(bad, default_vocabulary(), out), HasSubstr("make no llama"));
  ModelShape enormous = model_shape("llama2-13b");
  enormous.n_layer = 400;
  enormous.n_ff = 1'000'000;  // 12 TB
  EXPECT_THAT(attempt(enormous, default_vocabulary(), out), HasSubstr("are needed for the model"));
  EXPECT_EQ(files_in(folder.path()), 1u);
}

/// Log-probabilities of each next token after fixed pseudo-random tokens, and the mean deviation of the logits.
struct Predictions {
  std::vector<std::vector<double>> log_probabilities;
  double deviation = 0;
};

Predictions run_llama(const std::filesystem::path& file) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(file.c_str(), llama_model_default_params()), llama_model_free);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 256;
  const std::unique_ptr<llama_context, decltype(&llama_free)> context(llama_init_from_model(model.get(), params),
                                                                      llama_free);
  const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
  constexpr int n = 24;
  llama_batch batch = llama_batch_init(n, 0, 1);
  batch.n_tokens = n;
  for (int i = 0; i < n; ++i) {
    batch.token[i] = (i * 7919 + 13) % n_vocab;
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  EXPECT_EQ(llama_decode(context.get(), batch), 0);
  Predictions run;
  for (int i = 0; i < n; ++i) {
    const float* logits = llama_get_logits_ith(context.get(), i);
    std::vector<double>& p = run.log_probabilities.emplace_back(logits, logits + n_vocab);
    const double mean = std::accumulate(p.begin(), p.end(), 0.0) / n_vocab;
    double squares = 0, sum = 0;
    for (const double x : p) squares += (x - mean) * (x - mean), sum += std::exp(x);
    for (double& x : p) x -= std::log(sum);
    run.deviation += std::sqrt(squares / n_vocab) / n;
  }
  llama_batch_free(batch);
  return run;
}

double divergence(const Predictions& from, const Predictions& to) {
  double sum = 0;
  for (size_t i = 0; i < from.log_probabilities.size(); ++i)
    for (size_t k = 0; k < from.log_probabilities[i].size(); ++k)
      sum += std::exp(from.log_probabilities[i][k]) * (from.log_probabilities[i][k] - to.log_probabilities[i][k]);
  return sum / static_cast<double>(from.log_probabilities.size());
}

class LlamaRuns : public ::testing::TestWithParam<bool> {};

TEST_P(LlamaRuns, LogitsHaveMeaningAndQuantizationsDiffer) {
  TemporaryFolder folder;
  ModelShape shape = model_shape("tiny");
  shape.tied_output = GetParam();
  make_model(shape, default_vocabulary(), 1, folder / "F16");
  const Predictions exact = run_llama(folder / "F16");
  EXPECT_GT(exact.deviation, 1.8);
  EXPECT_LT(exact.deviation, 2.2);
  std::vector<double> divergences;
  for (const char* type : {"Q8_0", "Q4_K_M", "Q4_0"}) {
    const std::string command =
        fmt::format("'{}' '{}' '{}' {} 2 >/dev/null 2>&1", (llama_bin_folder() / "llama-quantize").string(),
                    (folder / "F16").string(), (folder / type).string(), type);
    ASSERT_EQ(std::system(command.c_str()), 0);
    divergences.push_back(divergence(exact, run_llama(folder / type)));
  }
  EXPECT_GT(divergences[0], 1e-5);
  EXPECT_LT(divergences[0], 0.05);
  EXPECT_GT(divergences[1], 3 * divergences[0]);  // fewer bits, further away
  EXPECT_GT(divergences[2], divergences[1]);
  EXPECT_LT(divergences[2], 2);
}

INSTANTIATE_TEST_SUITE_P(Output, LlamaRuns, ::testing::Values(false, true),
                         [](const auto& test) { return test.param ? "tied" : "own"; });

}  // namespace
}  // namespace haqa
