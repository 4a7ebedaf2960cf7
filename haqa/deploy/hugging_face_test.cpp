// Against the real transformers and peft, in both directions; peft_peer.py is their side. And against llama.cpp's own
// converter of adapters.
#include "haqa/deploy/hugging_face.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "haqa/adapter/adapter_test_support.h"
#include "haqa/adapter/gguf_adapter.h"
#include "haqa/adapter/merge.h"
#include "haqa/adapter/peft.h"
#include "haqa/adapter/safetensors.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/deploy/python_test_support.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// [position][vocabulary] in one row.
std::vector<float> flat(const Json& rows) {
  std::vector<float> all;
  for (const Json& row : rows)
    for (const Json& value : row) all.push_back(value.get<float>());
  return all;
}

/// With the given number of key-value heads.
class WithPeft : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    try {
      python_ = converter_python(quiet_);
      peft_ = python_packages(python_, "peft-0.21.2", {"peft==0.21.2", "accelerate", "psutil"});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    made_ = peer({"make", path(""), std::to_string(GetParam())});
    tokens_ = made_["tokens"].get<std::vector<llama_token>>();
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  Json peer(std::vector<std::string> arguments) const {
    std::vector<std::string> argv = {python_, "-W", "ignore", HAQA_SOURCE_DIR "/haqa/deploy/peft_peer.py"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    const ProcessResult run = run_process({argv, {{"PYTHONPATH", peft_}, {"HF_HUB_OFFLINE", "1"}}});
    if (!run.ok()) throw Error("peft_peer.py {}: {}\n{}", arguments[0], run.describe(), run.errors);
    return Json::parse(run.output);
  }

  /// By llama.cpp's script.
  void convert_adapter(const std::string& adapter, const std::string& file) const {
    const ProcessResult run = run_process({{python_, converter_folder() / "convert_lora_to_gguf.py", "--base",
                                            path("base"), adapter, "--outfile", file}});
    if (!run.ok()) throw Error("convert_lora_to_gguf.py: {}\n{}", run.describe(), run.errors);
  }

  /// peft's adapter gives the same logits through libllama, and merged.
  void expect_read(const std::string& name, const ModelInfo& model, double tolerance) const {
    SCOPED_TRACE(name);
    const LoraAdapter adapter = read_adapter(path(name), model);
    write_gguf(adapter, model, path(name + ".gguf"));
    merge(TensorData(path("base.gguf")), adapter, 1, path("merged.gguf"));
    const std::vector<float> want = flat(made_[name]);
    EXPECT_GT(largest_difference(llama_logits(path("base.gguf"), tokens_), want), 0.1f);
    expect_near(llama_logits(path("base.gguf"), tokens_, path(name + ".gguf")), want, tolerance);
    expect_near(llama_logits(path("merged.gguf"), tokens_), want, tolerance);
  }

  /// The real peft takes what we write, on all matrices and on some.
  void expect_loads_ours(const ModelInfo& model) const {
    const std::vector<std::string> some = {"blk.1.attn_q.weight", "blk.0.attn_k.weight", "blk.1.attn_v.weight",
                                           "blk.0.attn_output.weight", "output.weight"};
    const LoraAdapter all_of_it = random_adapter(model, all_matrices(model), 5, 7.5f);
    const LoraAdapter some_of_it = random_adapter(model, some, 3, 6);
    write_peft(all_of_it, model, path("ours-all"));
    write_peft(some_of_it, model, path("ours-some"));
    const Json theirs = peer({"check", path("base"), path("ours-all"), path("ours-some")});
    for (const size_t i : {0, 1}) {
      write_gguf(i == 0 ? all_of_it : some_of_it, model, path("ours.gguf"));
      const std::vector<float> want = llama_logits(path("base.gguf"), tokens_, path("ours.gguf"));
      expect_near(flat(theirs[i]["peft"]), want, 1e-3);
      expect_near(flat(theirs[i]["product"]), want, 1e-3);
    }
  }

  const TemporaryFolder folder_;
  Progress quiet_{true};
  std::string python_, peft_;
  Json made_;
  std::vector<llama_token> tokens_;
};

void expect_same_tensors(const fs::path& ours, const fs::path& theirs) {
  const TensorData a(ours), b(theirs);
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const TensorInfo& tensor : b.tensors()) {
    ASSERT_TRUE(a.contains(tensor.name)) << tensor.name;
    EXPECT_EQ(a.info(tensor.name).shape, tensor.shape) << tensor.name;
    EXPECT_EQ(a.floats(tensor.name), b.floats(tensor.name)) << tensor.name;
  }
}

