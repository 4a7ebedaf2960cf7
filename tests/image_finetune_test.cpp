// haqa pretrain images, and haqa finetune and haqa compare --task on a network for images, as a user runs them.
#include <algorithm>

#include "haqa/adapter/safetensors.h"
#include "tests/finetune_program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// A folder with generated images, and the means to run haqa in it.
class ImagesTest : public LearningTest {
 protected:
  ImagesTest() : LearningTest(1) {
    const ProcessResult made = run({"data", "make-images", "cifar10", path("shapes"), "--train", "300", "--test", "90",
                                    "--classes", "3", "--noise", "0.05", "-q"});
    EXPECT_TRUE(made.ok()) << made.errors;
    write("space.yaml",
          "learning_rate: {type: float, low: 1e-3, high: 0.5, log: true, default: 0.02}\n"
          "batch_size: {type: int, low: 32, high: 64, default: 40}\n"
          "momentum: {type: float, low: 0.5, high: 0.99, default: 0.9}\n"
          "num_epochs: {type: int, low: 1, high: 2, default: 1}\n");
    write("task.yaml", task());
  }
  std::vector<std::string> pretrain(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {"pretrain", "images",     "resnet20", path("shapes"),       "--epochs",
                                    "3",        "--batch",    "32",       "--validation-share", "0.2",
                                    "-o",       path(output), "-q"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void pretrain() const {
    const ProcessResult r = run(pretrain("model.safetensors"));
    ASSERT_TRUE(r.ok()) << r.errors;
  }
  /// `more`: lines of the section, which take the place of the usual ones of the same key.
  std::string task(const std::vector<std::pair<std::string, std::string>>& more = {}) const {
    std::vector<std::pair<std::string, std::string>> keys = {{"method", "dorefa"},    {"images", "shapes"},
                                                             {"bit_width", "w2a2"},   {"validation_share", "0.2"},
                                                             {"space", "space.yaml"}, {"rounds", "3"}};
    for (const auto& [key, value] : more) {
      std::erase_if(keys, [&, k = key](const auto& known) { return known.first == k; });
      keys.emplace_back(key, value);
    }
    std::string text = "model: model.safetensors\nfinetune:\n";
    for (const auto& [key, value] : keys)
      if (value != "-") text += "  " + key + ": " + value + "\n";
    return text;
  }
};

TEST_F(ImagesTest, APretrainedNetworkIsTunedAtTwoBits) {
  const ProcessResult pretrained = run(pretrain("model.safetensors", {"--json"}));
  ASSERT_TRUE(pretrained.ok()) << pretrained.errors;
  const Json told = Json::parse(pretrained.output);
  EXPECT_EQ(told["losses"].size(), 3u);
  EXPECT_EQ(told["training_images"], 240);
  EXPECT_FALSE(fs::exists(path("model.safetensors.unfinished")));
  EXPECT_THAT(run(pretrain("model.safetensors")).errors, HasSubstr("is there already"));

  const ProcessResult r = run({"finetune", path("task.yaml"), "--output", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output), held_out = summary["held_out"];
  ASSERT_EQ(summary["trials"].size(), 3u);
  EXPECT_EQ(summary["trials"][0]["proposed_by"], "default");
  EXPECT_EQ(summary["trials"][1]["proposed_by"], "expert");
  for (const char* key : {"given", "base", "defaults", "best"})
    EXPECT_TRUE(held_out[key]["tasks"]["shapes"]["accuracy"].is_number()) << key;
  EXPECT_EQ(summary["network"]["bit_width"], "w2a2");
  EXPECT_FALSE(summary.contains("deployment"));
  EXPECT_TRUE(fs::exists(folder_ / "out/resnet20-w2a2.onnx"));
  EXPECT_EQ(summary["network"]["test_images"], 90);
  EXPECT_EQ(summary["network"]["mean"], told["mean"]);
  EXPECT_EQ(summary["network"]["deviation"], told["deviation"]);
  EXPECT_THAT(summary["answer"].dump(), HasSubstr("In w2a2 it"));
  // The network is there, and what was in work is not.
  const SafetensorsFile network(path("out/resnet20-w2a2.safetensors"));
  EXPECT_TRUE(network.tensors().contains("layer3.2.conv2.weight"));
  // It knows what it was trained on, so that what is exported takes pixels as they are.
  EXPECT_EQ(Json::parse(network.notes().at("haqa.images"))["classes"], summary["network"]["classes"]);
  const ProcessResult exported =
      run({"export", path("out/resnet20-w2a2.safetensors"), "-o", path("tuned.onnx"), "--json", "-q"});
  ASSERT_TRUE(exported.ok()) << exported.errors;
  EXPECT_EQ(Json::parse(exported.output)["mean"], told["mean"]);
  const ProcessResult normalized =
      run({"export", path("out/resnet20-w2a2.safetensors"), "-o", path("n.onnx"), "--normalized", "-q"});
  EXPECT_THAT(normalized.output, HasSubstr("takes images that are normalized as they were in training"));
  for (const char* name : {"study.html", "suggestions.md", "log.jsonl"})
    EXPECT_TRUE(fs::exists(folder_ / "out" / name)) << name;
  EXPECT_TRUE(fs::is_empty(folder_ / "out/networks"));
  // The agent was told what the paper tells it: the losses of epochs, and the code of quantizer and network.
  const std::string transcript = read_file(folder_ / "out/transcript.jsonl");
  EXPECT_THAT(transcript, AllOf(HasSubstr("quantization-aware training by DoReFa at w2a2"), HasSubstr("quantize_k"),
                                HasSubstr("conv3x3"), HasSubstr("validation_accuracies"), HasSubstr("losses"),
                                HasSubstr("shapes (240 images of 3 classes)")));
  const ProcessResult again = run({"finetune", "--resume", path("out")});
  EXPECT_THAT(again.output, AllOf(HasSubstr("Accuracy on the test images"), HasSubstr("full precision %"),
                                  HasSubstr("resnet20-w2a2.safetensors"), Not(HasSubstr("llama-cli"))));
  EXPECT_THAT(again.output, StartsWith(run({"show", path("out")}).output));
  EXPECT_THAT(run({"run", path("task.yaml")}).errors, HasSubstr("haqa finetune"));
}

/// Of the ONNX file, given the pixels of the test images as they are.
constexpr const char* kAccuracyOfOnnx = R"py(
import sys
import numpy
import onnxruntime
records = numpy.fromfile(sys.argv[2], numpy.uint8).reshape(-1, 3073)
images = (records[:, 1:].reshape(-1, 3, 32, 32) / 255).astype(numpy.float32)
logits, = onnxruntime.InferenceSession(sys.argv[1]).run(None, {"images": images})
print((logits.argmax(1) == records[:, 0]).mean())
)py";

// Without Python: sizes alone decide.
TEST_F(ImagesTest, TheBitWidthIsChosenUnderAFileLimit) {
  pretrain();
  write("task.yaml", task({{"bit_width", "[w8a8, w4a4, w2a2]"}, {"file_limit", "250kB"}}));
  const auto command = [&](std::vector<std::string> arguments) {
    Command made = haqa(std::move(arguments));
    made.environment.emplace_back("PATH", path("no/python"));
    made.environment.emplace_back("HAQA_CACHE", path("cache"));
    return made;
  };
  const ProcessResult whole = run_process(command({"finetune", path("task.yaml"), "--output", path("whole")}));
  ASSERT_TRUE(whole.ok()) << whole.errors;
  EXPECT_THAT(whole.errors,
              AllOf(HasSubstr("w8a8 is left out: its file of "), HasSubstr("larger than file_limit 250.0 kB"),
                    HasSubstr("neither latency nor memory is measured: "), HasSubstr("ONNX Runtime cannot be made")));
  const Json summary = read_json(folder_ / "whole/summary.json"), rows = summary["deployment"]["candidates"];
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0]["bit_width"], "fp32");
  EXPECT_TRUE(rows[1].contains("left_out"));
  for (const size_t i : {2, 3}) {
    EXPECT_FALSE(rows[i].contains("left_out"));
    EXPECT_LT(rows[i]["bytes"], 250'000);
    EXPECT_LT(rows[i]["size_ratio"], 0.25);
    EXPECT_TRUE(rows[i]["latency_ms"].is_null());
    EXPECT_TRUE(rows[i]["accuracy"]["mean"].is_number());
  }
  // The first that keeps the limit is the default, and what is left out is no choice.
  EXPECT_EQ(summary["trials"][0]["configuration"]["bit_width"], "w4a4");
  for (const Json& trial : summary["trials"])
    EXPECT_THAT(trial["configuration"]["bit_width"], testing::AnyOf("w4a4", "w2a2"));
  const Json best = summary["trials"][summary["best"].get<size_t>()]["configuration"]["bit_width"];
  EXPECT_EQ(summary["network"]["bit_width"], best);
  EXPECT_EQ(summary["deployment"]["best"]["bit_width"], best);
  const std::string onnx = summary["files"]["onnx"];
  EXPECT_EQ(onnx, path("whole/resnet20-" + best.get<std::string>() + ".onnx"));
  EXPECT_EQ(summary["deployment"]["best"]["bytes"], fs::file_size(onnx));
  EXPECT_TRUE(fs::exists(summary["files"]["network"].get<std::string>()));
  EXPECT_THAT(whole.output, AllOf(HasSubstr("Bit widths as they are deployed"), HasSubstr("left out: its file of"),
                                  HasSubstr("As an ONNX file it takes"), HasSubstr("bit_width w2a2")));
  EXPECT_THAT(read_file(folder_ / "whole/study.html"), HasSubstr("Bit widths as they are deployed"));
  EXPECT_THAT(read_file(folder_ / "whole/transcript.jsonl"),
              AllOf(HasSubstr("that you choose in each round: w4a4 (4 bits of weights, 4 of activations) or w2a2"),
                    HasSubstr("at most 250.0 kB for the file"), HasSubstr("left out: its file of")));
  // Named from where it is run, which the resumed one need not be.
  const std::string relative = fs::relative(path("task.yaml"));
  ASSERT_NO_FATAL_FAILURE(kill_when([&] { return trials_in(folder_ / "killed/log.jsonl") == 1; },
                                    command({"finetune", relative, "--output", path("killed"), "-q"}),
                                    folder_ / "first.log"));
  const ProcessResult resumed = run_process(command({"finetune", "--resume", path("killed"), "-q"}));
  ASSERT_TRUE(resumed.ok()) << resumed.errors;
  const Json again = read_json(folder_ / "killed/summary.json");
  EXPECT_EQ(again["deployment"]["candidates"], rows);
  ASSERT_EQ(again["trials"].size(), 3u);
  EXPECT_EQ(tried(again)[0], tried(summary)[0]);
  for (const Json& trial : again["trials"])
    EXPECT_THAT(trial["configuration"]["bit_width"], testing::AnyOf("w4a4", "w2a2"));
  // What cannot be kept, or not be measured, is said before a folder is made.
  const auto refused = [&](const std::vector<std::pair<std::string, std::string>>& more) {
    const ProcessResult r =
        run_process(command({"finetune", write("wrong.yaml", task(more)), "--output", path("wrong"), "-q"}));
    EXPECT_EQ(r.code, 1);
    EXPECT_FALSE(fs::exists(folder_ / "wrong"));
    return r.errors;
  };
  EXPECT_THAT(refused({{"bit_width", "[w8a8, w4a4]"}, {"file_limit", "10kB"}}),
              AllOf(HasSubstr("no bit width keeps the limits (file_limit 10.0 kB): fp32 "), HasSubstr("w4a4 ")));
  EXPECT_THAT(refused({{"file_limit", "10kB"}}), HasSubstr("no bit width keeps the limits"));
  EXPECT_THAT(refused({{"latency_limit_ms", "100"}}),
              AllOf(HasSubstr("check the network"), HasSubstr("without finetune.latency_limit_ms it is not needed")));
  EXPECT_THAT(refused({{"inference_memory_limit", "1GB"}}),
              HasSubstr("without finetune.inference_memory_limit it is not needed"));
}

TEST_F(ImagesTest, TheBitWidthIsChosenUnderALatencyLimit) {
  pretrain();
  const auto tuned = [&](const std::string& limit, const std::string& output) {
    return run({"finetune",
                write("task.yaml", task({{"bit_width", "[w4a4, w2a2]"}, {"latency_limit_ms", limit}, {"rounds", "2"}})),
                "--sampler", "random", "--output", path(output)});
  };
  const ProcessResult r = tuned("10000", "out");
  if (r.errors.find("ONNX Runtime cannot be made") != std::string::npos) GTEST_SKIP() << r.errors;
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = read_json(folder_ / "out/summary.json"), deployment = summary["deployment"];
  EXPECT_THAT(deployment["runtime"], testing::StartsWith("onnxruntime "));
  EXPECT_EQ(deployment["candidates"].size(), 3u);
  std::vector<Json> rows = deployment["candidates"];
  rows.push_back(deployment["best"]);
  for (const Json& row : rows) {
    EXPECT_GT(row["latency_ms"]["median"], 0) << row;
    EXPECT_LE(row["latency_ms"]["low"], row["latency_ms"]["high"]) << row;
    EXPECT_GT(row["speed_up"]["median"], 0) << row;
    EXPECT_GT(row["memory_bytes"], row["bytes"]) << row;
    EXPECT_LT(row["memory_bytes"], 100'000'000) << row;
  }
  EXPECT_EQ(rows[0]["speed_up"]["median"], 1);
  // What is deployed knows what was measured, up to an image that its roundings move.
  const ProcessResult found = run_process({{cache_folder() / "onnxruntime-1.32.0/bin/python", "-c", kAccuracyOfOnnx,
                                            summary["files"]["onnx"], path("shapes/test_batch.bin")}});
  ASSERT_TRUE(found.ok()) << found.errors;
  EXPECT_NEAR(std::stod(found.output), summary["held_out"]["best"]["mean"], 1.5 / 90);
  EXPECT_THAT(
      tuned("0.00001", "none").errors,
      AllOf(HasSubstr("no bit width keeps the limits (latency_limit_ms 1e-05)"), HasSubstr("w2a2 "), HasSubstr(" ms")));
}

// By whole trainings; from a checkpoint within one: vision/train_images_test.cpp.
TEST_F(ImagesTest, GoesOnAfterAKill) {
  pretrain();
  const auto arguments = [&](const std::string& out) {
    return std::vector<std::string>{"finetune", "task.yaml", "--sampler", "random", "--output", path(out), "-q"};
  };
  // From the task's folder, by a relative path; what goes on is called from elsewhere.
  ASSERT_TRUE(run_process(haqa_in_folder(arguments("whole"))).ok());
  ASSERT_NO_FATAL_FAILURE(kill_when([&] { return trials_in(folder_ / "killed/log.jsonl") == 1; },
                                    haqa_in_folder(arguments("killed")), folder_ / "first.log"));
  ASSERT_FALSE(fs::exists(folder_ / "killed/summary.json"));
  const std::string records = read_file(folder_ / "shapes/test_batch.bin");
  write("shapes/test_batch.bin", records.substr(0, records.size() - 3073));
  EXPECT_THAT(run({"finetune", "--resume", path("killed"), "-q"}).errors, HasSubstr("is not what it was when"));
  write("shapes/test_batch.bin", records);
  const ProcessResult r = run({"finetune", "--resume", path("killed"), "-q"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json whole = read_json(folder_ / "whole/summary.json"), resumed = read_json(folder_ / "killed/summary.json");
  EXPECT_EQ(tried(resumed), tried(whole));
  EXPECT_EQ(resumed["held_out"], whole["held_out"]);
}

TEST_F(ImagesTest, AKilledPretrainingGoesOnFromItsCheckpoint) {
  ASSERT_TRUE(run(pretrain("whole.safetensors")).ok());
  ASSERT_NO_FATAL_FAILURE(kill_when([&] { return fs::exists(path("killed.safetensors.unfinished/checkpoint")); },
                                    haqa(pretrain("killed.safetensors", {"--checkpoint", "0.001"})),
                                    folder_ / "first.log"));
  ASSERT_FALSE(fs::exists(path("killed.safetensors")));
  const ProcessResult r = run(pretrain("killed.safetensors", {"--checkpoint", "0.001"}));
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_EQ(read_file(path("killed.safetensors")), read_file(path("whole.safetensors")));
}

TEST_F(ImagesTest, APretrainingOfOtherWeightsOrImagesIsAnother) {
  pretrain();
  ASSERT_NO_FATAL_FAILURE(kill_when([&] { return fs::exists(path("more.safetensors.unfinished/checkpoint")); },
                                    haqa(pretrain("more.safetensors", {"--checkpoint", "0.001"})),
                                    folder_ / "first.log"));
  const ProcessResult other = run(pretrain("more.safetensors", {"--weights", path("model.safetensors")}));
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.errors, HasSubstr("is the checkpoint of another training"));
  // What a model learned from is not to be held back: another share has other images.
  const ProcessResult leaking = run({"pretrain", "images", "resnet20", path("shapes"), "--weights",
                                     path("model.safetensors"), "--validation-share", "0.3", "-o", path("leak")});
  EXPECT_EQ(leaking.code, 2);
  EXPECT_THAT(leaking.errors, HasSubstr("was trained on these images with a validation share of 0.2, not 0.3"));
}

// By PACT, on JPEGs, one of which is damaged: few, as each has fifty times the pixels of CIFAR's.
TEST_F(ImagesTest, APactNetworkIsTunedOnJpegs) {
  ASSERT_TRUE(run({"data", "make-images", "folder", path("jpegs"), "--train", "10", "--test", "2", "--classes", "2",
                   "--side", "32", "-q"})
                  .ok());
  fs::path damaged;
  for (const auto& entry : fs::recursive_directory_iterator(path("jpegs/val")))
    if (entry.is_regular_file()) damaged = std::max(damaged, entry.path());
  std::ofstream(damaged) << "no JPEG";
  ASSERT_TRUE(run({"pretrain", "images", "resnet20", path("jpegs"), "--epochs", "1", "--batch", "4",
                   "--validation-share", "0.2", "-o", path("model.safetensors"), "-q"})
                  .ok());
  write("small.yaml",
        "batch_size: {type: int, low: 4, high: 8, default: 4}\n"
        "num_epochs: {type: int, low: 1, high: 2, default: 1}\n");
  write("task.yaml", task({{"method", "pact"},
                           {"images", "jpegs"},
                           {"bit_width", "w4a4"},
                           {"last_layer", "true"},
                           {"space", "small.yaml"},
                           {"rounds", "1"}}));
  const ProcessResult r = run({"finetune", path("task.yaml"), "--output", path("out"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["held_out"]["best"]["skipped"], 1);
  EXPECT_THAT(summary["answer"].dump(),
              HasSubstr("Of the test images 1 is damaged and left out, the first: " + damaged.string() + ": "));
  EXPECT_THAT(r.errors, HasSubstr("1 damaged image left out, the first: " + damaged.string()));
  const SafetensorsFile network(path("out/resnet20-w4a4.safetensors"));
  for (const char* clip : {"act1.clip", "layer3.2.act2.clip", "fc.clip"})
    EXPECT_TRUE(network.tensors().contains(clip)) << clip;
}

TEST_F(ImagesTest, WhatIsWrongIsRefusedBeforeAnythingIsLeftBehind) {
  write("model.safetensors", "");
  write("rank.yaml", "lora_r: {type: int, low: 8, high: 16}\n");
  write("batch.yaml", "batch_size: {type: int, low: 32, high: 256}\n");
  write("width.yaml", "bit_width: {type: categorical, choices: [w8a8, w2a2]}\n");
  write("human.yaml", "- {learning_rate: 0.1, batch_size: 40, momentum: 0.9, num_epochs: 1, bit_width: w3a3}\n");
  fs::create_directory(path("short"));
  fs::create_directory(path("labels"));
  for (const fs::directory_entry& entry : fs::directory_iterator(path("shapes"))) {
    const std::string name = entry.path().filename().string(), bytes = read_file(entry.path());
    const bool records = name == "test_batch.bin";
    write("short/" + name, records ? bytes.substr(1) : bytes);
    write("labels/" + name, records ? "\x09" + bytes.substr(1) : bytes);
  }
  using More = std::vector<std::pair<std::string, std::string>>;
  const std::pair<More, std::string> cases[] = {
      {{{"images", "-"}}, "finetune.images: is missing: a folder of images to learn from; see docs/images.md"},
      {{{"images", "none"}}, "finetune.images: there is no file " + path("none") + "; paths are taken from"},
      {{{"images", "short"}}, "test_batch.bin: 276569 bytes are no whole number of records of 3073"},
      {{{"images", "labels"}}, "test_batch.bin: record 0, at byte 0, has the label 9, but batches.meta.txt names 3"},
      {{{"bit_width", "w0a4"}}, "from 1 to 32"},
      {{{"bit_width", "w4a33"}}, "from 1 to 32"},
      {{{"bit_width", "int4"}}, "'int4' is no bit width of weights and activations, each from 1 to 32; w4a4 is one"},
      {{{"network", "resnet18"}},
       R"(finetune.network: "resnet18" is not allowed; it must be one of resnet20, resnet32, resnet50)"},
      {{{"method", "lsq"}}, R"(finetune.method: "lsq" is not allowed; it must be one of qlora, dorefa, pact)"},
      {{{"bit_width", "[w8a8, w4]"}}, "'w4' is no bit width"},
      {{{"bit_width", "[w8a8, w4a4, w8a8]"}}, "w8a8 stands there twice"},
      {{{"bit_width", "[]"}}, "empty list"},
      {{{"bit_width", "[4]"}}, "4 must be a bit width such as w4a4"},
      {{{"bit_width", "{w4a4: 1}"}}, "must be a bit width such as w4a4"},
      {{{"bit_width", "[w8a8, w4a4]"}, {"space", "width.yaml"}}, "'bit_width'"},
      {{{"bit_width", "[w8a8, w4a4]"}, {"sampler", "human:human.yaml"}}, "human.yaml: entry 1"},
      {{{"file_limit", "0"}}, "finetune.file_limit"},
      {{{"file_limit", "small"}}, "finetune.file_limit"},
      {{{"latency_limit_ms", "0"}}, "finetune.latency_limit_ms"},
      {{{"latency_limit_ms", "1 ms"}}, "finetune.latency_limit_ms"},
      {{{"inference_memory_limit", "much"}}, "finetune.inference_memory_limit"},
      {{{"validation_share", "0"}}, "leaves none to choose by"},
      {{{"validation_share", "1"}}, "1 is no share for validation; give one from 0 to below 1"},
      {{{"flip", "often"}}, "finetune.flip: must be true or false"},
      {{{"warmup_epochs", "1"}}, "a warm-up of 1 epochs leaves nothing of the 1 that the search space's 'num_epochs'"},
      {{{"space", "rank.yaml"}}, "the search space has 'lora_r', which is no parameter of a fine-tuning"},
      {{{"space", "batch.yaml"}}, "more than the 240 images"},
      {{{"examples", "examples.jsonl"}}, R"(unknown key "examples" in finetune)"},
  };
  for (const auto& [more, expected] : cases) {
    const ProcessResult r = run({"finetune", write("wrong.yaml", task(more)), "--output", path("out")});
    EXPECT_EQ(r.code, 2) << expected;
    EXPECT_THAT(r.errors, HasSubstr(expected));
    EXPECT_FALSE(fs::exists(folder_ / "out")) << expected;
  }
  // What only the worker can see: tensors of another network.
  fs::remove(path("model.safetensors"));
  ASSERT_TRUE(run({"pretrain", "images", "resnet32", path("shapes"), "--epochs", "1", "--batch", "32",
                   "--validation-share", "0.2", "-o", path("model.safetensors"), "-q"})
                  .ok());
  const ProcessResult r = run({"finetune", path("task.yaml"), "--output", path("out")});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, AllOf(HasSubstr("does not fit the network"), HasSubstr("it has layer1.3.bn1.bias")));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  EXPECT_THAT(run({"compare", "--task", path("task.yaml"), "--bit-widths", "w4", "-o", path("cmp")}).errors,
              HasSubstr("'w4' is no bit width"));
  EXPECT_THAT(run(pretrain("none/model.safetensors")).errors,
              HasSubstr("there is no folder " + path("none") + "; make it"));
  EXPECT_THAT(
      run({"pretrain", "images", "resnet20", path("shapes"), "--batch", "300", "-o", path("big.safetensors")}).errors,
      HasSubstr("set a smaller --batch"));
  write("list.yaml", task({{"bit_width", "[w8a8, w4a4]"}}));
  EXPECT_THAT(run({"compare", "--task", path("list.yaml"), "-o", path("cmp")}).errors, HasSubstr("by --bit-widths"));
  write("limit.yaml", task({{"file_limit", "1MB"}}));
  EXPECT_THAT(run({"compare", "--task", path("limit.yaml"), "-o", path("cmp")}).errors,
              HasSubstr("inference_memory_limit are for haqa finetune"));
}

// The paper's table 1 for the images at hand.
TEST_F(ImagesTest, MethodsAreComparedAtSeveralBitWidths) {
  pretrain();
  const std::vector<std::string> arguments = {"compare",   "--task",   path("task.yaml"), "--methods", "default,random",
                                              "--seeds",   "2",        "--rounds",        "2",         "--bit-widths",
                                              "w8a8,w2a2", "--output", path("cmp"),       "-q"};
  const ProcessResult r = run(arguments);
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(r.output, AllOf(HasSubstr("Methods over 2 seeds, 2 rounds"), HasSubstr("full precision"),
                              HasSubstr("untuned"), HasSubstr("Accuracy in % on test images"), HasSubstr("w8a8")));
  const std::string table = read_file(folder_ / "cmp/table.csv");
  EXPECT_THAT(table, AllOf(HasSubstr("method,seeds,w8a8,w8a8_sd,w2a2,w2a2_sd\nfull precision,1,"),
                           HasSubstr("\nuntuned,1,"), HasSubstr("\ndefault,2,"), HasSubstr("\nrandom,2,")));
  const std::string full = read_file(folder_ / "cmp/full-precision.jsonl");
  EXPECT_EQ(std::count(full.begin(), full.end(), '\n'), 2) << "on two parts, once for all bit widths: " << full;
  for (const char* width : {"w8a8", "w2a2"}) EXPECT_TRUE(fs::exists(folder_ / "cmp" / width / "compare.html")) << width;
  // It goes on, and shows the same.
  const std::string written = read_file(folder_ / "cmp/w2a2/results.jsonl");
  EXPECT_EQ(run(arguments).output, r.output);
  EXPECT_EQ(read_file(folder_ / "cmp/w2a2/results.jsonl"), written);
  std::vector<std::string> as_json = arguments;
  as_json.emplace_back("--json");
  const Json json = Json::parse(run(as_json).output);
  EXPECT_TRUE(json["bit_widths"]["w2a2"]["methods"].is_array());
  EXPECT_EQ(json["held_out"][0]["method"], "full precision");
}

}  // namespace
}  // namespace haqa
