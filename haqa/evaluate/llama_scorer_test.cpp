#include "haqa/evaluate/llama_scorer.h"

#include <gguf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path kGolden = HAQA_SOURCE_DIR "/tests/golden/evaluation";

/// What lm-eval 0.4.13 answers with the same model and rows, in fp32: tests/golden/evaluation.py.
const Json& golden() {
  static const Json json = read_json(kGolden / "lmeval.json");
  return json;
}

LlamaScorerOptions exact() {
  LlamaScorerOptions options;
  options.model = kGolden / "llama.gguf";
  options.threads = 1;  // the model is too small for more
  options.type_k = options.type_v = "f32";
  options.flash_attention = "off";  // llama.cpp's holds halves
  return options;
}

std::vector<Request> requests_of(std::span<const Item> items) {
  std::vector<Request> out;
  for (const Item& item : items) out.insert(out.end(), item.requests.begin(), item.requests.end());
  return out;
}

class ScoredTask : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Tasks, ScoredTask, ::testing::ValuesIn(task_names()), [](const auto& p) { return p.param; });

TEST_P(ScoredTask, AgreesWithLmEvalItemByItem) {
  const EvaluationTask task = load_task(GetParam());
  const std::vector<Item> items = read_items(task, kGolden / (task.name + ".jsonl"));
  LlamaScorer scorer(exact());
  const TaskResult result = grade(task, items, scorer.score(requests_of(items), {}));
  const Json& samples = golden()["tasks"][task.name];
  ASSERT_EQ(result.items.size(), samples.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const ItemResult& r = result.items[i];
    for (size_t j = 0; j < r.scores.size(); ++j) {
      EXPECT_LE(std::abs(r.scores[j].log_likelihood - samples[i]["scores"][j][0].get<double>()), 1e-3)
          << i << " " << j << " " << items[i].requests[j].context << "|" << items[i].requests[j].continuation;
      EXPECT_EQ(Json(r.scores[j].greedy), samples[i]["scores"][j][1]) << i << " " << j;
    }
    EXPECT_EQ(r.predicted == r.gold, samples[i]["acc"] == 1.0) << i;
    if (task.acc_norm) {
      EXPECT_EQ(r.predicted_norm == r.gold, samples[i]["acc_norm"] == 1.0) << i;
    }
  }
  const Json& summary = golden()["results"][task.name];
  EXPECT_NEAR(result.acc.value, summary["acc,none"], 1e-12);
  EXPECT_NEAR(result.acc.error, summary["acc_stderr,none"], 1e-12);
}

std::vector<Request> all_requests() {
  std::vector<Request> out;
  for (const std::string& name : task_names())
    for (const Request& r : requests_of(read_items(load_task(name), kGolden / (name + ".jsonl")))) out.push_back(r);
  return out;
}

TEST(LlamaScorer, SharingChangesNothing) {
  const std::vector<Request> requests = all_requests();
  LlamaScorer scorer(exact());
  const std::vector<Score> together = scorer.score(requests, {});
  EXPECT_EQ(scorer.work().requests, requests.size());
  EXPECT_LT(scorer.work().tokens, scorer.work().tokens_apart / 2);
  EXPECT_EQ(scorer.work().truncated, 4u);  // two passages of BoolQ, as lm-eval warned
  for (size_t i = 0; i < requests.size(); i += 7) {
    const Score alone = scorer.score(std::span(requests).subspan(i, 1), {})[0];
    EXPECT_LE(std::abs(together[i].log_likelihood - alone.log_likelihood), 1e-4) << i;
    EXPECT_EQ(together[i].greedy, alone.greedy) << i;
  }
}

TEST(LlamaScorer, BatchesOfAnySizeAgree) {
  std::vector<Request> requests = all_requests();
  requests.resize(120);
  LlamaScorerOptions options = exact();
  const std::vector<Score> want = LlamaScorer(options).score(requests, {});
  for (const int batch_tokens : {1, 33, 4096}) {
    options.batch_tokens = batch_tokens;
    const std::vector<Score> got = LlamaScorer(options).score(requests, {});
    for (size_t i = 0; i < requests.size(); ++i)
      EXPECT_LE(std::abs(got[i].log_likelihood - want[i].log_likelihood), 1e-4) << batch_tokens << " " << i;
  }
}

/// Scores of all_requests(): each within the tolerance of lm-eval's, so that the same choice wins unless it was close.
void expect_lm_evals(std::span<const Score> scores, double tolerance) {
  const Score* score = scores.data();
  for (const std::string& name : task_names())
    for (const Json& sample : golden()["tasks"][name]) {
      std::vector<double> want, got;
      for (const Json& one : sample["scores"]) {
        want.push_back(one[0]);
        got.push_back(score++->log_likelihood);
        EXPECT_LE(std::abs(got.back() - want.back()), tolerance) << name;
      }
      const auto best = static_cast<size_t>(std::max_element(want.begin(), want.end()) - want.begin());
      for (size_t i = 0; i < want.size(); ++i)
        if (want[i] < want[best] - 2 * tolerance) {
          EXPECT_LT(got[i], got[best]) << name;
        }
    }
}

