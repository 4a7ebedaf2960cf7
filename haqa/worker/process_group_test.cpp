#include "haqa/worker/process_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <optional>
#include <thread>

#include "haqa/base/temporary_folder.h"
#include "haqa/worker/background_process.h"
#include "haqa/worker/process_test_support.h"
#include "haqa/worker/serving_process.h"

namespace haqa {
namespace {

/// As a trainer's launcher: the shell, a program that it started, and one that does not listen to signals.
constexpr size_t kFamily = 3;
Command family(const std::string& pids) {
  return shell("echo $$ >> " + pids + "; sleep 100 & echo $! >> " + pids +
               "; sh -c 'trap \"\" TERM HUP INT; echo $$ >> " + pids + "; sleep 100; sleep 100' & wait");
}

class ProcessGroups : public testing::Test {
 protected:
  /// A process that does `work`; returns once so many families are there.
  pid_t owner(const std::function<void()>& work, size_t families) {
    const pid_t pid = fork();
    if (pid == 0) {
      work();
      _exit(0);
    }
    EXPECT_EQ(numbers_in(pids_, families * kFamily).size(), families * kFamily);
    return pid;
  }
  void expect_gone() {
    for (const pid_t pid : numbers_in(pids_, 0)) EXPECT_TRUE(gone_soon(pid));
  }
  const TemporaryFolder folder_;
  const std::string pids_ = folder_ / "pids";
};

TEST_F(ProcessGroups, EndWithTheirOwnerWhenItIsKilled) {
  const std::pair<const char*, std::function<void()>> cases[] = {
      {"run", [&] { run_process(family(pids_)); }},
      {"serving", [&] { ServingProcess(family(pids_)).ask("", [](std::string_view) { return false; }); }},
      {"background",
       [&] {
         const BackgroundProcess p(family(pids_), "/dev/null");
         pause();
       }},
  };
  for (const auto& [name, work] : cases) {
    SCOPED_TRACE(name);
    const pid_t pid = owner(work, 1);
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    expect_gone();
    std::filesystem::remove(pids_);
  }
}

// Each guard is a copy of its owner, and must not keep the others' pipes open.
TEST_F(ProcessGroups, SeveralAtOnceEndToo) {
  const auto work = [&] {
    const BackgroundProcess first(family(pids_), "/dev/null");
    const std::jthread second([&] { run_process(family(pids_)); });
    const std::jthread third([&] { run_process(family(pids_)); });
  };
  const pid_t pid = owner(work, 3);
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  expect_gone();
}

TEST_F(ProcessGroups, TheSecondCtrlCEndsThemToo) {
  const auto work = [&] {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, SIG_DFL);  // else what is ignored stays so
    install_interrupt_handler();
    // Hangs where it does not look for the first one.
    run_process(shell("echo; " + family(pids_).argv[2]), [](std::string_view) {
      for (;;) pause();
    });
  };
  const pid_t pid = owner(work, 1);
  kill(pid, SIGINT);
  std::optional<int> status;
  ASSERT_TRUE(comes_true([&] {
    int ended = 0;
    if (waitpid(pid, &ended, WNOHANG) == pid) status = ended;
    if (!status) kill(pid, SIGINT);
    return status.has_value();
  }));
  EXPECT_EQ(WEXITSTATUS(*status), 130);
  expect_gone();
}

TEST(ProcessGroup, LeavesNoProcessBehind) {
  const auto work = [] {
    for (int i = 0; i < 10; ++i) run_process(shell("exit 3"));
    for (int i = 0; i < 10; ++i) EXPECT_THROW(run_process({{"/no/such/program"}}), std::exception);
    { const BackgroundProcess p(shell("sleep 100"), "/dev/null"); }
    return waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD ? 42 : 1;
  };
  EXPECT_EQ(in_process(work), 42);
}

}  // namespace
}  // namespace haqa
