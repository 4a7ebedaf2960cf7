#include "haqa/worker/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "haqa/base/temporary_folder.h"
#include "haqa/worker/process_test_support.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class WorkerTest : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  /// A stand-in for a worker program; an absolute path replaces the folder of programs.
  std::string script(const std::string& body) {
    std::ofstream(folder_ / "worker") << "#!/bin/sh\n" << body << "\n";
    chmod((folder_ / "worker").c_str(), 0755);
    return (folder_ / "worker").string();
  }
};

TEST_F(WorkerTest, CarriesRequestProgressAndResult) {
  std::vector<double> shares;
  const std::string worker = script(R"(read line
echo '{"event":"progress","share":0.25}'; echo '{"event":"progress","share":1}'
echo "{\"event\":\"result\",\"got\":$line}")");
  const Json result = call_worker(worker, {{"command", "x"}}, {}, [&](double s) { shares.push_back(s); });
  EXPECT_EQ(result.dump(), R"({"got":{"command":"x"}})");
  EXPECT_THAT(shares, ElementsAre(0.25, 1));
}

TEST_F(WorkerTest, EveryFailureNamesItsReason) {
  struct Case {
    const char* body;
    ProcessEnd end;
    const char* expected;
  };
  const Case cases[] = {
      {R"(echo '{"event":"error","message":"no such model"}'; exit 1)", ProcessEnd::exited, "no such model"},
      {R"(echo '{"event":"error","message":"all full","kind":"no_memory"}'; exit 1)", ProcessEnd::out_of_memory,
       "all full"},
      {R"(echo '{"event":"error","message":"odd","kind":7}'; exit 1)", ProcessEnd::exited, "odd"},
      {"kill -ABRT $$", ProcessEnd::signalled, "Aborted"},
      {"kill -KILL $$", ProcessEnd::out_of_memory, "was killed, as systems do where memory is short"},
      {"echo 'terminate called: error 7' >&2; exit 9", ProcessEnd::exited, "exit status 9: terminate called: error 7"},
      {"exit 0", ProcessEnd::exited, "gave no result but nothing"},
      {"echo hello", ProcessEnd::exited, "gave no result but \"hello\""},
      {R"(echo '{"event":"progress","share":"half"}')", ProcessEnd::exited, "gave no result"},
      {R"(echo '["event"]')", ProcessEnd::exited, "gave no result"},
      {"sleep 60", ProcessEnd::timed_out, "no result after"},
      {"exec 1>&-; sleep 60", ProcessEnd::timed_out, "no result after"},
  };
  for (const Case& c : cases) {
    try {
      call_worker(script(c.body), Json::object(), {0.5, 0});
      ADD_FAILURE() << c.body;
    } catch (const WorkerError& e) {
      EXPECT_EQ(e.end, c.end) << c.body;
      EXPECT_THAT(e.what(), HasSubstr(c.expected)) << c.body;
    }
  }
}

TEST_F(WorkerTest, TheErrorOfTheWorkerComesFirst) {
  const std::pair<const char*, const char*> cases[] = {
      {R"(echo '{"event":"error","message":"disk full"}'; kill -ABRT $$)", "disk full"},
      {R"(echo '{"event":"result","x":1}'; kill -SEGV $$)", "Segmentation"},
      {R"(echo '{"event":"result","x":1}'; exit 3)", "exit status 3"},
      {R"(echo '{"event":"error","message":7}')", "gave no result"},
      {R"(echo '{"event":"dance"}')", "gave no result"},
      {R"(head -c 2000000 /dev/zero | tr '\0' '[')", "gave no result"},
      {R"(printf '\377\376\n')", "gave no result"}};
  for (const auto& [body, expected] : cases) {
    try {
      call_worker(script(body), Json::object());
      ADD_FAILURE() << body;
    } catch (const WorkerError& e) {
      EXPECT_THAT(e.what(), HasSubstr(expected)) << body;
      EXPECT_EQ(dynamic_cast<const WrongResult*>(&e) != nullptr, std::string_view(expected) == "gave no result")
          << body;
    }
  }
}

TEST_F(WorkerTest, TakesAResultAmongOtherOutput) {
  const std::string worker = script(R"(echo 'ggml: loading'; echo; echo '{"event":"result","x":1}'; echo 'bye')");
  EXPECT_EQ(call_worker(worker, Json::object()).dump(), R"({"x":1})");
  EXPECT_EQ(call_worker(script(R"(printf '{"event":"result","x":2}')"), Json::object()).dump(), R"({"x":2})");
  EXPECT_EQ(call_worker(script(R"(echo '{"event":"result"}')"), Json::object()).dump(), "{}");
}

TEST_F(WorkerTest, ExceptionsOfTheCallerEndTheWorker) {
  const std::string worker =
      script("echo $$ > " + (folder_ / "pid").string() + R"(; echo '{"event":"progress","share":0.5}'; sleep 100)");
  EXPECT_THROW(call_worker(worker, Json::object(), {}, [](double) { throw std::runtime_error("enough"); }),
               std::runtime_error);
  pid_t pid = 0;
  std::ifstream(folder_ / "pid") >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_NE(kill(pid, 0), 0) << "reaped already";
}

