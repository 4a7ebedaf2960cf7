// The objective with the real workers: haqa-train and haqa-infer.
#include "haqa/finetune/finetune_objective.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>

#include "haqa/adapter/adapter.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/deploy/quantize.h"
#include "haqa/finetune/finetune_test_support.h"
#include "haqa/model/make_model.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AnyOf;
using testing::HasSubstr;

class FinetuneObjectiveTest : public testing::Test {
 protected:
  FinetuneObjectiveTest() {
    write_learning_data(folder_.path());
    setup_.model = learning_model();
    setup_.examples = folder_ / "examples.jsonl";
    setup_.data = folder_ / "data";
    setup_.tasks = {"boolq"};
    setup_.context = 128;
    setup_.threads = 1;  // it is too small for more
  }
  SearchSpace space(const std::string& text = learning_space()) {
    std::ofstream(folder_ / "space.yaml") << text;
    return read_space(folder_ / "space.yaml");
  }
  FinetuneObjective objective(const SearchSpace& space) { return {setup_, space, folder_ / "run"}; }

  const TemporaryFolder folder_;
  FinetuneSetup setup_;
};

TEST_F(FinetuneObjectiveTest, TrainingRaisesTheAccuracyOfWhatShips) {
  const SearchSpace s = space();
  FinetuneObjective o = objective(s);
  const TaskAccuracies before = o.accuracy(o.base(), {}, Half::validation);
  const Outcome outcome = o.evaluate(s.defaults());
  ASSERT_TRUE(outcome.value) << outcome.message;
  EXPECT_GT(*outcome.value, before.mean + 0.2);
  EXPECT_GT(*outcome.value, 0.9);
  // What the dynamic prompt shows.
  const Json& m = outcome.metrics;
  EXPECT_NEAR(m["tasks"]["boolq"]["accuracy"], *outcome.value, 1e-6);
  EXPECT_TRUE(m["tasks"]["boolq"]["error"].is_number());
  EXPECT_EQ(m["training"]["losses"].size(), 20u);
  EXPECT_LT(m["training"]["losses"].back(), m["training"]["losses"].front());
  EXPECT_LT(m["training"]["validation_loss"], m["training"]["validation_loss_before"]);
  EXPECT_GT(m["tokens_per_second"], 0);
  EXPECT_GT(m["peak_bytes"], 1e7);
  // The model in the bit width, and the adapter that was measured.
  EXPECT_EQ(read_model(o.base()).main_type(), "Q4_0");
  const fs::path adapter = o.adapter_folder(s.defaults()) / "adapter.gguf";
  EXPECT_EQ(o.accuracy(o.base(), adapter, Half::validation).mean, *outcome.value);
  EXPECT_TRUE(fs::exists(adapter.parent_path() / "adapter/adapter_model.safetensors"));

  // It is not trained again, and another seed is another training.
  const auto trained = fs::last_write_time(adapter);
  EXPECT_EQ(o.evaluate(s.defaults()).value, outcome.value);
  EXPECT_EQ(fs::last_write_time(adapter), trained);
  o.use_seed(2);
  EXPECT_FALSE(fs::exists(o.adapter_folder(s.defaults())));
  o.use_seed(1);

  Configuration other = s.defaults();
  other["max_steps"] = 20;
  ASSERT_TRUE(o.evaluate(other).value);
  o.keep_only(std::array{other});
  EXPECT_FALSE(fs::exists(adapter));
  EXPECT_TRUE(fs::exists(o.adapter_folder(other) / "adapter.gguf"));
}

