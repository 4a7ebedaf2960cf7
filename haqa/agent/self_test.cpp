#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "haqa/agent/chat.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

/// The fields of /proc/PID/stat behind the program's name: state, parent, ...; none of a guard of worker/.
std::vector<std::string> stat_fields(const fs::path& process) {
  std::ifstream in(process / "stat");
  std::stringstream text;
  text << in.rdbuf();
  const size_t name_end = text.str().rfind(')');
  std::vector<std::string> fields;
  if (name_end == std::string::npos || text.str().find("(child-guard)") != std::string::npos) return fields;
  std::istringstream rest(text.str().substr(name_end + 1));
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

/// This process's children that live.
std::vector<pid_t> children() {
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::vector<std::string> fields = stat_fields(entry.path());
    if (fields.size() > 1 && fields[0] != "Z" && fields[1] == std::to_string(getpid()))
      found.push_back(std::stoi(name));
  }
  return found;
}

double cpu_s(pid_t pid) {
  const auto fields = stat_fields("/proc/" + std::to_string(pid));
  return (std::stod(fields[11]) + std::stod(fields[12])) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

class SelfTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.model = folder_ / "tiny.gguf";
    options_.log = folder_ / "server.log";
    options_.n_ctx = 2560;
    options_.threads = 1;  // more would wait for each other on a machine that also runs the other tests
    options_.endpoint.max_tokens = 1000;
  }
  void TearDown() override { unsetenv("HAQA_LLAMA_BIN"); }

  /// Makes llama-server a shell script.
  void fake_program(const std::string& script) {
    std::ofstream(options_.model) << "no model";
    std::ofstream(folder_ / "llama-server") << "#!/bin/sh\n" << script;
    chmod((folder_ / "llama-server").c_str(), 0755);
    setenv("HAQA_LLAMA_BIN", folder_.c_str(), 1);
  }
  std::string check_error() const {
    const auto provider = make_self_provider(options_);
    try {
      provider->check();
      return "no error";
    } catch (const ProviderError& e) {
      EXPECT_FALSE(e.passing);
      return e.what();
    }
  }

  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  SelfOptions options_;
};

bool has_llama_server() {
  return access((llama_bin_folder() / "llama-server").c_str(), X_OK) == 0;
}

ChatRequest constrained_request() {
  ChatRequest request;
  request.messages = {{"system", "You tune."}, {"user", "Choose."}};
  request.schema =
      Json::parse(R"({"type":"object","properties":{"n_threads":{"type":"integer","minimum":1,"maximum":8},)"
                  R"("flash":{"enum":["on","off"]}},"required":["n_threads","flash"],)"
                  R"("additionalProperties":false})");
  return request;
}

