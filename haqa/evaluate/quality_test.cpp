// Against llama.cpp's own llama-perplexity.
#include "haqa/evaluate/quality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/model/make_model.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class QualityTest : public testing::Test {
 protected:
  QualityTest() {
    std::string name = (fs::temp_directory_path() / "haqa-quality-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    make_model(model_shape("tiny"), default_vocabulary(), 1, folder_ / "f16.gguf");
    std::string words;
    for (int i = 0; i < 900; ++i) words += fmt::format("The {}th wave came in at {} o'clock. ", i * 37 % 101, i % 24);
    std::ofstream(folder_ / "text.txt") << words.substr(0, 3000);
  }
  ~QualityTest() override { fs::remove_all(folder_); }

  Json ask(const std::string& command, const std::string& model, const Json& more = Json::object()) {
    Json request = {{"command", command},
                    {"model", (folder_ / model).string()},
                    {"text", (folder_ / "text.txt").string()},
                    {"reference", (folder_ / "reference").string()}};
    request.update(more);
    return call_worker("haqa-infer", request);
  }
  void quantize(const std::string& type, const std::string& output) {
    ask("quantize", "f16.gguf", {{"type", type}, {"output", (folder_ / output).string()}});
  }
  std::string llama(const std::string& program, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), (llama_bin_folder() / program).string());
    const ProcessResult r = run_process({arguments});
    EXPECT_TRUE(r.ok()) << r.describe();
    return r.output + r.errors;
  }
  static double number_after(const std::string& text, const std::string& pattern) {
    std::smatch match;
    if (!std::regex_search(text, match, std::regex(pattern + "\\s*([0-9.]+)")))
      throw Error("no {} in {}", pattern, text);
    return std::stod(match[1]);
  }
  fs::path folder_;
};

TEST_F(QualityTest, AgreesWithLlamaPerplexity) {
  quantize("Q4_0", "q4.gguf");
  const Json reference = ask("reference", "f16.gguf");
  const Json quality = ask("quality", "q4.gguf");
  const std::vector<std::string> common = {"-f",
                                           (folder_ / "text.txt").string(),
                                           "-c",
                                           "256",
                                           "-b",
                                           "256",
                                           "--kl-divergence-base",
                                           (folder_ / "base").string()};
  const auto with = [&](const char* model, std::vector<std::string> more) {
    std::vector<std::string> all = common;
    all.insert(all.end(), {"-m", (folder_ / model).string()});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const double perplexity = number_after(llama("llama-perplexity", with("f16.gguf", {})), "PPL =");
  EXPECT_NEAR(reference["perplexity"].get<double>(), perplexity, 1e-3 * perplexity);
  const std::string divergence = llama("llama-perplexity", with("q4.gguf", {"--kl-divergence"}));
  const double kl = number_after(divergence, "Mean\\s+KLD:"), top = number_after(divergence, "Same top p:");
  EXPECT_NEAR(quality["kl_divergence"].get<double>(), kl, 0.05 * kl);
  EXPECT_NEAR(100 * quality["same_top"].get<double>(), top, 1.5);
  EXPECT_NEAR(quality["perplexity"].get<double>() / reference["perplexity"].get<double>(),
              quality["perplexity_ratio"].get<double>(), 1e-6);
  EXPECT_GT(kl, 0.01) << "the comparison says something";
}

TEST_F(QualityTest, AModelLosesNothingAgainstItself) {
  ask("reference", "f16.gguf");
  const Json same = ask("quality", "f16.gguf");
  EXPECT_NEAR(same["kl_divergence"].get<double>(), 0, 1e-9);
  EXPECT_NEAR(same["perplexity_ratio"].get<double>(), 1, 1e-9);
  EXPECT_EQ(same["same_top"], 1.0);
  const Json cached = ask("quality", "f16.gguf", {{"type_k", "q4_0"}, {"type_v", "q4_0"}});
  EXPECT_GT(cached["kl_divergence"].get<double>(), 1e-6) << "a small KV cache costs something";
}

TEST_F(QualityTest, QuantizesAsLlamaQuantizeDoes) {
  for (const char* type : {"Q8_0", "Q4_K_M"}) {
    quantize(type, "ours.gguf");
    llama("llama-quantize", {(folder_ / "f16.gguf").string(), (folder_ / "theirs.gguf").string(), type});
    EXPECT_TRUE(read_file(folder_ / "ours.gguf") == read_file(folder_ / "theirs.gguf")) << type;
  }
}

TEST_F(QualityTest, FaultsAreSentences) {
  const auto fault = [&](const std::function<void()>& work) -> std::string {
    try {
      work();
    } catch (const WorkerError& e) {
      return e.what();
    }
    return "none";
  };
  EXPECT_THAT(fault([&] { ask("quality", "f16.gguf"); }), HasSubstr("measure the reference first"));
  EXPECT_THAT(fault([&] { ask("reference", "missing.gguf"); }), HasSubstr("cannot load it"));
  EXPECT_THAT(fault([&] { ask("quantize", "f16.gguf", {{"type", "Q9"}, {"output", "x"}}); }), HasSubstr("Q9"));
  EXPECT_THAT(fault([&] { ask("dance", "f16.gguf"); }), HasSubstr("no command"));
  ask("reference", "f16.gguf");
  fs::resize_file(folder_ / "reference", fs::file_size(folder_ / "reference") - 4);
  EXPECT_THAT(fault([&] { ask("quality", "f16.gguf"); }), HasSubstr("damaged"));
  std::ofstream(folder_ / "text.txt") << "Too short.";
  EXPECT_THAT(fault([&] { ask("reference", "f16.gguf"); }), HasSubstr("longer calibration text"));
}

}  // namespace
}  // namespace haqa
