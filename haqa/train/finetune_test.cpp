#include "haqa/train/finetune.h"

#include <gtest/gtest.h>
#include <llama.h>

#include "haqa/adapter/adapter.h"
#include "haqa/adapter/merge.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"

namespace haqa {
namespace {

class FinetuneTest : public testing::Test {
 protected:
  FinetuneTest() {
    make_model({.name = "t", .n_layer = 2, .n_embd = 64, .n_head = 4, .n_head_kv = 2, .n_ff = 192, .n_ctx_train = 512},
               default_vocabulary(), 1, folder_ / "m.gguf");
    std::string lines;
    for (int i = 0; i < 40; ++i)
      lines +=
          Json{{"instruction", fmt::format("Add {} and {}.", i, 1)}, {"output", std::to_string(i + 1)}}.dump() + "\n";
    write_file(folder_ / "e.jsonl", lines);
    request_ = {{"model", (folder_ / "m.gguf").string()},
                {"examples", (folder_ / "e.jsonl").string()},
                {"folder", (folder_ / "out").string()},
                {"validation_share", 0.1},
                {"checkpoint_s", 0},
                {"configuration",
                 {{"max_steps", 12},
                  {"per_device_train_batch_size", 4},
                  {"gradient_accumulation_steps", 1},
                  {"learning_rate", 1e-2},
                  {"lora_r", 4}}}};
  }
  Json run(const std::function<void(double)>& progress = [](double) {}) const {
    return finetune(finetune_job_from(request_), progress);
  }

  TemporaryFolder folder_;
  Json request_;
};

torch::Tensor logits_of(const std::filesystem::path& model) {
  TokenBatch batch;
  batch.tokens = at::arange(20) + 100;
  batch.lengths = {20};
  batch.scored = at::arange(20);
  LlamaOptions options;
  options.lora.emplace();
  return Llama(model, options).logits(batch);
}

TEST_F(FinetuneTest, LearnsAndWritesBothFormsOfTheAdapter) {
  const Json result = run();
  EXPECT_LT(result["validation_loss"], result["validation_loss_before"]);
  EXPECT_EQ(result["steps"], 12);
  EXPECT_EQ(result["losses"].size(), 12u);
  EXPECT_EQ(result["examples"], 36);
  EXPECT_EQ(result["validation_examples"], 4);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out" / "checkpoint"));
  const ModelInfo model = read_model(folder_ / "m.gguf");
  const LoraAdapter gguf = read_adapter(folder_ / "out" / "adapter.gguf", model);
  const LoraAdapter peft = read_adapter(folder_ / "out" / "adapter", model);
  EXPECT_EQ(gguf.rank, 4);
  ASSERT_EQ(gguf.pairs.size(), 14u);
  ASSERT_EQ(peft.pairs.size(), 14u);
  merge(TensorData(folder_ / "m.gguf"), gguf, 1, folder_ / "merged.gguf");
  const torch::Tensor before = logits_of(folder_ / "m.gguf"), after = logits_of(folder_ / "merged.gguf");
  EXPECT_GT((after - before).abs().max().item<double>(), 0.1);
}

TEST_F(FinetuneTest, AnInterruptedOneGoesOnToTheSameLosses) {
  const Json straight = run();
  request_["folder"] = (folder_ / "again").string();
  struct Killed {};
  EXPECT_THROW(run([](double share) {
                 if (share > 0.5) throw Killed();
               }),
               Killed);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "again" / "checkpoint"));
  const Json resumed = run();
  EXPECT_EQ(resumed["losses"], straight["losses"]);
  EXPECT_EQ(resumed["validation_loss"], straight["validation_loss"]);
  EXPECT_EQ(read_file(folder_ / "again" / "adapter.gguf"), read_file(folder_ / "out" / "adapter.gguf"));
}

TEST_F(FinetuneTest, EveryWeightTrainedGivesAModel) {
  request_["method"] = {{"full", true}};
  const Json result = run();
  EXPECT_LT(result["validation_loss"], result["validation_loss_before"]);
  const ModelInfo model = read_model(folder_ / "out" / "model.gguf");
  EXPECT_EQ(model.main_type(), "F16");
  EXPECT_GT((logits_of(folder_ / "out" / "model.gguf") - logits_of(folder_ / "m.gguf")).abs().max().item<double>(),
            0.1);
}

TEST_F(FinetuneTest, SaysWhatIsWrong) {
  const auto message = [&](const Json& change) {
    Json request = request_;
    request.merge_patch(change);
    try {
      finetune(finetune_job_from(request), [](double) {});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  write_file(folder_ / "empty.jsonl", "");
  struct Case {
    Json change;
    std::string part;
  };
  const std::vector<Case> cases = {
      {{{"examples", (folder_ / "empty.jsonl").string()}}, "empty"},
      {{{"context", 100000}}, "context"},
      {{{"configuration", {{"lora_r", 1000}}}}, "rank"},
      {{{"method", {{"base", "int3"}}}}, "int3"},
      {{{"method", {{"device", "tpu"}}}}, "tpu"},
      {{{"configuration", {{"learning_rate", "fast"}}}}, "understood"},
  };
  for (const Case& c : cases) EXPECT_NE(message(c.change).find(c.part), std::string::npos) << message(c.change);
}

}  // namespace
}  // namespace haqa
