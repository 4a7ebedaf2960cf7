// haqa finetune, and haqa compare --task, as a user runs them.
#include <algorithm>

#include "tests/finetune_program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

/// Folders of trainings, done or in work.
int64_t adapters(const fs::path& run) {
  std::error_code code;
  const fs::directory_iterator entries(run / "adapters", code);
  return code ? 0 : std::distance(begin(entries), end(entries));
}

TEST_F(FinetuneTest, HandsOverAnAdapterThatIsBetterThanTheUntunedModel) {
  const ProcessResult r = run({"finetune", path("task.yaml"), "--output", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output), held_out = summary["held_out"];
  ASSERT_EQ(summary["trials"].size(), 3u);
  EXPECT_EQ(summary["trials"][0]["proposed_by"], "default");
  EXPECT_EQ(summary["trials"][1]["proposed_by"], "expert");
  EXPECT_GT(held_out["best"]["mean"].get<double>(), held_out["base"]["mean"].get<double>() + 0.2);
  EXPECT_THAT(summary["answer"][0].get<std::string>(), HasSubstr("is better than the untuned model"));
  // The files are what was measured: haqa eval comes to the same.
  const auto measured = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "eval");
    arguments.insert(arguments.end(),
                     {"--data", path("data"), "--tasks", "boolq", "--part", "held-out", "--json", "-q"});
    return Json::parse(run(std::move(arguments)).output)["results"]["boolq"]["acc,none"].get<double>();
  };
  EXPECT_NEAR(measured({summary["files"]["base"], "--adapter", path("out/adapter.gguf")}), held_out["best"]["mean"],
              1e-6);
  EXPECT_NEAR(measured({path("out/model-merged-Q4_0.gguf")}), held_out["merged"]["mean"], 1e-6);
  for (const char* name : {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "study.html",
                           "suggestions.md", "log.jsonl"})
    EXPECT_TRUE(fs::exists(folder_ / "out" / name)) << name;
  EXPECT_TRUE(fs::is_empty(folder_ / "out/adapters")) << "the losers' are gone";
  // The agent was told what the paper tells it.
  const std::string transcript = read_file(folder_ / "out/transcript.jsonl");
  EXPECT_THAT(transcript, AllOf(HasSubstr("NF4 with double quantization"), HasSubstr("examples.jsonl (300 examples)"),
                                HasSubstr("boolq"), HasSubstr("losses"), HasSubstr("codebook")));
  // What is finished is shown again, as text.
  const ProcessResult again = run({"finetune", "--resume", path("out")});
  EXPECT_THAT(again.output, AllOf(HasSubstr("Accuracy on held-out questions"), HasSubstr(" ± "), HasSubstr("untuned %"),
                                  HasSubstr("llama-cli --model")));
}