TEST_F(FinetuneObjectiveTest, MeasuresTheMergedFileWhereThatIsWhatShips) {
  setup_.merged = true;
  setup_.gguf_type = "IQ4_NL";
  const SearchSpace s = space();
  FinetuneObjective o = objective(s);
  const Outcome outcome = o.evaluate(s.defaults());
  ASSERT_TRUE(outcome.value) << outcome.message;
  const fs::path merged = o.merged(s.defaults(), "IQ4_NL");
  EXPECT_EQ(merged.parent_path(), o.adapter_folder(s.defaults()));
  EXPECT_EQ(read_model(merged).main_type(), "IQ4_NL");
  EXPECT_EQ(o.accuracy(merged, {}, Half::validation).mean, *outcome.value);
  EXPECT_GT(*outcome.value, o.accuracy(o.base(), {}, Half::validation).mean + 0.2);
  // It is not made again, another type is made from the same adapter, and nothing else is left.
  const auto made = fs::last_write_time(merged);
  EXPECT_EQ(o.merged(s.defaults(), "IQ4_NL"), merged);
  EXPECT_EQ(fs::last_write_time(merged), made);
  EXPECT_EQ(read_model(o.merged(s.defaults(), "Q8_0")).main_type(), "Q8_0");
  EXPECT_FALSE(fs::exists(merged.parent_path() / "merged.gguf"));
}

/// A file tells of a mixture of types the main one alone, which no quantizer writes by itself.
TEST_F(FinetuneObjectiveTest, AFileInKQuantsIsMergedBackToThem) {
  make_model(model_shape("demo"), default_vocabulary(), 1, folder_ / "demo-f16.gguf");
  quantize_model(read_model(folder_ / "demo-f16.gguf"), "Q4_K_M", folder_ / "demo.gguf", false);
  setup_.model = folder_ / "demo.gguf";
  setup_.merged = true;
  setup_.gguf_type = read_model(setup_.model).main_type();
  ASSERT_EQ(setup_.gguf_type, "Q4_K");
  const SearchSpace s = space(learning_space("{type: float, low: 1e-4, high: 0.03, log: true, default: 0.01}",
                                             "{type: int, low: 2, high: 80, default: 2}"));
  FinetuneObjective o = objective(s);
  EXPECT_EQ(o.base(), setup_.model);
  ASSERT_TRUE(o.evaluate(s.defaults()).value);
  EXPECT_EQ(read_model(o.merged(s.defaults(), "Q4_K")).main_type(), "Q4_K");
}

TEST_F(FinetuneObjectiveTest, Fp16TrainsOnTheWeightsAsTheyAre) {
  setup_.bit_width = BitWidth::fp16;
  const SearchSpace s = space();
  FinetuneObjective o = objective(s);
  EXPECT_EQ(o.gguf_type(), "F16");
  const Outcome outcome = o.evaluate(s.defaults());
  ASSERT_TRUE(outcome.value) << outcome.message;
  EXPECT_GT(*outcome.value, 0.9);
}

TEST_F(FinetuneObjectiveTest, Int8TrainsOnInt8AndShipsAsQ8) {
  setup_.bit_width = BitWidth::int8;
  const SearchSpace s = space();
  FinetuneObjective o = objective(s);
  const Outcome outcome = o.evaluate(s.defaults());
  ASSERT_TRUE(outcome.value) << outcome.message;
  EXPECT_GT(*outcome.value, 0.9);
  EXPECT_EQ(read_model(o.base()).main_type(), "Q8_0");
}

