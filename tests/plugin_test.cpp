// The module in an unmodified llama-server, with a model that has learned something: random weights would decide
// between tokens by the last bit.
#include <future>

#include "haqa/http/http.h"
#include "tests/finetune_program.h"

namespace haqa {
namespace {

constexpr int kTokens = 200;
const std::vector<std::string> kPrompts = {"Anna saw", "Question: is it",
                                           "Henry saw a horse at the river\nQuestion:", "Greta saw the bird at the"};

class PluginTest : public LearningTest {
 protected:
  PluginTest() : LearningTest(600) {}

  void SetUp() override {
    const ProcessResult r =
        run({"pretrain", learning_model().string(), path("examples.jsonl"), "--output", path("model.gguf"), "--context",
             "64", "--steps", "150", "--learning-rate", "0.01", "--threads", "1", "--quiet"});
    ASSERT_TRUE(r.ok()) << r.errors;
  }

  /// What four clients at once read, each the continuation of its prompt by the most probable tokens.
  std::vector<std::string> texts(bool with_module) const {
    const std::string port = free_port(), log = path(with_module ? "module.log" : "stock.log");
    Command command{{(llama_bin_folder() / "llama-server").string(), "--model", path("model.gguf"), "--port", port,
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

TEST_F(PluginTest, FourClientsOfAServerReadTheTextsOfStockCode) {
  const std::vector<std::string> stock = texts(false);
  for (size_t i = 0; i < stock.size(); ++i) EXPECT_GT(stock[i].size(), size_t{kTokens}) << stock[i];
  EXPECT_EQ(texts(true), stock);
}

}  // namespace
}  // namespace haqa
