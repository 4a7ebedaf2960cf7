// The main job with a language model's endpoint that misbehaves in the ways real ones do.
#include <signal.h>

#include <atomic>
#include <deque>

#include "haqa/http/fake_server.h"
#include "tests/program.h"

namespace haqa {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kKey = "sk-very-secret-key";

std::string models() {
  return FakeServer::reply(200, R"({"data":[{"id":"test-model"}]})");
}

/// A valid answer that sets the micro-batch; unique for each value.
std::string answer(int threads_in_range, int ubatch) {
  const Json action = {{"threads", threads_in_range}, {"threads_batch", 1},    {"affinity", "none"},
                       {"polling", "default"},        {"batch", 2048},         {"ubatch", ubatch},
                       {"flash_attention", "auto"},   {"cache_type_k", "f16"}, {"cache_type_v", "f16"},
                       {"load_mode", "auto"},         {"repack", true},        {"kernels", "stock"}};
  return FakeServer::chat("Thought: a smaller micro-batch.\nAction: " + action.dump());
}

class AgentRunTest : public ProgramTest {
 protected:
  /// Replies to chat requests in turn, the last one again and again; the list of models on GET.
  void serve(std::vector<std::string> replies) {
    replies_ = std::deque<std::string>(replies.begin(), replies.end());
    server_ = std::make_unique<FakeServer>([this](const FakeServer::Request& r, const FakeServer::Connection& c) {
      if (r.head.starts_with("GET")) {
        c.send(models());
        return;
      }
      c.send(replies_.front());
      if (replies_.size() > 1) replies_.pop_front();
    });
  }
  ProcessResult run_agent(int rounds) {
    // Two widths to choose between, of which int8 wins whatever the machine does: its space has no GGUF types.
    use_llama_bench("case \"$*\" in *Q4_0*) exit 9;; esac");
    const std::string file =
        task("bit_widths: [int8, int4]\nagent: {provider: openai, model: test-model, tries: 2, base_url: '" +
                 server_->url() + "'}\n",
             rounds);
    Command command = haqa({"run", file, "--output", path("run"), "--json"});
    for (auto& [name, value] : command.environment)
      if (name == "HAQA_API_KEY") value = kKey;
    return run_process(command);
  }

  std::deque<std::string> replies_;
  std::unique_ptr<FakeServer> server_;
};

std::string bit_width() {
  return FakeServer::chat(R"({"thought":"INT8 fits","action":{"bit_width":"int8"}})");
}

TEST_F(AgentRunTest, GoodAnswersAreTriedAndTheKeyStaysSecret) {
  serve({bit_width(), answer(1, 256), answer(1, 128)});
  const ProcessResult r = run_agent(3);
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["decision"]["agent"]["bit_width"], "int8");
  EXPECT_EQ(summary["decision"]["agent"]["thought"], "INT8 fits");
  EXPECT_EQ(summary["trials"][1]["configuration"]["ubatch"], 256);
  EXPECT_EQ(summary["trials"][1]["proposed_by"], "test-model");
  EXPECT_EQ(summary["trials"][1]["thought"], "a smaller micro-batch.");
  EXPECT_EQ(summary["agent"]["calls"], 3);
  EXPECT_EQ(summary["agent"]["prompt_tokens"], 36);
  EXPECT_TRUE(server_->requests().back().has_header(std::string("Authorization: Bearer ") + kKey));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ / "run"))
    if (entry.is_regular_file()) {
      EXPECT_THAT(read_file(entry.path()), Not(HasSubstr(kKey))) << entry.path();
    }
}

TEST_F(AgentRunTest, EachFaultIsCorrectedThenTheFallbackProposes) {
  serve({bit_width(), FakeServer::chat("I would rather talk about the weather."), answer(999, 256), answer(1, 256),
         FakeServer::chat("Action: {\"threads\": 1,"), FakeServer::chat("sorry"), answer(1, 256)});
  const ProcessResult r = run_agent(3);
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["trials"][1]["proposed_by"], "test-model");
  EXPECT_EQ(summary["trials"][2]["proposed_by"], "fallback: bayesian");
  std::vector<std::string> kinds;
  for (const Json& e : summary["agent_events"]) kinds.push_back(e["kind"]);
  EXPECT_EQ(kinds, (std::vector<std::string>{"irrelevant text", "out of range", "wrong format", "irrelevant text",
                                             "duplicate"}));
  const auto requests = server_->requests();
  EXPECT_THAT(requests[3].body, HasSubstr("it holds no configuration of this task"));
  EXPECT_THAT(requests[4].body, HasSubstr("is 999; it must be a whole number from 1 to"));
}

TEST_F(AgentRunTest, OverloadAndBrokenRepliesDoNotEndTheRun) {
  serve({bit_width(),
         FakeServer::reply(429, R"({"error":{"message":"slow down"}})", "application/json", "Retry-After: 0\r\n"),
         answer(1, 256), FakeServer::reply(500, "oops")});
  const ProcessResult r = run_agent(3);
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["trials"][1]["proposed_by"], "test-model");
  EXPECT_EQ(summary["trials"][2]["proposed_by"], "fallback: bayesian");
  EXPECT_EQ(summary["agent"]["failures"], 1);
}

TEST_F(AgentRunTest, HtmlInsteadOfJsonEndsItAtOnceAndLeavesNothing) {
  server_ = std::make_unique<FakeServer>(FakeServer::reply(200, "<html>Welcome</html>", "text/html"));
  const ProcessResult r = run_agent(3);
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, HasSubstr(server_->url()));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

TEST_F(AgentRunTest, ATranscriptCanBeReplayed) {
  serve({bit_width(), answer(1, 256), answer(1, 128)});
  ASSERT_TRUE(run_agent(3).ok());
  server_.reset();  // nobody there any more
  const ProcessResult r =
      run({"run", path("task.yaml"), "--replay", path("run/transcript.jsonl"), "--output", path("again"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json first = read_json(folder_ / "run/summary.json"), again = Json::parse(r.output);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(first["trials"][i]["configuration"], again["trials"][i]["configuration"]) << i;
}

// The answers that it has had are neither asked for again nor skipped.
TEST_F(AgentRunTest, AReplayedRunGoesOnAfterAKill) {
  serve({bit_width(), answer(1, 256), answer(1, 128), answer(1, 64), answer(1, 48), answer(1, 40)});
  ASSERT_TRUE(run_agent(6).ok());
  server_.reset();
  const std::filesystem::path log = folder_ / "again/log.jsonl";
  {
    BackgroundProcess first(
        haqa({"run", path("task.yaml"), "--replay", path("run/transcript.jsonl"), "--output", path("again")}),
        folder_ / "first.log");
    ASSERT_TRUE(wait_until([&] { return trials_in(log) >= 3 || !first.running(); }));
    ASSERT_TRUE(first.running()) << read_file(folder_ / "first.log");
    first.signal(SIGKILL);
  }
  // As if it had died between an answer and the proposal made of it, the narrowest place.
  const std::string whole = read_file(log);
  std::filesystem::resize_file(log, whole.rfind('\n', whole.rfind("\"step\":\"proposal:")) + 1);
  const ProcessResult r = run({"run", "--resume", path("again"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json first = read_json(folder_ / "run/summary.json"), again = Json::parse(r.output);
  ASSERT_EQ(again["trials"].size(), 6u);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(first["trials"][i]["configuration"], again["trials"][i]["configuration"]) << i;
  EXPECT_TRUE(again["agent_events"].empty()) << again["agent_events"];
}

}  // namespace
}  // namespace haqa
