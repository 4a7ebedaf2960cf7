#include "haqa/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "haqa/base/error.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string name = (fs::temp_directory_path() / "haqa-file-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~FileTest() override { fs::remove_all(folder_); }
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator{}));
  }
  /// Runs `work` in a process of its own and returns its exit status: what it throws is 77.
  template <typename Work>
  int in_process(const Work& work) {
    const pid_t pid = fork();
    if (pid == 0) {
      try {
        work();
        _exit(0);
      } catch (const Error&) {
        _exit(77);
      }
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  fs::path folder_;
};

TEST_F(FileTest, WritesWholeOrNotAtAll) {
  const fs::path file = folder_ / "a.txt";
  write_file(file, "old");
  // A limit on the file's size stands for a full disk: write(2) fails half-way.
  const int status = in_process([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    write_file(file, std::string(5000, 'x'));
  });
  EXPECT_EQ(status, 77);
  EXPECT_EQ(read_file(file), "old");
  EXPECT_EQ(entries(), 1u) << "no temporary file is left";
  write_file(file, "new");
  EXPECT_EQ(read_file(file), "new");
  EXPECT_THROW(write_file("/proc/nothing/a.txt", "x"), Error);
}

TEST_F(FileTest, AKilledWriterLeavesOldOrNew) {
  const fs::path file = folder_ / "a.txt";
  const std::string a(200000, 'a'), b(200000, 'b');
  write_file(file, a);
  for (int i = 0; i < 10; ++i) {
    const pid_t pid = fork();
    if (pid == 0)
      for (;;) {
        write_file(file, b);
        write_file(file, a);
      }
    usleep(3000 + 1000 * static_cast<unsigned>(i));
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    const std::string content = read_file(file);
    EXPECT_TRUE(content == a || content == b);
  }
}

TEST_F(FileTest, PendingFilesVanishUnlessCommitted) {
  {
    PendingFile pending(folder_ / "x");
    std::ofstream(pending.path()) << "half";
  }
  EXPECT_EQ(entries(), 0u);
  PendingFile pending(folder_ / "x");
  std::ofstream(pending.path()) << "whole";
  pending.commit();
  EXPECT_EQ(read_file(folder_ / "x"), "whole");
}

TEST_F(FileTest, LineFileCutsWhatAKilledWriterLeft) {
  const fs::path file = folder_ / "log";
  std::ofstream(file) << "one\ntwo\nhal";
  { LineFile(file).append("three"); }
  EXPECT_EQ(read_file(file), "one\ntwo\nthree\n");
  std::ofstream(file) << "half of the first";
  { LineFile(file).append("first"); }
  EXPECT_EQ(read_file(file), "first\n");
}

TEST_F(FileTest, LineFileHasOneWriter) {
  LineFile first(folder_ / "log");
  EXPECT_EQ(in_process([&] { LineFile second(folder_ / "log"); }), 77);
  EXPECT_THROW(LineFile(folder_ / "log"), Error);
}

TEST_F(FileTest, SaysWhatStandsInTheWay) {
  std::ofstream(folder_ / "file") << "x";
  EXPECT_THROW(make_folder(folder_ / "file"), Error);
  EXPECT_THROW(make_folder(folder_ / "file" / "below"), Error);
  EXPECT_NO_THROW(make_folder(folder_ / "new/deep"));
  EXPECT_THROW(read_file(folder_), Error);
  EXPECT_THROW(read_file(folder_ / "missing"), Error);
  EXPECT_NO_THROW(require_space(folder_, 1, "a test"));
  try {
    require_space(folder_, uint64_t{1} << 62, "a test");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("are needed for a test"));
  }
}

}  // namespace
}  // namespace haqa