TEST_F(FinetuneObjectiveTest, FailuresAreOutcomesWithTheirReasons) {
  struct Case {
    const char *parameter, *rate;
    Json value;
    std::function<void(FinetuneSetup&)> change;
    FailReason reason;
    std::string message;
  };
  const std::string wide = "{type: float, low: 1e-4, high: 1e30, log: true, default: 0.01}";
  const auto nothing = [](FinetuneSetup&) {};
  const Case cases[] = {
      {"learning_rate", nullptr, 1e30, nothing, FailReason::wrong_result, "the training diverged"},
      {"max_steps", nullptr, 1000000, [](FinetuneSetup& s) { s.timeout_s = 1.5; }, FailReason::timed_out,
       "no result after"},
      {"max_steps", nullptr, 20, [](FinetuneSetup& s) { s.memory_limit = 50'000'000; }, FailReason::out_of_memory,
       "more than the limit of 50.0 MB; a smaller batch or activation_checkpointing takes less"},
      {"max_steps", nullptr, 20, [](FinetuneSetup& s) { s.memory_free = 50'000'000; }, FailReason::out_of_memory,
       "more than the 50.0 MB that are free"},
  };
  const SearchSpace s = space(learning_space(wide, "{type: int, low: 20, high: 1000000, default: 20}"));
  const FinetuneSetup usual = setup_;
  for (const Case& c : cases) {
    setup_ = usual;
    c.change(setup_);
    FinetuneObjective o = objective(s);
    Configuration configuration = s.defaults();
    configuration[c.parameter] = c.value;
    const Outcome outcome = o.evaluate(configuration);
    EXPECT_FALSE(outcome.value) << c.message;
    EXPECT_EQ(outcome.reason, c.reason) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr(c.message));
    EXPECT_FALSE(fs::exists(o.adapter_folder(configuration))) << "nothing is left behind";
  }
}

TEST_F(FinetuneObjectiveTest, TrainsTheChosenLayersAlone) {
  setup_.lora_targets = {"attn_v", "ffn_up"};
  setup_.optimizer_states = "int8";
  const SearchSpace s = space();
  Configuration few = s.defaults();
  few["max_steps"] = 20;
  FinetuneObjective o = objective(s);
  const Outcome outcome = o.evaluate(few);
  ASSERT_TRUE(outcome.value) << outcome.message;
  const LoraAdapter adapter = read_adapter(o.adapter_folder(few) / "adapter.gguf", o.model());
  EXPECT_EQ(adapter.pairs.size(), 2u * static_cast<size_t>(o.model().n_layer));
  for (const LoraPair& pair : adapter.pairs)
    EXPECT_THAT(pair.tensor, AnyOf(HasSubstr("attn_v.weight"), HasSubstr("ffn_up.weight")));
}

TEST(TrainingBase, FollowsTheBitWidth) {
  const auto base = [](BitWidth width, const std::string& device) {
    FinetuneSetup setup;
    setup.bit_width = width, setup.device = device;
    return training_base(setup);
  };
  EXPECT_EQ(base(BitWidth::int4, "cpu"), "nf4_double");
  EXPECT_EQ(base(BitWidth::int4, "cuda"), "nf4_double");
  EXPECT_EQ(base(BitWidth::int8, "cpu"), "int8");
  EXPECT_EQ(base(BitWidth::int8, "cuda"), "gguf");
  EXPECT_EQ(base(BitWidth::fp16, "cpu"), "gguf");
}

TEST_F(FinetuneObjectiveTest, MemoryFollowsTheLongestExamples) {
  const SearchSpace s = space();
  const FinetuneObjective o = objective(s);
  Configuration small = s.defaults(), large = s.defaults();
  small["per_device_train_batch_size"] = 8;
  EXPECT_LT(o.memory(small).activations, o.memory(large).activations);
  EXPECT_NEAR(static_cast<double>(o.memory(large).activations) / static_cast<double>(o.memory(small).activations), 2,
              0.05);
}

