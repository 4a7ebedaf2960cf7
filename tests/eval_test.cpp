// haqa eval as a user runs it.
#include <algorithm>

#include "tests/program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kGolden = HAQA_SOURCE_DIR "/tests/golden/evaluation";

class EvalTest : public testing::Test {
 protected:
  const TemporaryFolder folder_;
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  ProcessResult run(std::vector<std::string> arguments) const {
    Command command{{HAQA_BIN_DIR "/haqa", "eval"}};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.timeout_s = 120;
    return run_process(command);
  }
  /// On the golden model and rows, computed in floats.
  ProcessResult evaluate(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {
        kGolden + "/llama.gguf", "--data", kGolden, "--threads", "1", "--cache-type-k", "f32", "--cache-type-v", "f32",
        "--flash-attention",     "off"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(std::move(arguments));
  }
  Json json_of(std::vector<std::string> more) const {
    more.insert(more.end(), {"--json", "--quiet"});
    const ProcessResult r = evaluate(std::move(more));
    EXPECT_TRUE(r.ok()) << r.errors;
    EXPECT_EQ(r.errors, "");
    return Json::parse(r.output);
  }
};

TEST_F(EvalTest, PrintsAndWritesWhatLmEvalFinds) {
  const Json golden = read_json(kGolden + "/lmeval.json");
  const ProcessResult r = evaluate({"-o", path("results.json"), "--samples", path("samples.jsonl")});
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(r.output, HasSubstr("BoolQ              25   40.00 ± 10.00"));
  EXPECT_THAT(r.output, HasSubstr("MathQA: 2 of the questions have no right choice"));
  EXPECT_THAT(r.output, HasSubstr("4 of 734 requests were longer than the 256 tokens"));
  EXPECT_THAT(r.errors, HasSubstr("215 questions in "));
  const Json results = read_json(path("results.json"))["results"];
  for (const auto& [task, want] : golden["results"].items())
    for (const auto& [key, value] : want.items())
      if (value.is_number_float()) {
        EXPECT_NEAR(results[task][key].get<double>(), value.get<double>(), 1e-12) << task << key;
      }
  const std::string samples = read_file(path("samples.jsonl"));
  EXPECT_EQ(std::count(samples.begin(), samples.end(), '\n'), 215);
}

TEST_F(EvalTest, PartsAndLimits) {
  const auto counts = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"-t", "rte,mathqa"});
    const Json json = json_of(std::move(more));
    return std::pair(json["n-samples"]["rte"]["effective"].get<int>(),
                     json["n-samples"]["mathqa"]["effective"].get<int>());
  };
  const auto first = counts({"--part", "validation"}), second = counts({"--part", "held-out"});
  EXPECT_EQ(first.first + second.first, 25);
  EXPECT_EQ(first.second + second.second, 34);
  EXPECT_EQ(counts({"--limit", "3"}), std::pair(3, 3));
  EXPECT_EQ(json_of({"-t", "rte", "-n", "2"})["n-samples"]["rte"]["original"], 25);
}

TEST_F(EvalTest, AnAdapterAtNoScaleIsNone) {
  const Json without = json_of({"-t", "arc_easy"}),
             none = json_of({"-t", "arc_easy", "--adapter", kGolden + "/adapter.gguf:0"}),
             with = json_of({"-t", "arc_easy", "--adapter", kGolden + "/adapter.gguf"});
  EXPECT_EQ(without["results"], none["results"]);
  EXPECT_NE(without["results"], with["results"]);
  EXPECT_EQ(with["config"]["model_args"]["peft"], kGolden + "/adapter.gguf");
}

TEST_F(EvalTest, FaultsAreSentences) {
  const std::string model = kGolden + "/llama.gguf";
  fs::create_directory(folder_ / "data");
  fs::copy(kGolden + "/boolq.jsonl", path("data"));
  std::ofstream(folder_ / "data/rte.jsonl") << R"({"sentence1":"a","sentence2":"b","label":1})"
                                            << "\n{\"sentence1\"\n";
  std::ofstream(folder_ / "other.gguf") << "GGUF";
  make_model(model_shape("tiny"), default_vocabulary(), 1, folder_ / "tiny.gguf");
  struct Case {
    std::vector<std::string> arguments;
    int code;
    std::string message;
  };
  const std::string data = path("data");
  for (const Case& c : std::vector<Case>{
           {{model, "-d", data, "-t", "boolq,mathqa"}, 1, "haqa data mathqa --output " + data},
           {{model, "-d", data, "-t", "rte"}, 1, "rte.jsonl, line 2: is no JSON"},
           {{model, "-d", data, "-t", "mmlu"}, 2, "choose among boolq, rte"},
           {{model, "-d", data, "-t", "boolq", "--part", "test"}, 2, "all, validation or held-out"},
           {{model, "-d", data, "-t", "boolq", "--limit", "0"}, 2, "limit"},
           {{model, "-t", "boolq"}, 2, "--data"},
           {{model, "-d", data, "-t", "boolq", "--adapter", path("none.gguf")}, 1, "none.gguf"},
           {{model, "-d", data, "-t", "boolq", "--adapter", path("a:b")}, 2, "no number"},
           {{model, "-d", data, "-t", "boolq", "--adapter", model}, 1, "made for this model"},
           {{path("tiny.gguf"), "-d", data, "-t", "boolq", "-n", "1", "--adapter", kGolden + "/adapter.gguf"},
            1,
            "made for this model"},
           {{path("other.gguf"), "-d", data, "-t", "boolq"}, 1, "other.gguf"},
           {{model, "-d", data, "-t", "boolq", "--cache-type-k", "q7"}, 1, "q7"},
           {{model, "-d", data, "-t", "boolq", "--flash-attention", "maybe"}, 2, "flash-attention"},
           {{model, "-d", data, "-t", "boolq", "-n", "1", "-o", "/nosuch/x.json"}, 1, "/nosuch"}}) {
    const ProcessResult r = run(c.arguments);
    EXPECT_EQ(r.code, c.code) << r.errors;
    EXPECT_THAT(r.errors, HasSubstr(c.message));
    EXPECT_EQ(r.output, "");
  }
}

}  // namespace
}  // namespace haqa
