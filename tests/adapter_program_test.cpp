// haqa merge and haqa convert as a user runs them. What they write is checked in haqa/adapter and haqa/deploy.
#include "haqa/adapter/gguf_adapter.h"
#include "haqa/adapter/peft.h"
#include "haqa/model/tensor_data.h"
#include "tests/program.h"

namespace haqa {
namespace {

using testing::HasSubstr;

class AdapterProgram : public ProgramTest {
 protected:
  AdapterProgram() {
    const ModelInfo model = read_model(path("tiny-f16.gguf"));
    LoraAdapter adapter{
        1, 2, {{"blk.0.attn_q.weight", std::vector<float>(256, 0.01f), std::vector<float>(256, 1)}}, {}};
    write_gguf(adapter, model, path("adapter.gguf"));
    write_peft(adapter, model, path("peft"));
  }
};

TEST_F(AdapterProgram, MergesBothFormsToTheSameFile) {
  const ProcessResult gguf = run({"merge", path("tiny-f16.gguf"), path("adapter.gguf"), "-o", path("a.gguf")});
  ASSERT_TRUE(gguf.ok()) << gguf.errors;
  EXPECT_THAT(gguf.output, HasSubstr("a.gguf: F16, "));
  EXPECT_THAT(gguf.errors, HasSubstr("merging 1 matrices of rank 1"));
  const ProcessResult peft =
      run({"merge", path("tiny-f16.gguf"), path("peft"), "--output", path("b.gguf"), "--json", "--quiet"});
  ASSERT_TRUE(peft.ok()) << peft.errors;
  EXPECT_EQ(peft.errors, "");
  EXPECT_EQ(Json::parse(peft.output)["rank"], 1);
  EXPECT_EQ(read_file(path("a.gguf")), read_file(path("b.gguf")));
  const float before = TensorData(path("tiny-f16.gguf")).floats("blk.0.attn_q.weight")[0];
  EXPECT_NEAR(TensorData(path("a.gguf")).floats("blk.0.attn_q.weight")[0], before + 0.02f, 1e-3);

  const ProcessResult again = run({"merge", path("tiny-f16.gguf"), path("peft"), "-o", path("a.gguf")});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.errors, HasSubstr("a.gguf: is there already"));
}

TEST_F(AdapterProgram, SaysWhatIsWrong) {
  struct Case {
    std::vector<std::string> arguments;
    int code;
    std::string says;
  };
  std::filesystem::create_directory(path("folder"));
  const std::string model = path("tiny-f16.gguf"), out = path("out.gguf");
  for (const Case& c : std::vector<Case>{
           {{"merge", model, model, "-o", out}, 1, "holds no LoRA adapter"},
           {{"merge", path("adapter.gguf"), path("adapter.gguf"), "-o", out}, 1, "holds no model but 'adapter'"},
           {{"merge", model, path("folder"), "-o", out}, 1, "holds no adapter_config.json"},
           {{"merge", model, path("adapter.gguf")}, 2, "--output is required"},
           {{"merge", model, path("adapter.gguf"), "--scale", "nan", "-o", out}, 2, "no number to merge with"},
           {{"merge", path("folder"), path("adapter.gguf"), "-o", out}, 1, "`haqa convert " + path("folder") + "`"},
           {{"memory", path("folder")}, 1, "`haqa convert " + path("folder") + "`"},
           {{"convert", path("folder"), "-o", out}, 1, "holds no config.json"},
           {{"convert", model, "-o", out}, 1, "is no folder"},
           {{"convert", path("folder"), "--type", "q8_0", "-o", out}, 2, "--type"},
       }) {
    const ProcessResult result = run(c.arguments);
    EXPECT_EQ(result.code, c.code) << result.errors;
    EXPECT_THAT(result.errors, HasSubstr(c.says));
    EXPECT_FALSE(std::filesystem::exists(out));
  }
}

/// Without a network, or a registry that has the packages, the next call can try again.
TEST_F(AdapterProgram, ConvertTellsThatItsEnvironmentCannotBeMade) {
  std::filesystem::create_directory(path("model"));
  write("model/config.json", "{}");
  write("model/pytorch_model.bin", "x");
  Command command = haqa({"convert", path("model"), "-o", path("out.gguf")});
  for (const char* name : {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"})
    command.environment.emplace_back(name, "http://127.0.0.1:9/");
  command.environment.emplace_back("PIP_CONFIG_FILE", "/dev/null");
  const ProcessResult result = run_process(command);
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, HasSubstr("the Python environment of llama.cpp's converter cannot be made"));
  EXPECT_THAT(result.errors, HasSubstr("check the network"));
  EXPECT_FALSE(std::filesystem::exists(path("out.gguf")));
}

}  // namespace
}  // namespace haqa