TEST(LlamaScorer, LlamaCppsDefaultsPredictTheSameButForCloseCalls) {
  const LlamaScorerOptions defaults;
  LlamaScorerOptions options = exact();
  options.type_k = defaults.type_k;
  options.type_v = defaults.type_v;
  options.flash_attention = defaults.flash_attention;
  expect_lm_evals(LlamaScorer(options).score(all_requests(), {}), 0.3);  // of sums down to -300
}

TEST(LlamaScorer, HalvesPredictTheSameButForCloseCalls) {
  const TemporaryFolder folder;
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype = LLAMA_FTYPE_MOSTLY_F16;
  params.nthread = 1;
  LlamaScorerOptions options = exact();
  options.model = folder / "f16.gguf";
  ASSERT_EQ(llama_model_quantize((kGolden / "llama.gguf").c_str(), options.model.c_str(), &params), 0u);
  expect_lm_evals(LlamaScorer(options).score(all_requests(), {}), 0.3);
}

// peft applied the adapter for lm-eval, llama.cpp's converter made the file.
TEST(LlamaScorer, AnAdapterActsAsInPeft) {
  const std::vector<Item> items = read_items(load_task("arc_easy"), kGolden / "arc_easy.jsonl");
  LlamaScorerOptions options = exact();
  options.adapter = kGolden / "adapter.gguf";
  const std::vector<Score> scores = LlamaScorer(options).score(requests_of(items), {});
  double differs = 0;
  const Score* score = scores.data();
  for (size_t i = 0; i < items.size(); ++i)
    for (size_t j = 0; j < items[i].requests.size(); ++j, ++score) {
      EXPECT_LE(std::abs(score->log_likelihood - golden()["arc_easy with adapter"][i][j][0].get<double>()), 1e-3);
      differs = std::max(
          differs, std::abs(score->log_likelihood - golden()["tasks"]["arc_easy"][i]["scores"][j][0].get<double>()));
    }
  EXPECT_GT(differs, 1);  // it does something
  options.adapter_scale = 0;
  const std::vector<Score> none = LlamaScorer(options).score(requests_of(items), {});
  for (size_t j = 0; j < items[0].requests.size(); ++j)
    EXPECT_LE(std::abs(none[j].log_likelihood - golden()["tasks"]["arc_easy"][0]["scores"][j][0].get<double>()), 1e-3);
}

/// The golden model without its vocabulary.
void remove_vocabulary(const std::filesystem::path& output) {
  ggml_context* tensors = nullptr;
  gguf_context* whole = gguf_init_from_file((kGolden / "llama.gguf").c_str(), {/*no_alloc=*/false, &tensors});
  gguf_context* bare = gguf_init_empty();
  gguf_set_kv(bare, whole);
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"})
    gguf_remove_key(bare, key);
  gguf_set_val_str(bare, "tokenizer.ggml.model", "no_vocab");
  for (ggml_tensor* t = ggml_get_first_tensor(tensors); t; t = ggml_get_next_tensor(tensors, t))
    if (gguf_find_tensor(whole, ggml_get_name(t)) >= 0) gguf_add_tensor(bare, t);
  gguf_write_to_file(bare, output.c_str(), /*only_meta=*/false);
  gguf_free(bare);
  gguf_free(whole);
  ggml_free(tensors);
}

TEST(LlamaScorer, ProgressRisesToOne) {
  std::vector<double> shares;
  LlamaScorer(exact()).score(all_requests(), [&](double share) { shares.push_back(share); });
  EXPECT_GT(shares.size(), 5u);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_EQ(shares.back(), 1.0);
}

TEST(LlamaScorer, FaultsAreSentences) {
  const auto fault = [](LlamaScorerOptions options,
                        const std::vector<Request>& requests = {{"a", " b"}}) -> std::string {
    try {
      LlamaScorer(options).score(requests, {});
      return "none";
    } catch (const Error& e) {
      return e.what();
    }
  };
  const TemporaryFolder folder;
  LlamaScorerOptions options = exact();
  EXPECT_EQ(fault(options), "none");
  EXPECT_EQ(fault(options, {}), "none");
  options.model = folder / "missing.gguf";
  EXPECT_THAT(fault(options), HasSubstr("missing.gguf"));
  options = exact();
  options.type_k = "q7";
  EXPECT_THAT(fault(options), HasSubstr("q7"));
  options = exact();
  options.flash_attention = "perhaps";
  EXPECT_THAT(fault(options), HasSubstr("use on, off or auto"));
  options = exact();
  options.adapter = kGolden / "llama.gguf";  // a model, no adapter
  EXPECT_THAT(fault(options), HasSubstr("made for this model"));
  options = exact();
  remove_vocabulary(folder / "bare.gguf");
  options.model = folder / "bare.gguf";
  EXPECT_THAT(fault(options), HasSubstr("holds no vocabulary"));
  options = exact();
  options.max_length = 4;
  EXPECT_THAT(fault(options, {{"a", " one two three four five six"}}), HasSubstr("longer than the 4"));
}

}  // namespace
}  // namespace haqa
