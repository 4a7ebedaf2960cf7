#include "haqa/train/finetune.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llama.h>
#include <signal.h>

#include "haqa/adapter/adapter.h"
#include "haqa/adapter/merge.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"
#include "haqa/worker/background_process.h"
#include "haqa/worker/process_test_support.h"
#include "haqa/worker/worker.h"

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
    request_ = {{"command", "finetune"},
                {"model", (folder_ / "m.gguf").string()},
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
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out" / "checkpoint")) << "until the caller has the result";
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

// Whole epochs, which have a known share of all tokens: 36 examples in batches of 4.
TEST_F(FinetuneTest, AfterAKillTheStepsBeforeTheCheckpointAreNotRunAgain) {
  constexpr int kSteps = 135, kEpoch = 9;
  request_["configuration"]["max_steps"] = kSteps;
  request_["checkpoint_s"] = 0.02;
  const Json straight = call_worker("haqa-train", request_);
  EXPECT_EQ(straight["resumed_after"], 0);
  const auto folder = folder_ / "again";
  request_["folder"] = folder.string();
  write_file(folder_ / "request.json", request_.dump() + "\n");
  {
    BackgroundProcess training(
        {{"/bin/sh", "-c", "exec \"$0\" < \"$1\"", HAQA_BIN_DIR "/haqa-train", (folder_ / "request.json").string()}},
        folder_ / "log");
    ASSERT_TRUE(comes_true([&] { return std::filesystem::exists(folder / "checkpoint"); }));
    training.signal(SIGKILL);
    ASSERT_TRUE(comes_true([&] { return !training.running(); }));
  }
  ASSERT_FALSE(std::filesystem::exists(folder / "adapter.gguf")) << "it was killed on the way";
  const Json resumed = call_worker("haqa-train", request_);
  const int64_t spared = resumed["resumed_after"];
  EXPECT_GT(spared, 0);
  EXPECT_LT(spared, kSteps);
  const double tokens_of_a_step = straight["tokens"].get<double>() / kSteps;
  EXPECT_NEAR(resumed["tokens"].get<double>(), tokens_of_a_step * static_cast<double>(kSteps - spared),
              tokens_of_a_step * kEpoch);
  EXPECT_EQ(resumed["losses"], straight["losses"]);
  EXPECT_EQ(resumed["validation_loss"], straight["validation_loss"]);
  EXPECT_EQ(read_file(folder / "adapter.gguf"), read_file(folder_ / "out" / "adapter.gguf"));
}

TEST_F(FinetuneTest, ADamagedCheckpointCostsItsStepsAlone) {
  const Json straight = run();
  const std::string checkpoint = read_file(folder_ / "out/checkpoint"), losses = read_file(folder_ / "out/losses.json");
  const std::pair<std::string, std::string> cases[] = {{checkpoint.substr(0, checkpoint.size() / 2), losses},
                                                       {"rubbish", losses},
                                                       {checkpoint, "[1, "},
                                                       {checkpoint, "{}"}};
  for (const auto& [left, told] : cases) {
    write_file(folder_ / "out/checkpoint", left);
    write_file(folder_ / "out/losses.json", told);
    const Json again = run();
    EXPECT_EQ(again["resumed_after"], 0);
    EXPECT_EQ(again["losses"], straight["losses"]);
  }
}

TEST_F(FinetuneTest, AStepTooLargeIsADivergenceAlsoWhereItIsTheLast) {
  request_["configuration"].update({{"max_steps", 1}, {"learning_rate", 1e30}, {"warmup_ratio", 0}});
  try {
    run();
    FAIL() << "a learning rate of 1e30 went well";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::StartsWith("the training diverged in its last step"));
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out/adapter.gguf"));
}

// A limit on the size of files stands for a full disk: write(2) fails half-way.
TEST_F(FinetuneTest, AFullDiskLeavesTheCheckpointBeforeIt) {
  const Json straight = run();
  const auto folder = folder_ / "again";
  request_["folder"] = folder.string();
  struct Killed {};
  EXPECT_THROW(run([](double share) {
                 if (share > 0.3) throw Killed();
               }),
               Killed);
  const std::string before = read_file(folder / "checkpoint");
  write_file(folder_ / "small-disk", "#!/bin/sh\ntrap '' XFSZ\nulimit -f 16\nexec '" HAQA_BIN_DIR "/haqa-train'\n");
  std::filesystem::permissions(folder_ / "small-disk", std::filesystem::perms::owner_all);
  const auto failure = [&](double checkpoint_s) {
    Json request = request_;
    request["checkpoint_s"] = checkpoint_s;
    try {
      call_worker(folder_ / "small-disk", request);
    } catch (const NoSpaceError& error) {
      return std::string(error.what());
    }
    return std::string("it went well");
  };
  using testing::AllOf, testing::HasSubstr;
  EXPECT_THAT(failure(0), AllOf(HasSubstr((folder / "checkpoint").string()), HasSubstr("free some space")));
  EXPECT_EQ(read_file(folder / "checkpoint"), before);
  EXPECT_THAT(failure(60), AllOf(HasSubstr((folder / "adapter.gguf").string()), HasSubstr("free some space")));
  EXPECT_EQ(read_file(folder / "checkpoint"), before);
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    EXPECT_THAT(entry.path().filename().string(), testing::AnyOf("checkpoint", "losses.json"))
        << "nothing half-written";
  const Json resumed = run();
  EXPECT_GT(resumed["resumed_after"], 0);
  EXPECT_EQ(resumed["losses"], straight["losses"]);
  EXPECT_EQ(read_file(folder / "adapter.gguf"), read_file(folder_ / "out" / "adapter.gguf"));
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

// A row of 512 tokens has room for several of these examples.
TEST_F(FinetuneTest, PackedBatchesHoldMoreExamples) {
  const Json one_a_row = run();
  request_["method"] = {{"grouping", "packed"}};
  std::filesystem::remove_all(folder_ / "out");  // with the checkpoint of the other training
  const Json packed = run();
  EXPECT_GT(packed["tokens"].get<int64_t>(), 4 * one_a_row["tokens"].get<int64_t>());
  EXPECT_LE(packed["tokens"].get<int64_t>(), 12 * 4 * 512);
  EXPECT_LT(packed["validation_loss"], packed["validation_loss_before"]);
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
      {{{"method", {{"grouping", "sorted"}}}}, "packed"},
      {{{"configuration", {{"learning_rate", "fast"}}}}, "understood"},
  };
  for (const Case& c : cases) EXPECT_NE(message(c.change).find(c.part), std::string::npos) << message(c.change);
}

}  // namespace
}  // namespace haqa
