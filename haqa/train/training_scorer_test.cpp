#include "haqa/train/training_scorer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "haqa/base/json.h"

namespace haqa {
namespace {

const std::filesystem::path kGolden = HAQA_SOURCE_DIR "/tests/golden/evaluation";

TEST(TrainingScorer, AgreesWithLmEval) {
  LlamaOptions options;
  options.lora.emplace();
  Llama llama(kGolden / "llama.gguf", options);
  const Tokenizer tokenizer(kGolden / "llama.gguf");
  const Json golden = read_json(kGolden / "lmeval.json");  // tests/golden/evaluation.py
  for (const int64_t batch_tokens : {int64_t{100}, int64_t{2048}}) {
    TrainingScorer scorer(llama, tokenizer, batch_tokens);
    for (const std::string& name : task_names()) {
      const EvaluationTask task = load_task(name);
      const std::vector<Item> items = read_items(task, kGolden / (name + ".jsonl"));
      std::vector<Request> requests;
      for (const Item& item : items) requests.insert(requests.end(), item.requests.begin(), item.requests.end());
      const TaskResult result = grade(task, items, scorer.score(requests, {}));
      const Json& samples = golden["tasks"][name];
      ASSERT_EQ(result.items.size(), samples.size());
      for (size_t i = 0; i < items.size(); ++i)
        for (size_t j = 0; j < result.items[i].scores.size(); ++j) {
          const Score& score = result.items[i].scores[j];
          EXPECT_LE(std::abs(score.log_likelihood - samples[i]["scores"][j][0].get<double>()), 1e-3) << name << i;
          EXPECT_EQ(Json(score.greedy), samples[i]["scores"][j][1]) << name << " " << i << " " << j;
        }
      EXPECT_NEAR(result.acc.value, golden["results"][name]["acc,none"], 1e-12) << name;
    }
  }
}

}  // namespace
}  // namespace haqa