/// One test for all, as each start of Python takes seconds.
TEST_P(WithPeft, LoadsOursAndOursLoadsIts) {
  convert_folder(path("base"), "f32", path("base.gguf"), quiet_);
  const ModelInfo model = read_model(path("base.gguf"));
  EXPECT_EQ(model.n_head_kv, GetParam());
  for (const char* name : {"plain", "patterned"}) expect_read(name, model, 1e-3);
  convert_adapter(path("plain"), path("theirs.gguf"));
  expect_same_tensors(path("plain.gguf"), path("theirs.gguf"));  // of the patterned, its converter drops the scales
  expect_loads_ours(model);

  fs::remove(path("base.gguf"));
  convert_folder(path("base"), "f16", path("base.gguf"), quiet_);
  EXPECT_EQ(read_model(path("base.gguf")).main_type(), "F16");
  expect_read("plain", read_model(path("base.gguf")), 1e-2);
}

INSTANTIATE_TEST_SUITE_P(HeadsKv, WithPeft, testing::Values(2, 4),
                         [](const auto& heads) { return heads.param == 2 ? "GroupedQuery" : "MultiHead"; });

/// Folders that are refused before Python is asked.
TEST(ConvertFolder, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  Progress quiet(true);
  const auto fault = [&](const fs::path& from) -> std::string {
    try {
      convert_folder(from, "f16", folder / "model.gguf", quiet);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  const auto make = [&](const std::string& name, const std::vector<std::pair<std::string, std::string>>& files) {
    fs::create_directory(folder / name);
    for (const auto& [file, text] : files) std::ofstream(folder / name / file) << text;
    return folder / name;
  };
  std::ofstream(folder / "file") << "x";
  EXPECT_THAT(fault(folder / "none"), HasSubstr("is no folder"));
  EXPECT_THAT(fault(folder / "file"), HasSubstr("is no folder"));
  EXPECT_THAT(fault(make("empty", {})), HasSubstr("holds no config.json"));
  EXPECT_THAT(fault(make("broken", {{"config.json", "{"}})), HasSubstr("not valid JSON"));
  EXPECT_THAT(fault(make("bare", {{"config.json", "{}"}})), HasSubstr("holds no weights"));
  EXPECT_THAT(fault(make("code", {{"config.json", "{}"}, {"tokenizer_config.json", R"({"auto_map": {}})"}})),
              HasSubstr("tokenizer_config.json: wants to run code"));
  EXPECT_THAT(fault(make("cut", {{"config.json", "{}"}, {"model.safetensors", "\1\2\3"}})),
              HasSubstr("model.safetensors: is no whole safetensors file"));
  EXPECT_FALSE(fs::exists(folder / "model.gguf"));
}

TEST(ConvertFolder, TellsTheConvertersOwnWordsAndLeavesNothing) {
  const TemporaryFolder folder;
  Progress quiet(true);
  try {
    converter_python(quiet);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  fs::create_directory(folder / "model");
  write_file(folder / "model/config.json", R"({"architectures": ["UnknownForCausalLM"], "model_type": "llama"})");
  write_safetensors({}, folder / "model/model.safetensors");
  try {
    convert_folder(folder / "model", "f16", folder / "model.gguf", quiet);
    FAIL() << "converted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("(Model UnknownForCausalLM is not supported)"));
  }
  for (const auto& entry : fs::directory_iterator(folder.path())) EXPECT_EQ(entry.path().filename(), "model");
}

}  // namespace
}  // namespace haqa
