// Against llama.cpp's own llama-perplexity.
#include "haqa/evaluate/quality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <regex>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class QualityTest : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  QualityTest() {
    make_model(model_shape("tiny"), default_vocabulary(), 1, folder_ / "f16.gguf");
    std::string words;
    for (int i = 0; i < 900; ++i) words += fmt::format("The {}th wave came in at {} o'clock. ", i * 37 % 101, i % 24);
    std::ofstream(folder_ / "text.txt") << words.substr(0, 3000);
  }

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
  /// What a program of llama.cpp prints, up to `last`: its log's thread may lose the end of what it was given.
  std::string llama_until(const std::string& program, const std::vector<std::string>& arguments,
                          std::string_view last) {
    std::string text;
    for (int attempt = 0; attempt < 5 && text.find(last) == std::string::npos; ++attempt)
      text = llama(program, arguments);
    return text;
  }
  static double number_after(const std::string& text, const std::string& pattern) {
    std::smatch match;
    if (!std::regex_search(text, match, std::regex(pattern + "\\s*([0-9.]+)")))
      throw Error("no {} in {}", pattern, text);
    return std::stod(match[1]);
  }
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
  const double perplexity = number_after(llama_until("llama-perplexity", with("f16.gguf", {}), "PPL ="), "PPL =");
  EXPECT_NEAR(reference["perplexity"].get<double>(), perplexity, 1e-3 * perplexity);
  const std::string divergence = llama_until("llama-perplexity", with("q4.gguf", {"--kl-divergence"}), "Same top p:");
  const double kl = number_after(divergence, "Mean\\s+KLD:"), top = number_after(divergence, "Same top p:");
  EXPECT_NEAR(quality["kl_divergence"].get<double>(), kl, 0.05 * kl);
  EXPECT_NEAR(100 * quality["same_top"].get<double>(), top, 1.5);
  EXPECT_NEAR(quality["perplexity"].get<double>() / reference["perplexity"].get<double>(),
              quality["perplexity_ratio"].get<double>(), 1e-6);
  const double error = number_after(divergence, "Mean PPL\\(Q\\)/PPL\\(base\\)\\s*:\\s*[0-9.]+\\s*±");
  EXPECT_NEAR(quality["perplexity_ratio_error"].get<double>(), error, 0.05 * error);
  EXPECT_GT(kl, 0.01) << "the comparison says something";
}

TEST_F(QualityTest, AModelLosesNothingAgainstItself) {
  ask("reference", "f16.gguf");
  const Json same = ask("quality", "f16.gguf");
  EXPECT_NEAR(same["kl_divergence"].get<double>(), 0, 1e-9);
  EXPECT_NEAR(same["perplexity_ratio"].get<double>(), 1, 1e-9);
  EXPECT_EQ(same["same_top"], 1.0);
  EXPECT_NEAR(same["perplexity_ratio_error"].get<double>(), 0, 1e-9);
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

// The same options by llama-perplexity, in other shapes of the text.
TEST_F(QualityTest, PerplexityAgreesInOtherContexts) {
  for (const int n_ctx : {64, 511}) {
    const Json ours = ask("reference", "f16.gguf", {{"n_ctx", n_ctx}, {"max_tokens", 1000000}, {"threads", 1}});
    const std::string c = std::to_string(n_ctx);
    const std::vector<std::string> arguments = {
        "-m", (folder_ / "f16.gguf").string(), "-f", (folder_ / "text.txt").string(), "-c", c, "-b", c};
    const double theirs = number_after(llama_until("llama-perplexity", arguments, "PPL ="), "PPL =");
    EXPECT_NEAR(ours["perplexity"].get<double>(), theirs, 1e-3 * theirs) << n_ctx;
    EXPECT_EQ(ours["tokens"], ours["chunks"].get<int>() * (n_ctx - 1 - n_ctx / 2));
  }
}

TEST_F(QualityTest, MaxTokensAreWholeChunks) {
  const std::pair<int, int> cases[] = {{1, 1}, {126, 1}, {127, 1}, {253, 1}, {254, 2}, {255, 2}};  // 127 a chunk of 256
  for (const auto& [max_tokens, chunks] : cases) {
    const Json r = ask("reference", "f16.gguf", {{"max_tokens", max_tokens}});
    EXPECT_EQ(r["chunks"], chunks) << max_tokens;
    EXPECT_EQ(r["tokens"], 127 * chunks);
    EXPECT_EQ(ask("quality", "f16.gguf")["tokens"], 127 * chunks) << "as the reference, whatever is asked";
  }
}

TEST_F(QualityTest, EveryQuantizationKeepsTheTensors) {
  for (const char* type : {"Q4_0", "IQ4_NL", "Q4_K_S"}) {
    quantize(type, "ours.gguf");
    llama("llama-quantize", {(folder_ / "f16.gguf").string(), (folder_ / "theirs.gguf").string(), type});
    EXPECT_TRUE(read_file(folder_ / "ours.gguf") == read_file(folder_ / "theirs.gguf")) << type;
  }
  EXPECT_THROW(ask("quantize", "ours.gguf", {{"type", "Q8_0"}, {"output", (folder_ / "again.gguf").string()}}),
               WorkerError);
  EXPECT_FALSE(fs::exists(folder_ / "again.gguf"));
  ask("quantize", "ours.gguf",
      {{"type", "Q8_0"}, {"output", (folder_ / "again.gguf").string()}, {"allow_requantize", true}});
  EXPECT_TRUE(fs::exists(folder_ / "again.gguf"));
}

TEST_F(QualityTest, ProgressRisesToOne) {
  for (const char* command : {"reference", "quality", "quantize"}) {
    std::vector<double> shares;
    call_worker("haqa-infer",
                {{"command", command},
                 {"model", (folder_ / "f16.gguf").string()},
                 {"text", (folder_ / "text.txt").string()},
                 {"reference", (folder_ / "reference").string()},
                 {"type", "Q8_0"},
                 {"output", (folder_ / "q8.gguf").string()}},
                {}, [&](double share) { shares.push_back(share); });
    ASSERT_FALSE(shares.empty()) << command;
    EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end())) << command;
    EXPECT_DOUBLE_EQ(shares.back(), 1) << command;
  }
}

