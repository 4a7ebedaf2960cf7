#include "haqa/kernel/sandbox.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <thread>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

bool can_read(const fs::path& file) {
  return std::ifstream(file).good();
}

/// It works once it is let, and is up before that: a thread makes system calls until it is.
class Waiting {
 public:
  explicit Waiting(std::function<void()> work)
      : thread_([this, work = std::move(work)] {
          is_up_ = true;
          while (!may_) std::this_thread::yield();
          work();
        }) {
    while (!is_up_) std::this_thread::yield();
  }
  void work() {
    may_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> is_up_ = false, may_ = false;
  std::thread thread_;
};

/// In a process of its own, as nothing can be undone. 10: all is as it should be.
void expect_ten(const std::function<int()>& work) {
  EXPECT_EXIT(_exit(work()), testing::ExitedWithCode(10), "");
}

TEST(ConfineFilesTest, WhatIsNotNamedCannotBeOpened) {
  if (!has_landlock()) GTEST_SKIP() << "this system has no Landlock";
  const TemporaryFolder open, closed;
  for (const auto* folder : {&open, &closed}) write_file(*folder / "file", "text");
  expect_ten([&] {
    confine_files({open.path(), "/no/such/folder"}, {});
    bool in_thread = true;
    std::thread([&] { in_thread = can_read(closed / "file"); }).join();
    if (in_thread || can_read(closed / "file")) return 1;
    return can_read(open / "file") && !std::ofstream(open / "new") ? 10 : 2;
  });
}

TEST(ConfineFilesTest, BindsTheThreadThatCallsIt) {
  if (!has_landlock()) GTEST_SKIP() << "this system has no Landlock";
  const TemporaryFolder open, closed;
  write_file(closed / "file", "text");
  expect_ten([&] {
    bool other = false;
    Waiting waiting([&] { other = can_read(closed / "file"); });
    confine_files({open.path()}, {});
    waiting.work();
    return other && !can_read(closed / "file") ? 10 : 1;
  });
}

void end_by(int call) {
  _exit(call == SYS_getppid ? 10 : 11);
}

TEST(ForbidAllButComputingTest, HoldsForThreadsThatAreThere) {
  for (const bool in_thread : {false, true})
    expect_ten([&] {
      Waiting waiting([] { (void)getppid(); });
      on_forbidden_call(end_by);
      forbid_all_but_computing();
      if (!in_thread) (void)getppid();
      waiting.work();
      return 0;
    });
}

}  // namespace
}  // namespace haqa