TEST_F(WorkerTest, ObeysTheMemoryLimit) {
  try {
    call_worker(script("exec python3 -c 'x = bytearray(200000000); import time; time.sleep(60)'"), Json::object(),
                {30, 100'000'000});
    ADD_FAILURE();
  } catch (const WorkerError& e) {
    EXPECT_EQ(e.end, ProcessEnd::out_of_memory);
  }
}

TEST_F(WorkerTest, AFullDiskIsNoWorkersFault) {
  const std::string worker = script(R"(echo '{"event":"error","message":"no room","kind":"no_space"}'; exit 1)");
  EXPECT_THROW(call_worker(worker, Json::object()), NoSpaceError);
}

TEST_F(WorkerTest, AMissingProgramIsNoWorkersFault) {
  try {
    call_worker("no-such-worker", Json::object());
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(dynamic_cast<const WorkerError*>(&e), nullptr) << "the study ends: every trial would fail alike";
    EXPECT_THAT(e.what(), HasSubstr("no-such-worker"));
  }
}

/// serve_worker() on a request; returns its exit status and what it wrote.
std::pair<int, std::string> serve(const std::string& request, const WorkerHandler& handle) {
  std::istringstream in(request);
  std::ostringstream out;
  std::streambuf *const old_in = std::cin.rdbuf(in.rdbuf()), *const old_out = std::cout.rdbuf(out.rdbuf());
  std::cin.clear();
  const int status = serve_worker(handle);
  std::cin.rdbuf(old_in);
  std::cout.rdbuf(old_out);
  return {status, out.str()};
}

TEST(ServeWorker, AnswersARequest) {
  const auto [status, output] = serve("{\"n\": 20}\nmore\n", [](const Json& request, const auto& progress) -> Json {
    progress(0.5);
    return {{"twice", 2 * request["n"].get<int>()}};
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(output, "{\"event\":\"progress\",\"share\":0.5}\n{\"event\":\"result\",\"twice\":40}\n");
}

TEST(ServeWorker, EveryFaultIsAnErrorEvent) {
  const auto handle = [](const Json& request, const auto&) -> Json {
    if (request.contains("bad")) throw std::runtime_error("bad \xff bytes");
    return {{"got", request.at("missing")}};
  };
  for (const char* request : {"", "\n", "no JSON\n", "[1]\n", "{\"x\":1}\n", "{\"bad\":1}\n", "{\"x\":"}) {
    const auto [status, output] = serve(request, handle);
    EXPECT_EQ(status, 1) << request;
    const Json event = Json::parse(output);
    EXPECT_EQ(event["event"], "error") << request;
    EXPECT_FALSE(event["message"].get<std::string>().empty());
  }
}

TEST(ServeWorker, TellsWhatKindOfFaultItWas) {
  const auto kind = [](const std::function<void()>& fault) {
    const auto [status, output] = serve("{}\n", [&](const Json&, const auto&) -> Json {
      fault();
      return Json::object();
    });
    EXPECT_EQ(status, 1);
    return Json::parse(output).value("kind", "");
  };
  EXPECT_EQ(kind([] { throw NoSpaceError("full"); }), "no_space");
  EXPECT_EQ(kind([] { throw NoMemoryError("full"); }), "no_memory");
  EXPECT_EQ(kind([] { throw std::bad_alloc(); }), "no_memory");
  EXPECT_EQ(kind([] { throw Error("wrong"); }), "");
}

int open_files() {
  int n = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

TEST_F(WorkerTest, LeaksNoFiles) {
  run_process({{"true"}});
  const int before = open_files();
  for (int i = 0; i < 200; ++i) run_process({{"true"}});
  for (int i = 0; i < 20; ++i) EXPECT_THROW(run_process({{"/no/such/program"}}), Error);
  EXPECT_EQ(open_files(), before);
}

TEST_F(WorkerTest, TakesMuchOutput) {
  EXPECT_EQ(run_process({{"head", "-c", "50000000", "/dev/zero"}}).output.size(), 50'000'000u);
}

/// Runs `sleep 100` under run_process in a process of its own and returns both process numbers.
std::pair<pid_t, pid_t> sleeper(const fs::path& mark) {
  const pid_t parent = fork();
  if (parent == 0) {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, SIG_DFL);  // else what is ignored stays so
    install_interrupt_handler();
    try {
      run_process({{"/bin/sh", "-c", "echo $$ > " + mark.string() + "; exec sleep 100"}});
    } catch (const Interrupted&) {
      _exit(42);
    }
    _exit(0);
  }
  const std::vector<pid_t> child = numbers_in(mark, 1);
  return {parent, child.empty() ? 0 : child[0]};
}

TEST_F(WorkerTest, CtrlCEndsTheChildAndThrows) {
  const auto [parent, child] = sleeper(folder_ / "mark");
  ASSERT_GT(child, 0);
  kill(parent, SIGINT);
  int status = 0;
  waitpid(parent, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_TRUE(gone_soon(child));
}

}  // namespace
}  // namespace haqa