// NaN compares false with everything, so that it hides where one is not looking for it.
TEST_F(QualityTest, AModelThatComputesNoNumbersIsAFault) {
  ask("reference", "f16.gguf");
  {
    std::fstream model(folder_ / "f16.gguf", std::ios::in | std::ios::out | std::ios::binary);
    model.seekp(-100000, std::ios::end);
    for (int i = 0; i < 50000; ++i) model.write("\x00\x7e", 2);  // half-precision NaN
  }
  for (const char* command : {"quality", "reference"}) {
    try {
      ADD_FAILURE() << command << ask(command, "f16.gguf");
    } catch (const WorkerError& e) {
      EXPECT_THAT(e.what(), HasSubstr("no numbers")) << command;
    }
  }
}

TEST_F(QualityTest, AReferenceOfAnotherTextOrShapeIsRefused) {
  const auto refused = [&](const std::string& expected, const Json& more = Json::object()) {
    try {
      ADD_FAILURE() << expected << ask("quality", "f16.gguf", more);
    } catch (const WorkerError& e) {
      EXPECT_EQ(e.end, ProcessEnd::exited) << "a sentence, not a crash: " << e.what();
      EXPECT_THAT(e.what(), HasSubstr(expected));
    }
  };
  ask("reference", "f16.gguf");
  const std::string text = read_file(folder_ / "text.txt"), good = read_file(folder_ / "reference");
  std::string other = text;
  std::replace(other.begin(), other.end(), '7', '3');  // as many tokens
  std::ofstream(folder_ / "text.txt") << other;
  refused("another vocabulary or text");
  std::ofstream(folder_ / "text.txt") << text;
  // The header: magic, n_ctx, n_vocab, scored, hash, mean.
  for (const size_t at : {8, 12, 16})
    for (const char byte : {'\0', '\x80'}) {
      std::string damaged = good;
      for (size_t i = 0; i < 4; ++i) damaged[at + i] = i == 3 ? byte : '\0';
      std::ofstream(folder_ / "reference", std::ios::binary) << damaged;
      refused("damaged");
    }
  for (const size_t size : {size_t{0}, size_t{7}, size_t{31}, size_t{32}, good.size() - 1}) {
    std::ofstream(folder_ / "reference", std::ios::binary) << good.substr(0, size);
    refused(size < 32 ? "no reference of quality" : "damaged");
  }
  fs::remove(folder_ / "reference");
  fs::create_directory(folder_ / "reference");
  refused("reference of quality");
}

TEST_F(QualityTest, BadOptionsAreSentences) {
  const auto fault = [&](const Json& more) -> std::string {
    try {
      return ask("reference", "f16.gguf", more).dump();
    } catch (const WorkerError& e) {
      EXPECT_EQ(e.end, ProcessEnd::exited) << more;
      return e.what();
    }
  };
  for (const int n_ctx : {-1, 0, 1, 2, 3}) EXPECT_THAT(fault({{"n_ctx", n_ctx}}), HasSubstr("4 tokens of context"));
  EXPECT_THAT(fault({{"type_k", "q7"}}), HasSubstr("'q7' is no type of llama.cpp's KV cache"));
  EXPECT_THAT(fault({{"n_ctx", "many"}}), HasSubstr("number"));
  EXPECT_THAT(fault({{"text", "/no/such/text"}}), HasSubstr("/no/such/text"));
  EXPECT_THAT(fault({{"reference", "/no/such/folder/reference"}}), HasSubstr("/no/such/folder/reference"));
  EXPECT_THAT(fault({{"flash_attention", "perhaps"}}), HasSubstr("use on, off or auto"));
  EXPECT_THAT(fault({{"type_v", "q8_0"}, {"flash_attention", "off"}}), HasSubstr("KV cache types"));
  std::ofstream(folder_ / "text.txt") << "";
  EXPECT_THAT(fault(Json::object()), HasSubstr("longer calibration text"));
  std::ofstream(folder_ / "f16.gguf") << "GGUF";
  EXPECT_THAT(fault(Json::object()), HasSubstr("cannot load it"));
}

TEST_F(QualityTest, AFolderThatIsMissingIsSeenBeforeTheWork) {
  const Json request = {{"command", "reference"},
                        {"model", (folder_ / "f16.gguf").string()},
                        {"text", (folder_ / "text.txt").string()},
                        {"reference", (folder_ / "missing/reference").string()}};
  int calls = 0;
  try {
    call_worker("haqa-infer", request, {}, [&](double) { ++calls; });
    ADD_FAILURE();
  } catch (const WorkerError& e) {
    EXPECT_THAT(e.what(), HasSubstr("see whether its folder exists"));
  }
  EXPECT_EQ(calls, 0);
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
