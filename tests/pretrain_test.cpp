// haqa pretrain, as a user runs it.
#include "haqa/model/model_info.h"
#include "haqa/model/tensor_data.h"
#include "tests/finetune_program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class PretrainTest : public LearningTest {
 protected:
  PretrainTest() : LearningTest(600) {}
  /// Of the small model, with a training of a second or two; `more` is added.
  std::vector<std::string> pretrain(const std::string& output, std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {"pretrain",
                                    learning_model().string(),
                                    path("examples.jsonl"),
                                    "--output",
                                    path(output),
                                    "--context",
                                    "64",
                                    "--threads",
                                    "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST_F(PretrainTest, WhatItWritesHasLearned) {
  const ProcessResult r =
      run(pretrain("trained.gguf", {"--steps", "150", "--learning-rate", "0.01", "--json", "--quiet"}));
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_EQ(r.errors, "");
  const Json s = Json::parse(r.output);
  EXPECT_EQ(s["file"], path("trained.gguf"));
  EXPECT_EQ(s["steps"], 150);
  EXPECT_EQ(s["validation_examples"], 30);
  EXPECT_EQ(s["parameters"], read_model(learning_model()).parameters());
  EXPECT_LT(s["loss"].get<double>(), s["loss_before"].get<double>() / 2);
  EXPECT_GT(s["tokens_per_second"].get<double>(), 0);
  EXPECT_FALSE(fs::exists(path("trained.gguf.unfinished")));
  // The same tensors, each of them with other numbers.
  const TensorData before(learning_model()), after(path("trained.gguf"));
  ASSERT_EQ(after.tensors().size(), before.tensors().size());
  for (const TensorInfo& tensor : before.tensors())
    EXPECT_NE(after.floats(tensor.name), before.floats(tensor.name)) << tensor.name;
  // llama.cpp says so too: day or night is asked in words that were not in the examples.
  const ProcessResult eval =
      run({"eval", path("trained.gguf"), "--data", path("data"), "--tasks", "boolq", "--json", "-q"});
  ASSERT_TRUE(eval.ok()) << eval.errors;
  EXPECT_GT(Json::parse(eval.output)["results"]["boolq"]["acc,none"].get<double>(), 0.9);
  // What is there is not written over.
  const std::string bytes = read_file(path("trained.gguf"));
  const ProcessResult again = run(pretrain("trained.gguf"));
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.errors, HasSubstr("is there already"));
  EXPECT_EQ(read_file(path("trained.gguf")), bytes);
}

TEST_F(PretrainTest, SaysWhatCameOfIt) {
  const ProcessResult r = run(pretrain("a.gguf", {"--steps", "5"}));
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(r.errors, HasSubstr("training 1"));
  EXPECT_THAT(r.output, AllOf(HasSubstr("a.gguf: "), HasSubstr("5 steps on 600 examples"), HasSubstr(" before, "),
                              HasSubstr("on 30 examples held back"), HasSubstr("tokens/s, ")));
  const ProcessResult all = run(pretrain("b.gguf", {"--steps", "5", "--validation-share", "0"}));
  EXPECT_THAT(all.output, HasSubstr("of the training itself"));
}

TEST_F(PretrainTest, AfterCtrlCTheSameCommandGoesOnToTheSameNumbers) {
  const std::vector<std::string> options = {"--steps", "600", "--checkpoint", "0.2"};
  ASSERT_TRUE(run(pretrain("whole.gguf", options)).ok());
  {
    BackgroundProcess first(haqa(pretrain("stopped.gguf", options)), folder_ / "first.log");
    ASSERT_TRUE(wait_until([&] { return fs::exists(path("stopped.gguf.unfinished/checkpoint")); }));
    first.signal(SIGINT);
    ASSERT_TRUE(wait_until([&] { return !first.running(); }));
  }
  EXPECT_THAT(read_file(folder_ / "first.log"), HasSubstr("stopped.gguf.unfinished is kept: the same command goes on"));
  EXPECT_FALSE(fs::exists(path("stopped.gguf")));
  // Other options would be another training.
  const ProcessResult other = run(pretrain("stopped.gguf", {"--steps", "601"}));
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.errors, HasSubstr("is the checkpoint of another training; delete it"));
  const ProcessResult r = run(pretrain("stopped.gguf", options));
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(r.errors, HasSubstr("going on with training"));
  EXPECT_TRUE(read_file(path("stopped.gguf")) == read_file(path("whole.gguf")));
  EXPECT_FALSE(fs::exists(path("stopped.gguf.unfinished")));
}

// Its checkpoint stands there already, and takes what a second one would need.
TEST_F(PretrainTest, GoesOnOnTheDiskThatItBeganOn) {
  if (!run_process({{"unshare", "--mount", "true"}}).ok()) GTEST_SKIP() << "no right to mount a small disk";
  fs::create_directory(path("disk"));
  const uint64_t checkpoint = 12 * read_model(learning_model()).parameters();
  const char* script = R"(mount -t tmpfs -o size=$0 none "$1" && shift || exit 9
"$@" & until [ -e "$6.unfinished/checkpoint" ]; do sleep 0.05; done
kill $!; wait $!; echo "stopped: $?"; exec "$@")";
  std::vector<std::string> argv = {"unshare",   "--mount",
                                   "/bin/sh",   "-c",
                                   script,      std::to_string(2 * checkpoint + 2 * fs::file_size(learning_model())),
                                   path("disk")};
  const Command command = haqa(pretrain("disk/m.gguf", {"--steps", "600", "--checkpoint", "0.2"}));
  argv.insert(argv.end(), command.argv.begin(), command.argv.end());
  Command on_small_disk{argv};
  on_small_disk.timeout_s = 120;
  const ProcessResult r = run_process(on_small_disk);
  EXPECT_THAT(r.output, AllOf(HasSubstr("stopped: 130"), HasSubstr("disk/m.gguf: "))) << r.errors;
  EXPECT_EQ(r.code, 0) << r.errors;
}

