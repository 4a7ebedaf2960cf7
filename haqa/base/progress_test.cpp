#include "haqa/base/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace haqa {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Lets `work` run with standard error on `fd`.
template <typename Work>
void with_stderr(int fd, const Work& work) {
  std::fflush(stderr);
  const int saved = dup(2);
  dup2(fd, 2);
  work();
  std::fflush(stderr);
  dup2(saved, 2);
  close(saved);
}

std::string read_some(int fd) {
  std::array<char, 4096> buffer;
  const ssize_t n = read(fd, buffer.data(), buffer.size());
  return n > 0 ? std::string(buffer.data(), static_cast<size_t>(n)) : "";
}

/// What `work` shows where standard error is a pipe, as in a log.
template <typename Work>
std::string in_a_log(const Work& work) {
  std::array<int, 2> ends;
  if (pipe(ends.data()) != 0) return "no pipe";
  with_stderr(ends[1], work);
  close(ends[1]);
  std::string text = read_some(ends[0]);
  close(ends[0]);
  return text;
}

void work_on(Progress& progress) {
  progress.step("Measuring");
  progress.update(0.5, "half");  // too soon after the last line to be shown
  progress.note("a word");
  progress.done("measured 3");
  progress.step("Writing");
  progress.done();
}

TEST(Progress, IsPlainLinesInALog) {
  EXPECT_EQ(in_a_log([] {
              Progress progress;
              work_on(progress);
            }),
            "Measuring ...\na word\nmeasured 3\nWriting ...\n");
}

TEST(Progress, QuietSaysNothing) {
  EXPECT_EQ(in_a_log([] {
              Progress progress(true);
              work_on(progress);
            }),
            "");
}

class Terminal : public testing::Test {
 protected:
  void SetUp() override {
    master_ = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) GTEST_SKIP() << "no pseudo-terminal";
    slave_ = open(ptsname(master_), O_RDWR | O_NOCTTY);
    if (slave_ < 0) GTEST_SKIP() << "no pseudo-terminal";
  }
  void TearDown() override {
    if (slave_ >= 0) close(slave_);
    if (master_ >= 0) close(master_);
  }
  /// All that was written; a terminal may give its bytes in several reads.
  std::string shown() const {
    std::string text;
    for (std::string part = read_some(master_); !part.empty(); part = read_some(master_)) text += part;
    return text;
  }
  int master_ = -1, slave_ = -1;
};

TEST_F(Terminal, ShowsOneLineThatChangesAndIsCleared) {
  with_stderr(slave_, [] {
    Progress progress;
    progress.step("Measuring");
    usleep(120000);
    progress.update(0.5, "half");
    progress.update(0.6, "too soon");
    progress.done("measured 3");
    progress.step("Unfinished");
  });
  const std::string text = shown();
  EXPECT_THAT(text, testing::StartsWith("\r\033[KMeasuring ..."));
  EXPECT_THAT(text, HasSubstr("\r\033[KMeasuring  50 %, 1"));  // as long again: 120 ms or a little more
  EXPECT_THAT(text, HasSubstr(" ms left (half)\r\033[Kmeasured 3\r\n"));
  EXPECT_THAT(text, Not(HasSubstr("too soon")));
  EXPECT_THAT(text, testing::EndsWith("Unfinished ...\r\033[K")) << "the end of the program leaves no half line";
}

TEST_F(Terminal, ThePartsOfAStepHaveTheirOwnTime) {
  with_stderr(slave_, [] {
    Progress progress;
    progress.step("Round 1");
    usleep(600000);
    progress.update(0.9, "training");
    progress.update(0, "accuracy");
    usleep(150000);
    progress.update(0.5, "accuracy");
  });
  const std::string text = shown();
  EXPECT_THAT(text, testing::ContainsRegex("50 %, [1-5][0-9][0-9] ms left .accuracy.")) << "not the 750 ms of the step";
}

TEST_F(Terminal, WhatBelongsToNoStepHasTheTimeSinceTheBeginning) {
  with_stderr(slave_, [] {
    Progress progress;
    usleep(150000);
    progress.update(0.5, "training");
  });
  EXPECT_THAT(shown(), testing::ContainsRegex("\\[K 50 %, [1-5][0-9][0-9] ms left .training."));
}

TEST_F(Terminal, QuietSaysNothingThereEither) {
  with_stderr(slave_, [] {
    Progress progress(true);
    work_on(progress);
  });
  EXPECT_EQ(read_some(master_), "");
}

// A run must not end because nobody can read how far it is: stderr closed, or a log on a full disk.
TEST(Progress, SurvivesAStderrThatTakesNothing) {
  const pid_t pid = fork();
  if (pid == 0) {
    const int full = open("/dev/full", O_WRONLY);
    dup2(full, 2);
    try {
      Progress progress;
      work_on(progress);
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace haqa
