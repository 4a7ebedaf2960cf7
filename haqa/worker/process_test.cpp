#include "haqa/worker/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/worker/process_test_support.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

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
  c.timeout_s = 2;
  std::string child;
  const ProcessResult r = run_process(c, [&](std::string_view line) { child = line; });
  EXPECT_EQ(r.end, ProcessEnd::timed_out);
  EXPECT_LE(r.seconds, 60);
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

// The kernel takes them back where memory is short: a model that llama.cpp has re-laid stays mapped beside its copy.
TEST(Process, PagesOfAMappedFileAreNotHeld) {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << std::string(200'000'000, 'x');
  Command c{{"python3", "-c",
             "import mmap, sys, time; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); "
             "s = sum(m[i] for i in range(0, len(m), 4096)); time.sleep(0.3); print(s)",
             folder / "file"}};
  c.memory_bytes = 100'000'000;
  const ProcessResult r = run_process(c);
  EXPECT_TRUE(r.ok()) << r.describe();
  EXPECT_GE(r.peak_bytes, 200'000'000u) << "and yet they are resident";
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

// A child that writes faster than it is read must neither hide from the clock nor fill the memory.
TEST(Process, EndsAChildThatWritesWithoutEnd) {
  for (const char* script : {"exec yes", "exec tr '\\0' x < /dev/zero", "exec yes >&2"})
    for (const bool by_line : {false, true}) {
      Command c = shell(script);
      c.timeout_s = 0.5;
      size_t lines = 0;
      const ProcessResult r = by_line ? run_process(c, [&](std::string_view) { ++lines; }) : run_process(c);
      EXPECT_EQ(r.end, ProcessEnd::timed_out) << script;
      EXPECT_LE(r.seconds, 60) << script;
      EXPECT_LE(r.output.size(), size_t{256} << 20);
      EXPECT_LE(r.errors.size(), 64u << 10);
    }
}

// The reader has to be slower than the writer for that: with the pipe empty in between, every loop over it ends.
TEST(Process, ASlowReaderStillLooksAtTheClock) {
  Command c = shell("exec yes \"$(head -c 60000 /dev/zero | tr '\\0' x)\"");
  c.timeout_s = 0.5;
  const ProcessResult r =
      run_process(c, [](std::string_view) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); });
  EXPECT_EQ(r.end, ProcessEnd::timed_out);
  EXPECT_LE(r.seconds, 60);
}

// One line of 100 MB, searched for its end once and not again with every piece.
TEST(Process, ALongLineTakesLinearTime) {
  size_t length = 0;
  const ProcessResult r = run_process(Command{{"head", "-c", "100000000", "/dev/zero"}},
                                      [&](std::string_view line) { length += line.size(); });
  EXPECT_EQ(length, 100'000'000u);
  EXPECT_LE(r.seconds, 60);
}

TEST(Process, KeepsOrderAndEmptyLines) {
  std::vector<std::string> lines;
  run_process(shell("printf '\\n\\na\\n'; sleep 0.1; printf 'b'; sleep 0.1; printf 'c\\n\\n'"),
              [&](std::string_view line) { lines.emplace_back(line); });
  EXPECT_THAT(lines, ElementsAre("", "", "a", "bc", ""));
}

TEST(Process, AChildMayCloseItsOutputEarly) {
  const ProcessResult r = run_process(shell("echo seen; exec 1>&- 2>&-; sleep 0.3; exit 4"));
  EXPECT_EQ(r.output, "seen\n");
  EXPECT_EQ(r.code, 4);
  EXPECT_GE(r.seconds, 0.3);
}

// What a child leaves behind has the pipe open; waiting for its end would wait for ever.
TEST(Process, GrandchildrenDoNotHoldUpTheEnd) {
  const ProcessResult r = run_process(shell("sleep 100 & echo $!"));
  EXPECT_TRUE(r.ok());
  EXPECT_LE(r.seconds, 60);
  EXPECT_TRUE(gone_soon(std::stoi(r.output)));
}

TEST(Process, KeepsTheEndOfTheErrors) {
  const ProcessResult r =
      run_process(shell("head -c 200000 /dev/zero | tr '\\0' x >&2; echo >&2; echo error: at last >&2; exit 1"));
  EXPECT_LE(r.errors.size(), 64u << 10);
  EXPECT_EQ(r.describe(), "exit status 1: error: at last");
}

TEST(Process, DescribesEveryEnd) {
  ProcessResult r;
  EXPECT_EQ(r.describe(), "exit status 0");
  r.errors = "loading\nerror: no tensor\n\nbye\n";
  EXPECT_EQ(r.describe(), "exit status 0: error: no tensor") << "the telling line, not the last";
  r.errors = "one\ntwo\n \n";
  EXPECT_EQ(r.describe(), "exit status 0: two");
  r.errors = "error: " + std::string(1000, 'x');
  EXPECT_LE(r.describe().size(), 330u);
  r.end = ProcessEnd::timed_out;
  r.seconds = 3;
  EXPECT_THAT(r.describe(), HasSubstr("no result after 3"));
  r.end = ProcessEnd::out_of_memory;
  r.held_bytes = 2'000'000'000;
  EXPECT_THAT(r.describe(), HasSubstr("2.00 GB"));
}

