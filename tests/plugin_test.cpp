// The module in an unmodified llama-server, with a model that has learned something: random weights would decide
// between tokens by the last bit.
#include <future>

#include "haqa/http/http.h"
#include "tests/finetune_program.h"

namespace haqa {
namespace {

using testing::HasSubstr;

constexpr int kTokens = 200;
const std::vector<std::string> kPrompts = {"Anna saw", "Clara saw the", "Ben saw the cat\nClara", "David"};

/// A model that has learned to go on with a list by heart, as far as its context.
class PluginTest : public LearningTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    const std::vector<std::string> lines = {"Anna saw the dog\n", "Ben saw the cat\n", "Clara saw the bird\n",
                                            "David saw a horse\n", "Emma saw a fish\n"};
    std::string texts;
    for (size_t i = 0; i < 100; ++i) {
      std::string text;
      for (size_t line = i; line < i + 25; ++line) text += lines[line % lines.size()];
      texts += Json{{"text", text}}.dump() + "\n";
    }
    const ProcessResult r =
        run({"pretrain", learning_model().string(), write("lists.jsonl", texts), "--output", path("model.gguf"),
             "--context", "256", "--steps", "100", "--batch", "8", "--learning-rate", "0.01", "--quiet"});
    ASSERT_TRUE(r.ok()) << r.errors;
    const ProcessResult typed = run({"quantize", path("model.gguf"), GetParam(), "--output", path("typed.gguf")});
    ASSERT_TRUE(typed.ok()) << typed.errors;
  }

  /// What four clients at once read, each the continuation of its prompt by the most probable tokens.
  std::vector<std::string> texts(bool with_module) const {
    const std::string port = free_port(), log = path(with_module ? "module.log" : "stock.log");
    Command command{{(llama_bin_folder() / "llama-server").string(), "--model", path("typed.gguf"), "--port", port,
                     "--parallel", "4", "--ctx-size", "2048", "--threads", "2", "--offline", "--no-webui",
                     "--log-verbosity", "5"}};
    if (with_module) {
      command.argv.insert(command.argv.end(), {"--device", "HAQA"});
      command.environment = {{"GGML_BACKEND_PATH", HAQA_BIN_DIR "/libggml-haqa.so"}};
    }
    BackgroundProcess server(command, log);
    const std::string address = "http://127.0.0.1:" + port;
    EXPECT_TRUE(wait_until([&] {
      const auto answer = http_exchange({address + "/health", {}, {}, 5});
      return !server.running() ||
             (std::holds_alternative<HttpResponse>(answer) && std::get<HttpResponse>(answer).status == 200);
    }));
    std::vector<std::future<std::string>> clients;
    for (const std::string& prompt : kPrompts)
      clients.push_back(std::async(std::launch::async, [&address, &prompt] { return text(address, prompt); }));
    std::vector<std::string> texts;
    for (auto& client : clients) texts.push_back(client.get());
    EXPECT_EQ(read_file(log).find("HAQA_packed") != std::string::npos, with_module);
    return texts;
  }

 private:
  static std::string text(const std::string& address, const std::string& prompt) {
    const Json asked = {{"prompt", prompt}, {"n_predict", kTokens}, {"temperature", 0}, {"ignore_eos", true}};
    const auto answer = http_exchange({address + "/completion", {}, asked.dump(), 120});
    const auto* response = std::get_if<HttpResponse>(&answer);
    if (!response || response->status != 200) return "no answer";
    const Json read = Json::parse(response->body);
    EXPECT_EQ(read.at("tokens_predicted"), kTokens);
    return read.at("content");
  }
};

TEST_P(PluginTest, FourClientsOfAServerReadTheTextsOfStockCode) {
  const std::vector<std::string> stock = texts(false);
  for (const std::string& text : stock)
    EXPECT_THAT(text, HasSubstr("saw the bird\nDavid saw a horse\nEmma saw a fish"));
  EXPECT_EQ(texts(true), stock);
}

INSTANTIATE_TEST_SUITE_P(Types, PluginTest, testing::Values("F16", "Q8_0"),
                         [](const auto& tested) { return std::string(tested.param); });

}  // namespace
}  // namespace haqa
