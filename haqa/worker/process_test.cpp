#include "haqa/worker/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Command shell(const std::string& script) {
  return Command{{"/bin/sh", "-c", script}};
}

bool alive(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string number, name, state;
  return static_cast<bool>(stat >> number >> name >> state) && state != "Z";
}

bool gone_soon(pid_t pid) {
  for (int i = 0; i < 100 && alive(pid); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return !alive(pid);
}

TEST(Process, ReturnsOutputErrorsAndStatus) {
  const ProcessResult r = run_process(shell("echo out; echo error: no such model >&2; exit 3"));
  EXPECT_EQ(r.output, "out\n");
  EXPECT_EQ(r.code, 3);
  EXPECT_FALSE(r.ok());
  EXPECT_EQ(r.describe(), "exit status 3: error: no such model");
}

TEST(Process, PassesInputAndEnvironment) {
  Command c = shell("cat; echo $HAQA_TEST_VALUE");
  c.input = std::string(300000, 'x');  // more than a pipe holds
  c.environment = {{"HAQA_TEST_VALUE", "seven"}};
  EXPECT_EQ(run_process(c).output, c.input + "seven\n");
}

TEST(Process, HandsOverLinesIncludingAnUnfinishedLast) {
  std::vector<std::string> lines;
  run_process(shell("printf 'one\\ntwo\\nthree'"), [&](std::string_view line) { lines.emplace_back(line); });
  EXPECT_THAT(lines, ElementsAre("one", "two", "three"));
}

TEST(Process, SaysWhichSignalEndedIt) {
  const ProcessResult r = run_process(shell("kill -SEGV $$"));
  EXPECT_EQ(r.end, ProcessEnd::signalled);
  EXPECT_EQ(r.code, SIGSEGV);
  EXPECT_THAT(r.describe(), HasSubstr("Segmentation fault"));
}

TEST(Process, KillsAHangWithItsChildren) {
  Command c = shell("sleep 100 & echo $!; wait");
  c.timeout_s = 0.3;
  std::string child;
  const ProcessResult r = run_process(c, [&](std::string_view line) { child = line; });
  EXPECT_EQ(r.end, ProcessEnd::timed_out);
  EXPECT_LE(r.seconds, 5);
  ASSERT_FALSE(child.empty());
  EXPECT_TRUE(gone_soon(std::stoi(child)));
}

TEST(Process, EndsAMemoryHog) {
  Command c{{"python3", "-c", "import time; x = bytearray(300_000_000); time.sleep(60)"}};
  c.memory_bytes = 100'000'000;
  c.timeout_s = 30;
  const ProcessResult r = run_process(c);
  EXPECT_EQ(r.end, ProcessEnd::out_of_memory);
  EXPECT_GE(r.peak_bytes, c.memory_bytes);
}

TEST(Process, MissingProgramIsAnErrorThatNamesIt) {
  try {
    run_process(Command{{"/no/such/program"}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("/no/such/program"));
    EXPECT_THAT(e.what(), HasSubstr("No such file"));
  }
}

TEST(Process, ChildThatIgnoresItsInputDoesNotEndUs) {
  Command c = shell("exit 0");
  c.input = std::string(1 << 20, 'x');
  EXPECT_TRUE(run_process(c).ok());
}

TEST(BackgroundProcess, EndsWithItsOwner) {
  pid_t pid = 0;
  {
    BackgroundProcess p(shell("sleep 100"), "/dev/null");
    pid = p.pid();
    EXPECT_TRUE(p.running());
  }
  EXPECT_TRUE(gone_soon(pid));
}

}  // namespace
}  // namespace haqa