TEST_F(SelfTest, AnswersWithARealModel) {
  if (!has_llama_server()) GTEST_SKIP() << "no llama-server in " << llama_bin_folder();
  make_model(model_shape("tiny"), default_vocabulary(), 1, options_.model);
  setenv("LLAMA_ARG_PORT", "1", 1);  // what a user may have set for servers of his own
  setenv("LLAMA_API_KEY", "another", 1);
  const auto provider = make_self_provider(options_);
  EXPECT_EQ(provider->name(), "tiny");
  EXPECT_TRUE(children().empty()) << "started before it was asked";
  provider->check();
  unsetenv("LLAMA_ARG_PORT");
  unsetenv("LLAMA_API_KEY");
  ASSERT_EQ(children().size(), 1u);
  const pid_t first = children()[0];

  // Weights are random: only the schema can make this a valid answer.
  const ChatReply reply = provider->complete(constrained_request());
  EXPECT_EQ(children(), std::vector<pid_t>{first}) << "started twice";
  EXPECT_EQ(reply.finish_reason, "stop");
  EXPECT_GT(reply.prompt_tokens, 5);
  EXPECT_GT(reply.completion_tokens, 5);
  const Json answer = Json::parse(reply.content, nullptr, false);
  ASSERT_TRUE(answer.is_object()) << reply.content;
  EXPECT_TRUE(answer["thought"].is_string());
  EXPECT_GE(answer["action"]["n_threads"].get<int>(), 1);
  EXPECT_LE(answer["action"]["n_threads"].get<int>(), 8);
  EXPECT_THAT(answer["action"]["flash"].get<std::string>(), testing::AnyOf("on", "off"));

  // Idle, it must leave the processor to the measurements.
  const double before_s = cpu_s(first);
  usleep(1'000'000);
  EXPECT_LE(cpu_s(first) - before_s, 0.05);

  provider->suspend();
  EXPECT_TRUE(children().empty()) << "still in memory";
  ChatRequest free = constrained_request();
  free.schema = nullptr;
  EXPECT_NE(provider->complete(free).content, "") << "does not come back";

  ASSERT_EQ(children().size(), 1u);
  kill(children()[0], SIGKILL);
  usleep(500'000);  // gone from /proc is not yet gone: its threads end one by one
  EXPECT_NO_THROW(provider->complete(constrained_request())) << "a server that died is started anew";
}

TEST_F(SelfTest, SaysThatItDiedWhileAnswering) {
  if (!has_llama_server()) GTEST_SKIP() << "no llama-server in " << llama_bin_folder();
  make_model(model_shape("tiny"), default_vocabulary(), 1, options_.model);
  options_.endpoint.tries = 1;
  const auto provider = make_self_provider(options_);
  provider->check();
  const pid_t server = children()[0];
  std::thread killer([server] {
    usleep(150'000);
    kill(server, SIGKILL);
  });
  try {
    provider->complete(constrained_request());
    provider->complete(constrained_request());
    provider->complete(constrained_request());
    ADD_FAILURE() << "outlived SIGKILL";
  } catch (const ProviderError& e) {
    EXPECT_THAT(e.what(), HasSubstr("llama-server ended while answering with"));
    EXPECT_TRUE(e.passing);
  }
  killer.join();
}

TEST_F(SelfTest, SaysWhyAModelDoesNotLoad) {
  if (!has_llama_server()) GTEST_SKIP() << "no llama-server in " << llama_bin_folder();
  std::ofstream(options_.model) << "not a model";
  EXPECT_THAT(check_error(), AllOf(HasSubstr("llama-server ended while loading"), HasSubstr("failed to load model"),
                                   HasSubstr(options_.log.string())));
}

TEST_F(SelfTest, SaysWhatIsMissing) {
  EXPECT_THAT(check_error(), HasSubstr("no such model file"));
  fake_program("");
  fs::remove(folder_ / "llama-server");
  EXPECT_THAT(check_error(), AllOf(HasSubstr((folder_ / "llama-server").string()), HasSubstr("run setup.sh")));
}

TEST_F(SelfTest, QuotesTheTellingLine) {
  struct Case {
    const char *script, *line;
  };
  const Case cases[] = {
      {"echo 'error: the cause' >&2; echo 'cleaning up'; echo 'exiting due to some error'; exit 1",
       ": error: the cause;"},
      {"echo first; echo last; echo; exit 1", ": last;"},
      {"exit 3", ": it wrote nothing;"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.script);
    fake_program(c.script);
    EXPECT_THAT(check_error(), HasSubstr(c.line));
  }
}

TEST_F(SelfTest, TriesAnotherPort) {
  const std::string count = (folder_ / "count").string();
  fake_program("echo x >> " + count + "; echo \"couldn't bind HTTP server socket\"; exit 1");
  EXPECT_THAT(check_error(), HasSubstr("couldn't bind"));
  EXPECT_EQ(read_file(count), "x\nx\nx\n");
}

TEST_F(SelfTest, GivesUpOnAServerThatNeverGetsReady) {
  fake_program("exec sleep 100");
  options_.start_timeout_s = 0.5;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(check_error(), HasSubstr("was not ready"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_TRUE(children().empty());
}

TEST_F(SelfTest, PassesItsOptions) {
  const fs::path arguments = folder_ / "arguments";
  options_.threads = 3;
  options_.n_ctx = 777;
  fake_program("echo \"$@\" > " + arguments.string() + "; exit 1");
  check_error();
  const std::string got = read_file(arguments);
  for (const char* words : {"--host 127.0.0.1 --port ", " --ctx-size 777 ", " --threads 3", "--no-webui", "--offline"})
    EXPECT_THAT(got, HasSubstr(words));
  EXPECT_THAT(got, testing::Not(HasSubstr("key")));
  EXPECT_THAT(got, testing::Not(HasSubstr("rope")));
  // Stretched beyond what the model was trained on.
  options_.n_ctx = 4096;
  options_.n_ctx_train = 2048;
  check_error();
  EXPECT_THAT(read_file(arguments), HasSubstr("--rope-scaling yarn --rope-scale 2 --yarn-orig-ctx 2048"));
}

}  // namespace
}  // namespace haqa