// By whole trainings, as these take no minute; from a checkpoint within one: train/finetune_test.cpp.
TEST_F(FinetuneTest, GoesOnAfterAKill) {
  const auto arguments = [&](const std::string& out) {
    return std::vector<std::string>{"finetune", "task.yaml", "--sampler", "random", "--output", path(out), "-q"};
  };
  // From the task's folder, by a relative path; what goes on is called from elsewhere.
  ASSERT_TRUE(run_process(haqa_in_folder(arguments("whole"))).ok());
  {
    BackgroundProcess first(haqa_in_folder(arguments("killed")), folder_ / "first.log");
    ASSERT_TRUE(wait_until([&] { return trials_in(folder_ / "killed/log.jsonl") == 1; }));
    ASSERT_TRUE(wait_until([&] { return adapters(folder_ / "killed") > 1; })) << "the second is in training";
    first.signal(SIGKILL);
    ASSERT_TRUE(wait_until([&] { return !first.running(); }));
  }
  ASSERT_FALSE(fs::exists(folder_ / "killed/summary.json"));
  const std::string examples = read_file(folder_ / "examples.jsonl");
  write("examples.jsonl", examples.substr(0, examples.find('\n') + 1) + examples);
  const ProcessResult changed = run({"finetune", "--resume", path("killed"), "-q"});
  EXPECT_EQ(changed.code, 1);
  EXPECT_THAT(changed.errors, HasSubstr(path("examples.jsonl") + ": is not what it was when"));
  write("examples.jsonl", examples);
  const ProcessResult r = run({"finetune", "--resume", path("killed"), "-q"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json whole = read_json(folder_ / "whole/summary.json"), resumed = read_json(folder_ / "killed/summary.json");
  EXPECT_EQ(tried(resumed), tried(whole));
  EXPECT_EQ(resumed["held_out"], whole["held_out"]);
}

TEST_F(FinetuneTest, WhatIsWrongIsRefusedBeforeAnythingIsLeftBehind) {
  write("empty.jsonl", "");
  write("corrupt.jsonl", "{\"text\": \"a b\"}\n{\"text\": \n");
  write("momentum.yaml", "momentum: {type: float, low: 0, high: 1}\n");
  using More = std::vector<std::pair<std::string, std::string>>;
  const std::pair<More, std::string> cases[] = {
      {{{"examples", "-"}}, "finetune.examples: is missing"},
      {{{"data", "-"}}, "finetune.data: is missing"},
      {{{"examples", "none.jsonl"}}, "none.jsonl"},
      {{{"examples", "empty.jsonl"}}, "empty.jsonl"},
      {{{"examples", "corrupt.jsonl"}}, "corrupt.jsonl"},
      {{{"tasks", "[boolq, rte]"}}, "rte.jsonl: is missing"},
      {{{"tasks", "[bool]"}}, "boolq, rte"},
      {{{"bit_width", "int2"}}, "int4"},
      {{{"compute", "fp8"}}, "bf16"},
      {{{"device", "tpu"}}, "cuda"},
      {{{"optimizer_states", "int2"}}, "offloaded"},
      {{{"lora_targets", "[attn_q, output]"}}, "attn_q, attn_k"},
      {{{"rounds", "0"}}, "rounds"},
      {{{"sampler", "best"}}, "bayesian"},
      {{{"space", "none.yaml"}}, "none.yaml"},
      {{{"space", "momentum.yaml"}}, "'momentum'"},
      {{{"context", "4096"}}, "set a smaller context"},
      {{{"activation_checkpointing", "often"}}, "true or false"},
      {{{"epochs", "3"}}, "epochs"},
  };
  for (const auto& [more, expected] : cases) {
    const ProcessResult r = run({"finetune", write("wrong.yaml", task(more)), "--output", path("out")});
    EXPECT_TRUE(r.code == 1 || r.code == 2) << expected;
    EXPECT_THAT(r.errors, HasSubstr(expected));
    EXPECT_FALSE(fs::exists(folder_ / "out")) << expected;
  }
  if (!fs::exists("/proc/driver/nvidia/version")) {
    const ProcessResult r = run({"finetune", write("wrong.yaml", task({{"device", "cuda"}})), "--output", path("out")});
    EXPECT_EQ(r.code, 2);
    EXPECT_THAT(r.errors, HasSubstr("finetune.device: there is no CUDA GPU here; take cpu"));
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  }
  const ProcessResult none = run({"finetune", write("plain.yaml", "model: " + learning_model().string() + "\n")});
  EXPECT_THAT(none.errors, HasSubstr("has no section finetune"));
  EXPECT_EQ(run({"finetune", path("task.yaml"), "--sampler", "best"}).code, 2);
}

TEST_F(FinetuneTest, WhereNothingFitsItSaysWhatWould) {
  write("task.yaml", task({{"rounds", "2"}, {"memory_limit", "50MB"}}));
  const ProcessResult r = run({"finetune", path("task.yaml"), "--output", path("out"), "-q"});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, AllOf(HasSubstr("no round gave a model"), HasSubstr("more than the limit of 50.0 MB")));
}

TEST_F(FinetuneTest, AListOfOnesOwnStandsBesideTheTask) {
  const std::string rest =
      ", per_device_train_batch_size: 16, gradient_accumulation_steps: 1, max_grad_norm: 1, lora_r: 8, "
      "lora_alpha: 16, lora_dropout: 0}\n";
  write("mine.yaml", "- {learning_rate: 0.003, max_steps: 20" + rest + "- {learning_rate: 0.004, max_steps: 21" + rest);
  write("task.yaml", task({{"sampler", "human:mine.yaml"}, {"rounds", "2"}}));
  const ProcessResult r = run({"finetune", path("task.yaml"), "--output", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_EQ(Json::parse(r.output)["trials"][1]["configuration"]["learning_rate"], 0.003);
  EXPECT_EQ(read_json(folder_ / "out/task.yaml")["finetune"]["sampler"], "human:" + path("mine.yaml"));
}

// The paper's tables 2 and 6 for the model at hand.
TEST_F(FinetuneTest, MethodsAreComparedOnIt) {
  const std::vector<std::string> arguments = {"compare",   "--task", path("task.yaml"), "--methods", "default,random",
                                              "--seeds",   "2",      "--rounds",        "2",         "--output",
                                              path("cmp"), "-q"};
  const ProcessResult r = run(arguments);
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(r.output, AllOf(HasSubstr("Methods over 2 seeds, 2 rounds"), HasSubstr("Accuracy in % on held-out"),
                              HasSubstr("untuned"), HasSubstr("boolq")));
  const std::string table = read_file(folder_ / "cmp/table.csv");
  EXPECT_THAT(table, AllOf(HasSubstr("method,seeds,boolq,boolq_sd,mean,mean_sd\nuntuned,1,"), HasSubstr("\ndefault,2,"),
                           HasSubstr("\nrandom,2,")));
  EXPECT_TRUE(fs::exists(folder_ / "cmp/compare.html"));
  // It goes on, and shows the same.
  const std::string written = read_file(folder_ / "cmp/results.jsonl");
  EXPECT_EQ(run(arguments).output, r.output);
  EXPECT_EQ(read_file(folder_ / "cmp/results.jsonl"), written);
  EXPECT_THAT(run({"compare", "--task", path("task.yaml")}).errors, HasSubstr("--task needs --output"));
}

}  // namespace
}  // namespace haqa
