#include "haqa/worker/background_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/worker/process_test_support.h"

namespace haqa {
namespace {

TEST(BackgroundProcess, NoticesTheEndAndKeepsTheLog) {
  const TemporaryFolder folder;
  const std::filesystem::path log = folder / "log";
  {
    BackgroundProcess p(shell("echo out; echo err >&2"), log);
    EXPECT_TRUE(comes_true([&] { return !p.running(); }));
    EXPECT_FALSE(p.running()) << "asked again";
  }
  EXPECT_EQ(read_file(log), "out\nerr\n");
  EXPECT_THROW(BackgroundProcess(shell("exit 0"), "/no/such/folder/log"), Error);
  EXPECT_THROW(BackgroundProcess(Command{{"/no/such/program"}}, "/dev/null"), Error);
}

TEST(BackgroundProcess, EndsWithItsOwner) {
  const TemporaryFolder folder;
  pid_t pid = 0;
  {
    BackgroundProcess p(shell("echo $$; sleep 100"), folder / "log");
    const std::vector<pid_t> told = numbers_in(folder / "log", 1);
    ASSERT_EQ(told.size(), 1u);
    pid = told[0];
    EXPECT_TRUE(p.running());
  }
  EXPECT_TRUE(gone_soon(pid));
}

TEST(BackgroundProcess, SignalsOnlyWhatLives) {
  BackgroundProcess p(shell("trap 'exit 3' TERM; while :; do sleep 0.01; done"), "/dev/null");
  p.signal(SIGTERM);
  EXPECT_TRUE(comes_true([&] { return !p.running(); }));
  p.signal(SIGKILL);  // to everybody, were it sent to the number that stands for "none"
}

TEST(BackgroundProcess, WorksWithoutStandardFilesOfOurOwn) {
  const TemporaryFolder folder;
  const std::filesystem::path log = folder / "log";
  const auto background = [&] {
    close(0);
    close(1);
    close(2);
    BackgroundProcess p(shell("cat; echo out; echo err >&2"), log);
    return comes_true([&] { return !p.running(); }) ? 42 : 1;
  };
  EXPECT_EQ(in_process(background), 42);
  EXPECT_EQ(read_file(log), "out\nerr\n");
}

}  // namespace
}  // namespace haqa