// A long text becomes many sequences, as many as the batch takes.
TEST_F(FinetuneObjectiveTest, MemoryCountsThePartsOfALongText) {
  std::ofstream(folder_ / "long.txt") << std::string(60'000, 'a');
  const SearchSpace s = space();
  Configuration small = s.defaults(), large = s.defaults();
  small["per_device_train_batch_size"] = 8, large["per_device_train_batch_size"] = 16;
  setup_.examples = folder_ / "long.txt", setup_.form = "document";
  const FinetuneObjective document = objective(s);
  EXPECT_TRUE(document.plain_texts());
  EXPECT_EQ(document.n_examples(), 1u);
  EXPECT_EQ(document.memory(large).activations, 2 * document.memory(small).activations);
}

// A limit on the size of files stands for a full disk. It is no fault of the configuration, whose checkpoint stays.
TEST_F(FinetuneObjectiveTest, AFullDiskEndsTheStudy) {
  const SearchSpace s = space();
  FinetuneObjective o = objective(s);
  Configuration few = s.defaults();
  few["max_steps"] = 20;
  o.base();
  rlimit usual{};
  getrlimit(RLIMIT_FSIZE, &usual);
  const rlimit small{8192, usual.rlim_max};
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(o.evaluate(few), NoSpaceError);
  setrlimit(RLIMIT_FSIZE, &usual);
  signal(SIGXFSZ, handler);
  EXPECT_TRUE(fs::exists(o.adapter_folder(few)));
  EXPECT_TRUE(o.evaluate(few).value) << "it goes on";
}

TEST_F(FinetuneObjectiveTest, WhatIsWrongIsFoundBeforeAnythingRuns) {
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  };
  fs::create_directory(folder_ / "empty");
  fs::create_directory(folder_ / "broken");
  write("broken/boolq.jsonl", "{\"question\": \"x\", \"passage\": \"y\", \"label\": 1}\n{\"question\": 7}\n");
  const std::pair<std::function<void(FinetuneSetup&)>, std::string> cases[] = {
      {[&](FinetuneSetup& f) { f.model = folder_ / "none.gguf"; }, "none.gguf"},
      {[&](FinetuneSetup& f) { f.examples = folder_ / "none.jsonl"; }, "none.jsonl"},
      {[&](FinetuneSetup& f) { f.examples = write("e.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n"); }, "e.jsonl"},
      {[&](FinetuneSetup& f) { f.examples = write("n.jsonl", ""); }, "n.jsonl"},
      {[&](FinetuneSetup& f) { f.data = folder_ / "empty"; }, "boolq.jsonl: is missing"},
      {[&](FinetuneSetup& f) { f.data = folder_ / "broken"; }, "boolq.jsonl, line 2"},
      {[&](FinetuneSetup& f) { f.tasks = {}; }, "no task"},
      {[&](FinetuneSetup& f) { f.context = 4096; }, "set a smaller context"},
  };
  for (const auto& [change, message] : cases) {
    FinetuneSetup wrong = setup_;
    change(wrong);
    try {
      check_finetune(wrong, space());
      ADD_FAILURE() << "accepted: " << message;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(message));
    }
  }
  const std::pair<std::string, std::string> spaces[] = {
      {"momentum: {type: float, low: 0, high: 1}", "'momentum', which is no parameter"},
      {"lora_r: {type: float, low: 4, high: 64}", "'lora_r' may be 4; a fine-tuning takes whole numbers from 1"},
      {"lora_r: {type: categorical, choices: ['8', '16']}", "'lora_r' may be \"8\""},
      {"lora_r: {type: categorical, choices: [8, 16.5]}", "'lora_r' may be 16.5"},
      {"lora_r: {type: int, low: 0, high: 64}", "'lora_r' may be 0; a"},
      {"lora_r: {type: int, low: 8, high: 1024, default: 8}", "'lora_r' may be 1024, above the width"},
      {"lora_dropout: {type: float, low: 0, high: 1}", "takes numbers from 0 to below 1"},
      {"learning_rate: {type: float, low: 0, high: 1}", "takes numbers above 0"}};
  for (const auto& [text, message] : spaces) {
    try {
      check_finetune(setup_, space(text + "\n"));
      ADD_FAILURE() << "accepted: " << text;
    } catch (const UsageError& e) {
      EXPECT_THAT(e.what(), HasSubstr(message));
    }
  }
  EXPECT_NO_THROW(check_finetune(setup_, space("lora_r: {type: categorical, choices: [8, 16]}\n")));
  EXPECT_NO_THROW(check_finetune(setup_, space()));
}

}  // namespace
}  // namespace haqa