TEST(Process, TheEnvironmentIsReplacedNotDoubled) {
  setenv("HAQA_TEST_VALUE", "old", 1);
  Command c{{"env"}};
  c.environment = {{"HAQA_TEST_VALUE", "new"}, {"HAQA_TEST_EMPTY", ""}};
  const std::string output = "\n" + run_process(c).output;
  unsetenv("HAQA_TEST_VALUE");
  EXPECT_THAT(output, HasSubstr("\nHAQA_TEST_VALUE=new\n"));
  EXPECT_THAT(output, HasSubstr("\nHAQA_TEST_EMPTY=\n"));
  EXPECT_EQ(output.find("=old"), std::string::npos);
}

// Some services start their programs with SIGCHLD ignored; then the kernel reaps, and nobody learns how a child ended.
TEST(Process, WorksWhereSigchldWasIgnored) {
  const pid_t pid = fork();
  if (pid == 0) {
    signal(SIGCHLD, SIG_IGN);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, SIG_DFL);  // else what is ignored stays so
    install_interrupt_handler();
    alarm(10);
    _exit(run_process(shell("exit 7")).code == 7 ? 42 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 42);
}

// A dropped connection: the terminal's end comes twice, from the kernel and from the shell, and must not look like a
// second Ctrl-C.
TEST(Process, TheEndOfTheTerminalInterrupts) {
  const auto work = [] {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, SIG_DFL);  // else what is ignored stays so
    install_interrupt_handler();
    raise(SIGHUP);
    raise(SIGHUP);
    return interrupted() ? 42 : 1;
  };
  EXPECT_EQ(in_process(work), 42);
}

TEST(Process, WhatIsIgnoredStaysIgnored) {
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) {
    const auto work = [&] {
      signal(number, SIG_IGN);
      install_interrupt_handler();
      raise(number);
      return interrupted() ? 1 : 42;
    };
    EXPECT_EQ(in_process(work), 42) << strsignal(number);
  }
}

// As main does it: what was asked for before the work began counts too.
TEST(Process, NothingStartsAfterCtrlC) {
  const pid_t pid = fork();
  if (pid == 0) {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, SIG_DFL);  // else what is ignored stays so
    install_interrupt_handler();
    raise(SIGTERM);
    try {
      run_process(shell("exit 0"));
    } catch (const Interrupted&) {
      _exit(interrupted() ? 42 : 1);
    }
    _exit(2);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

// A service may start us without standard input and output; then pipes get their numbers.
TEST(Process, WorksWithoutStandardFilesOfOurOwn) {
  const auto work = [] {
    close(0);
    close(1);
    close(2);
    alarm(10);
    Command c = shell("cat; echo error >&2");
    c.input = "in";
    const ProcessResult r = run_process(c);
    return r.output == "in" && r.errors == "error\n" ? 42 : 1;
  };
  EXPECT_EQ(in_process(work), 42);
}

// A signal while the program is being started, such as a change of the window's size, once made a missing program look
// like one that ended with status 127.
TEST(Process, SignalsDoNotHideAMissingProgram) {
  const auto work = [] {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    const itimerval often = {{0, 700}, {0, 700}};
    setitimer(ITIMER_REAL, &often, nullptr);
    int refused = 0;
    for (int i = 0; i < 300; ++i) {
      try {
        run_process(Command{{"/no/such/program"}});
      } catch (const Error&) {
        ++refused;
      }
    }
    return refused == 300 ? 42 : 1;
  };
  EXPECT_EQ(in_process(work), 42);
}

TEST(Process, ALineIsCutWhereAskedTo) {
  Command c = shell("printf '123456789\\nabc\\n'");
  c.longest_line = 5;
  std::vector<std::string> lines;
  run_process(c, [&](std::string_view line) { lines.emplace_back(line); });
  EXPECT_THAT(lines, ElementsAre("56789", "abc"));
  lines.clear();
  // 5 KiB of zeros come before what counts.
  c = shell("head -c 5120 /dev/zero | tr '\\0' 0; printf 12345");
  c.longest_line = 5;
  run_process(c, [&](std::string_view line) { lines.emplace_back(line); });
  EXPECT_THAT(lines, ElementsAre("12345")) << "one without an end";
}

TEST(Process, ACarriageReturnEndsALineWhereAskedTo) {
  Command c = shell("printf 'a\\rb\\r\\nc\\n\\n\\rd\\r'; sleep 0.1; printf '\\ne\\n\\r\\n'");
  std::vector<std::string> lines;
  run_process(c, [&](std::string_view line) { lines.emplace_back(line); });
  EXPECT_THAT(lines, ElementsAre("a\rb\r", "c", "", "\rd\r", "e", "\r"));
  lines.clear();
  c.returns_end_lines = true;
  run_process(c, [&](std::string_view line) { lines.emplace_back(line); });
  EXPECT_THAT(lines, ElementsAre("a", "b", "c", "", "", "d", "e", ""));
}

}  // namespace
}  // namespace haqa
