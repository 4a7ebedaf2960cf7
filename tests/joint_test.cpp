// haqa run with a section finetune: fine-tuning and deployment in one loop, as a user runs it.
#include "haqa/http/fake_server.h"
#include "haqa/model/model_info.h"
#include "tests/finetune_program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class JointTest : public FinetuneTest {
 protected:
  /// A run that takes seconds; more, top: see task().
  std::string joint_task(const std::vector<std::pair<std::string, std::string>>& more = {}, const std::string& top = "",
                         int rounds = 3) {
    std::vector<std::pair<std::string, std::string>> keys = more;
    keys.emplace_back("rounds", "-");
    const std::string kernels = top.find("kernels:") == std::string::npos ? "kernels: {rounds: 0}\n" : "";
    return write("joint.yaml",
                 task(keys, "context: 64\nprompt_tokens: 16\ngenerate_tokens: 8\nrepetitions: 6\n" + kernels + top +
                                "tuning: {rounds: " + std::to_string(rounds) + ", pairs: 1, confirm_pairs: 6}\n"));
  }
  std::vector<Json> lines_of(const std::string& name) const {
    std::vector<Json> lines;
    std::istringstream text(read_file(folder_ / name));
    for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
    return lines;
  }
  /// Accuracy on held-out questions by haqa eval.
  double evaluated(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "eval");
    arguments.insert(arguments.end(),
                     {"--data", path("data"), "--tasks", "boolq", "--part", "held-out", "--json", "-q"});
    const ProcessResult r = run(std::move(arguments));
    EXPECT_TRUE(r.ok()) << r.errors;
    return Json::parse(r.output)["results"]["boolq"]["acc,none"];
  }
};