TEST_F(PretrainTest, WhatCannotBeTrainedIsRefusedAndLeavesNothing) {
  std::ofstream(folder_ / "corrupt.jsonl") << "{\"text\": \"a b\"}\n{\"text\": \n";
  ASSERT_TRUE(run({"make-model", "tiny", "-o", path("tiny.gguf"), "-q"}).ok());
  ASSERT_TRUE(run({"quantize", path("tiny.gguf"), "Q8_0", "-o", path("q8.gguf"), "-q"}).ok());
  const std::string model = learning_model().string(), examples = path("examples.jsonl");
  struct Case {
    std::vector<std::string> arguments;
    int code;
    std::string expected;
  };
  const Case cases[] = {
      {{path("none.gguf"), examples}, 1, "none.gguf: no such file"},
      {{path("q8.gguf"), examples}, 1, "give an F32, F16 or BF16 file"},
      {{model, path("none.jsonl")}, 1, "none.jsonl"},
      {{model, path("corrupt.jsonl")}, 1, "corrupt.jsonl:2"},
      {{model, examples, "--form", "chat"}, 1, "messages"},
      {{model, examples, "--form", "prose"}, 2, "alpaca"},
      {{model, examples, "--context", "4096"}, 2, "set a smaller --context"},
      {{model, examples, "--steps", "0"}, 2, "--steps"},
      {{model, examples, "--learning-rate", "0"}, 2, "--learning-rate"},
      {{model, examples, "--schedule", "square"}, 2, "cosine"},
      {{model, examples, "--learning-rate", "1e30", "--steps", "50"}, 1, "the training diverged"},
  };
  for (const Case& c : cases) {
    std::vector<std::string> arguments = {"pretrain", "--output", path("out.gguf")};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    if (c.expected.find("context") == std::string::npos)
      arguments.insert(arguments.end(), {"--context", "64"});  // the small model has no more than 256
    const ProcessResult r = run(arguments);
    EXPECT_EQ(r.code, c.code) << c.expected << r.errors;
    EXPECT_THAT(r.errors, HasSubstr(c.expected));
    EXPECT_FALSE(fs::exists(path("out.gguf"))) << c.expected;
    EXPECT_FALSE(fs::exists(path("out.gguf.unfinished"))) << c.expected;
  }
  EXPECT_THAT(run({"pretrain", model, examples}).errors, HasSubstr("--output is missing"));
  EXPECT_THAT(run({"pretrain", model, examples, "-o", path("no/such/out.gguf")}).errors, HasSubstr("no/such"));
  EXPECT_FALSE(fs::exists(path("no")));
  EXPECT_THAT(run({"pretrain", "--help"}).output, HasSubstr("Examples:"));
}

/// Lines of a file, as JSON.
std::vector<Json> rows(const fs::path& file) {
  std::vector<Json> all;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) all.push_back(Json::parse(line));
  return all;
}

TEST_F(PretrainTest, TheQuickstartsQuestionsStandInNoExample) {
  const auto write_world = [&](const std::string& folder, const std::string& seed) {
    return run_process({{"python3", HAQA_SOURCE_DIR "/examples/quickstart/world.py", path(folder), "--seed", seed}});
  };
  const ProcessResult written = write_world("world", "1");
  ASSERT_TRUE(written.ok()) << written.errors;
  ASSERT_TRUE(write_world("again", "1").ok() && write_world("other", "2").ok());
  for (const char* name : {"pretrain.jsonl", "train.jsonl", "data/arc_easy.jsonl", "data/openbookqa.jsonl"}) {
    EXPECT_EQ(read_file(folder_ / "again" / name), read_file(folder_ / "world" / name)) << name;
    EXPECT_NE(read_file(folder_ / "other" / name), read_file(folder_ / "world" / name)) << name;
  }
  const std::string learned = read_file(folder_ / "world/train.jsonl");
  for (const auto& [task, field] :
       {std::pair("data/arc_easy.jsonl", "question"), std::pair("data/openbookqa.jsonl", "question_stem")}) {
    const std::vector<Json> asked = rows(folder_ / "world" / task);
    EXPECT_EQ(asked.size(), 800u);
    for (const Json& row : asked) EXPECT_EQ(learned.find(row[field].get<std::string>()), std::string::npos) << row;
  }
  // A model that knows nothing is at chance, one of four.
  ASSERT_TRUE(run({"make-model", "demo", "-o", path("demo.gguf"), "-q"}).ok());
  const ProcessResult eval = run({"eval", path("demo.gguf"), "--data", path("world/data"), "--tasks",
                                  "arc_easy,openbookqa", "--limit", "200", "--json", "-q"});
  ASSERT_TRUE(eval.ok()) << eval.errors;
  EXPECT_NEAR(Json::parse(eval.output)["mean"]["acc_norm_or_acc"].get<double>(), 0.25, 0.07);
}

}  // namespace
}  // namespace haqa