TEST_F(JointTest, BundlesATunedModelThatAnswersBetter) {
  const ProcessResult r = run({"run", joint_task({}, "bit_widths: [int8, int4]\n"), "-o", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output), finetune = summary["finetune"], held_out = finetune["held_out"];
  EXPECT_EQ(summary["trials"].size(), 3u);
  EXPECT_EQ(finetune["trials"].size(), 3u);
  EXPECT_EQ(summary["track"]["name"], "runtime");
  EXPECT_EQ(finetune["track"]["name"], "fine-tuning");
  EXPECT_EQ(finetune["deployed"], "tuned");
  EXPECT_GT(held_out["deployed"]["mean"].get<double>(), held_out["given"]["mean"].get<double>() + 0.2);

  // One question and one answer a round, for both.
  const std::vector<Json> exchanges = lines_of("out/transcript.jsonl");
  ASSERT_EQ(exchanges.size(), 2u) << "the first round runs the defaults";
  EXPECT_THAT(exchanges[0]["track"].get<std::string>(), AllOf(HasSubstr("fine-tuning"), HasSubstr("runtime")));
  const std::string told = exchanges[1]["messages"].dump();
  EXPECT_THAT(told,
              AllOf(HasSubstr("accuracy: "), HasSubstr("losses"), HasSubstr("speedup"), HasSubstr("tokens_per_s")));

  // What lies in the bundle is what was measured.
  const fs::path bundle = folder_ / "out/bundle";
  const std::string model = bundle / summary["bundle"]["model"].get<std::string>();
  EXPECT_EQ(read_model(model).main_type(), summary["decision"]["gguf_type"]);
  EXPECT_NEAR(evaluated({model}), held_out["deployed"]["mean"], 1e-6);
  EXPECT_NEAR(evaluated({learning_model(), "--adapter", bundle / "adapter.gguf"}), held_out["given_tuned"]["mean"],
              1e-6);
  EXPECT_EQ(read_json(bundle / "accuracy.json"), held_out);
  for (const char* name :
       {"launch.sh", "profile.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"})
    EXPECT_TRUE(fs::exists(bundle / name)) << name;
  for (const char* gone : {"models", "adapters"}) EXPECT_FALSE(fs::exists(folder_ / "out" / gone)) << gone;

  // Stock llama.cpp applies the adapter.
  const Command cli{{llama_bin_folder() / "llama-cli", "-m", learning_model(), "--lora", bundle / "adapter.gguf",
                     "--single-turn", "-p", "is it day?", "-n", "4"}};
  const ProcessResult applied = run_process(cli);
  EXPECT_TRUE(applied.ok()) << applied.errors;

  // The trade-offs: both widths untuned, and what is deployed, which nothing answers better than.
  std::map<std::string, Json> points;
  for (const Json& t : summary["trade_offs"]) points[t["name"]] = t;
  for (const char* name : {"int8 (Q8_0), untuned", "int4 (Q4_0), untuned", "deployed"})
    EXPECT_TRUE(points.contains(name)) << name;
  double most = 0, most_on_front = 0;
  for (const Json& t : summary["trade_offs"]) {
    most = std::max(most, t["accuracy"].get<double>());
    if (t["on_front"]) most_on_front = std::max(most_on_front, t["accuracy"].get<double>());
  }
  EXPECT_EQ(most_on_front, most) << "nothing can beat the most accurate";
  EXPECT_EQ(points["deployed"]["accuracy"], finetune["deployed_validation"]["mean"]);
  const std::string page = read_file(folder_ / "out/report.html");
  for (const char* part : {">Fine-tuning<", ">Accuracy, speed and memory<", "Accuracy on held-out questions"})
    EXPECT_THAT(page, HasSubstr(part));
  const ProcessResult shown = run({"show", path("out")});
  EXPECT_THAT(shown.output, AllOf(HasSubstr("Fine-tuning: The best"), HasSubstr("deployed %"), HasSubstr("untuned")));
}

TEST_F(JointTest, AKilledRunGoesOnWithoutAskingTwice) {
  const std::string file = joint_task({}, "bit_widths: [int8]\n", 3);
  ASSERT_TRUE(run({"run", file, "-o", path("whole"), "-q"}).ok());
  {
    const std::string relative = fs::path(file).filename().string();  // from the task's folder
    BackgroundProcess first(haqa_in_folder({"run", relative, "-o", path("killed"), "-q"}), folder_ / "first.log");
    // Both tracks' first round, and the fine-tuning's second: the runtime's answer of the same exchange is still to
    // come.
    for (const int trials : {1, 3})  // a minute each
      ASSERT_TRUE(wait_until([&] { return trials_in(folder_ / "killed/log.jsonl") >= trials; }));
    first.signal(SIGKILL);
    ASSERT_TRUE(wait_until([&] { return !first.running(); }));
  }
  ASSERT_FALSE(fs::exists(folder_ / "killed/summary.json"));
  EXPECT_THAT(run({"finetune", "--resume", path("killed")}).errors, HasSubstr("is a run of haqa run"));
  {
    BackgroundProcess second(haqa({"run", "--resume", path("killed"), "-q"}), folder_ / "second.log");
    ASSERT_TRUE(wait_until([&] { return trials_in(folder_ / "killed/log.jsonl") == 6; }));
    ASSERT_TRUE(wait_until(
        [&] { return read_file(folder_ / "killed/log.jsonl").find("base: held-out") != std::string::npos; }));
    second.signal(SIGKILL);
    ASSERT_TRUE(wait_until([&] { return !second.running(); }));
  }
  const ProcessResult unfinished = run({"show", path("killed")});
  EXPECT_THAT(unfinished.output, HasSubstr("Rounds of fine-tuning"));
  const ProcessResult r = run({"run", "--resume", path("killed"), "-q"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json whole = read_json(folder_ / "whole/summary.json"), resumed = read_json(folder_ / "killed/summary.json");
  // The third proposal depends on how fast the second was.
  const auto first_two = [](const Json& run) {
    auto all = tried(run["finetune"]);
    all.resize(2);
    return all;
  };
  EXPECT_EQ(first_two(resumed), first_two(whole));
  EXPECT_EQ(resumed["finetune"]["trials"].size(), 3u);
  EXPECT_EQ(resumed["trials"].size(), 3u);
  EXPECT_EQ(lines_of("killed/transcript.jsonl").size(), 2u);
  EXPECT_EQ(resumed["finetune"]["held_out"]["base"], whole["finetune"]["held_out"]["base"]);
  EXPECT_THAT(run({"finetune", "--resume", path("killed")}).errors, HasSubstr("haqa run --resume"));
}

/// Answers for the first track and nothing for the second.
TEST_F(JointTest, ATrackThatTheAgentForgetsFallsBackAlone) {
  const std::string action =
      R"({"fine-tuning": {"learning_rate": 0.02, "max_steps": 70, "per_device_train_batch_size": 16,)"
      R"( "gradient_accumulation_steps": 1, "max_grad_norm": 1, "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0}})";
  FakeServer server([&](const FakeServer::Request& request, const FakeServer::Connection& connection) {
    connection.send(request.head.starts_with("GET") ? FakeServer::reply(200, R"({"data":[{"id":"m"}]})")
                                                    : FakeServer::chat("Thought: more.\nAction: " + action));
  });
  const std::string agent =
      "bit_widths: [int8]\nagent: {provider: openai, model: m, tries: 1, base_url: '" + server.url() + "'}\n";
  const ProcessResult r = run({"run", joint_task({}, agent, 2), "-o", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["finetune"]["trials"][1]["proposed_by"], "m");
  EXPECT_EQ(summary["finetune"]["trials"][1]["configuration"]["max_steps"], 70);
  EXPECT_EQ(summary["trials"][1]["proposed_by"], "fallback: bayesian");
}

/// The options leave the last rounds to a kernel, which the agent proposes for together with the fine-tuning.
TEST_F(JointTest, AKernelIsTunedBesideTheFineTuning) {
  use_llama_bench(kModuleIsFaster);
  const ProcessResult r = run({"run", joint_task({}, "bit_widths: [int8]\nkernels: {rounds: 2, names: [matvec]}\n", 4),
                               "-o", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  if (!fs::exists(HAQA_BIN_DIR "/libggml-haqa.so")) GTEST_SKIP() << "this build has no module";
  ASSERT_TRUE(summary.contains("kernels")) << summary["trials"];
  EXPECT_EQ(summary["finetune"]["trials"].size(), 4u);
  EXPECT_EQ(summary["trials"].size(), 3u);
  ASSERT_EQ(summary["kernels"]["kernels"].size(), 1u);
  EXPECT_EQ(summary["kernels"]["kernels"][0]["trials"].size(), 2u);
  EXPECT_EQ(summary["kernels"]["kernels"][0]["serves"], "variant");
  const std::vector<Json> exchanges = lines_of("out/transcript.jsonl");
  ASSERT_EQ(exchanges.size(), 3u);
  EXPECT_THAT(exchanges[1]["track"].get<std::string>(), AllOf(HasSubstr("fine-tuning"), HasSubstr("runtime")));
  EXPECT_THAT(exchanges[2]["track"].get<std::string>(),
              AllOf(HasSubstr("fine-tuning"), HasSubstr("kernel matvec-Q8_0"), Not(HasSubstr("runtime"))));
  EXPECT_TRUE(fs::exists(folder_ / "out/bundle/haqa/haqa-tuning.json"));
}

TEST_F(JointTest, AnotherSamplerHasTheFineTuningForItself) {
  const ProcessResult r =
      run({"run", joint_task({{"sampler", "random"}}, "bit_widths: [int8]\n", 2), "-o", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["finetune"]["trials"][1]["proposed_by"], "random");
  EXPECT_EQ(summary["trials"][1]["proposed_by"], "expert");
}

TEST_F(JointTest, TunesForADeviceThatIsNotHere) {
  const ProcessResult r =
      run({"run", joint_task({{"bit_width", "fp16"}}, "device: adreno-740\n", 2), "-o", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["decision"]["bit_width"], "fp16");
  EXPECT_TRUE(summary["trials"].empty()) << "no speed can be measured";
  EXPECT_EQ(summary["finetune"]["trials"].size(), 2u);
  EXPECT_TRUE(fs::exists(folder_ / "out/bundle/llama-finetuned-F16.gguf"));
}

/// Questions whose answers are the opposite of what the examples teach: it says so and ships the model as it was.
TEST_F(JointTest, WhatIsWorseThanTheUntunedModelIsNotDeployed) {
  write("data/boolq.jsonl", [] {
    std::string rows;  // the opposite of what the examples teach
    for (int i = 0; i < 60; ++i)
      rows += Json{{"question", i % 2 ? "is it day" : "is it night"},
                   {"passage", "at " + std::to_string(i)},
                   {"label", i % 2 ? 0 : 1}}
                  .dump() +
              "\n";
    return rows;
  }());
  // From the folder of the task, so that its files have two names, the long and the short one.
  joint_task({}, "bit_widths: [int8]\n", 1);
  const ProcessResult r = run_process({{"sh", "-c", R"(cd "$0" && exec "$1" run joint.yaml -o out --json)",
                                        folder_.path().string(), HAQA_BIN_DIR "/haqa"}});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  ASSERT_LT(summary["finetune"]["trials"][0]["value"], summary["finetune"]["base_validation"]["mean"]);
  EXPECT_EQ(summary["finetune"]["deployed"], "untuned");
  EXPECT_EQ(summary["bundle"]["model"], "llama-Q8_0.gguf");
  EXPECT_FALSE(fs::exists(folder_ / "out/bundle/adapter.gguf"));
  EXPECT_EQ(summary["finetune"]["held_out"]["deployed"], summary["finetune"]["held_out"]["base"]);
  const std::string log = read_file(folder_ / "out/log.jsonl");
  EXPECT_THAT(log, HasSubstr("\"base: held-out\""));
  EXPECT_THAT(log, Not(HasSubstr("\"deployed: held-out\""))) << "it is the same file, which is asked once";
}

TEST_F(JointTest, WhereNoTrainingFitsTheModelIsDeployedUntuned) {
  const ProcessResult r =
      run({"run", joint_task({{"memory_limit", "50MB"}}, "bit_widths: [int8]\n", 1), "-o", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["finetune"]["trials"][0]["reason"], "out_of_memory");
  EXPECT_TRUE(summary["finetune"]["best"].is_null());
  EXPECT_EQ(summary["bundle"]["model"], "llama-Q8_0.gguf");
  EXPECT_THAT(read_file(folder_ / "out/report.html"), HasSubstr("No configuration gave a model."));
}

TEST_F(JointTest, WhatIsWrongIsRefusedBeforeAnythingIsLeftBehind) {
  write("empty.jsonl", "");
  struct Case {
    std::vector<std::pair<std::string, std::string>> section;
    std::string top, says;
  };
  for (const Case& c : std::vector<Case>{
           {{{"examples", "empty.jsonl"}}, "", "empty.jsonl"},
           {{{"tasks", "[rte]"}}, "", "rte.jsonl: is missing"},
           {{{"sampler", "hybrid"}}, "", "hybrid is for haqa finetune"},
           {{{"context", "4096"}}, "", "set a smaller context"},
           {{{"bit_width", "int4"}}, "bit_widths: [int8]\n", "is none of bit_widths"},
           {{}, "agent: {provider: self}\n", "self is for runs without"},
       }) {
    const ProcessResult r = run({"run", joint_task(c.section, c.top), "-o", path("out")});
    EXPECT_TRUE(r.code == 1 || r.code == 2) << c.says;
    EXPECT_THAT(r.errors, HasSubstr(c.says));
    EXPECT_FALSE(fs::exists(folder_ / "out")) << c.says;
  }
  const std::string rounds =
      write("rounds.yaml", task({{"rounds", "7"}}, "context: 64\nprompt_tokens: 16\ngenerate_tokens: 8\n"));
  EXPECT_THAT(run({"run", rounds, "-o", path("out")}).errors, HasSubstr("finetune.rounds 7 is not tuning.rounds 10"));
}

}  // namespace
}  // namespace haqa
