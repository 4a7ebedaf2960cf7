#include "haqa/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <optional>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
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
      } catch (...) {
        _exit(78);
      }
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
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

TEST_F(FileTest, RefusedWritesLeaveNothingBehind) {
  fs::create_directory(folder_ / "taken");
  std::ofstream(folder_ / "taken/inside") << "x";
  const fs::path impossible[] = {folder_ / "taken", folder_ / "missing/a", folder_ / std::string(300, 'n'), ""};
  for (const fs::path& target : impossible) {
    EXPECT_THROW(write_file(target, "content"), Error) << target;
    EXPECT_EQ(entries(), 1u) << target;
  }
  for (const std::string& content : {std::string(), std::string("\0\n\r", 3), std::string(3 << 20, 'z')}) {
    write_file(folder_ / "any", content);
    EXPECT_EQ(read_file(folder_ / "any"), content);
  }
}

TEST_F(FileTest, ReadingIsWholeOrAnError) {
  fs::create_symlink("loop", folder_ / "loop");
  const fs::path unreadable[] = {folder_ / "loop", std::string(5000, 'n'), folder_ / "file/below", "",
                                 "/proc/self/mem"};  // opens, and fails at the first byte
  std::ofstream(folder_ / "file") << "x";
  for (const fs::path& file : unreadable) EXPECT_THROW(read_file(file), Error) << file;
  EXPECT_NE(read_file("/proc/self/status"), "") << "of size 0, and yet with a content";
}

TEST_F(FileTest, PendingFilesFailWhereNothingWasWritten) {
  {
    PendingFile nothing(folder_ / "x");
    EXPECT_THROW(nothing.commit(), Error);
    PendingFile onto_folder(folder_ / "taken");
    fs::create_directories(folder_ / "taken/full");
    std::ofstream(onto_folder.path()) << "x";
    EXPECT_THROW(onto_folder.commit(), Error);
  }
  EXPECT_EQ(entries(), 1u);
  std::ofstream(folder_ / "x") << "old";
  {
    PendingFile replaced(folder_ / "x");
    std::ofstream(replaced.path()) << "new";
    EXPECT_EQ(replaced.path().parent_path(), folder_) << "beside the target, or rename would copy";
    EXPECT_EQ(read_file(folder_ / "x"), "old");
  }
  EXPECT_EQ(read_file(folder_ / "x"), "old");
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

// Half a line followed by whole ones would be damage in the midst of a log, which nothing cuts off.
TEST_F(FileTest, LineFileTakesBackALineThatDidNotFit) {
  const fs::path file = folder_ / "log";
  const int status = in_process([&] {
    signal(SIGXFSZ, SIG_IGN);
    LineFile lines(file);
    lines.append("one");
    rlimit limit{100, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      lines.append(std::string(500, 'x'));
      _exit(1);
    } catch (const Error&) {
    }
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    lines.append("two");
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(file), "one\ntwo\n");
}

TEST_F(FileTest, LineFileKeepsWhatIsWholeAndCutsLongRemains) {
  const fs::path file = folder_ / "log";
  for (const auto& [before, after] : std::vector<std::pair<std::string, std::string>>{
           {"", ""},
           {"\n", "\n"},
           {"a\n\n", "a\n\n"},
           {"a\n" + std::string(100000, 'x'), "a\n"},
           {std::string(65535, 'x') + "\ny", std::string(65535, 'x') + "\n"},
           {std::string(65536, 'x') + "\ny", std::string(65536, 'x') + "\n"},
           {std::string(200000, 'x'), ""}}) {
    std::ofstream(file, std::ios::trunc) << before;
    { LineFile opened(file); }
    EXPECT_EQ(read_file(file), after) << before.size();
  }
  EXPECT_THROW(LineFile(folder_ / "missing/log"), Error);
  EXPECT_THROW(LineFile{folder_}, Error);
}

TEST_F(FileTest, LineFileIsFreeAgainWhenItsWriterIsGone) {
  const fs::path file = folder_ / "log";
  EXPECT_EQ(in_process([&] {
              LineFile lines(file);
              lines.append("of a killed writer");
              raise(SIGKILL);
            }),
            -SIGKILL);
  LineFile first(file);
  LineFile moved(std::move(first));
  moved.append("next");
  EXPECT_EQ(in_process([&] { LineFile second(file); }), 77) << "moving keeps the lock";
  EXPECT_EQ(read_file(file), "of a killed writer\nnext\n");
}

TEST_F(FileTest, SpaceIsThatOfTheFolderToBe) {
  EXPECT_NO_THROW(require_space("", 1, "a test"));
  EXPECT_NO_THROW(require_space(folder_ / "to/be", 1, "a test"));
  for (const fs::path& folder : {folder_ / "to/be", fs::path(), folder_ / ""})
    EXPECT_THROW(require_space(folder, uint64_t{1} << 62, "a test"), Error) << folder;
}

TEST_F(FileTest, LineFileHasOneWriter) {
  LineFile first(folder_ / "log");
  EXPECT_EQ(in_process([&] { LineFile second(folder_ / "log"); }), 77);
  EXPECT_THROW(LineFile(folder_ / "log"), Error);
}

TEST_F(FileTest, LineFileSurvivesKill) {
  const fs::path file = folder_ / "log";
  size_t before = 0;
  for (int i = 0; i < 5; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      LineFile lines(file);
      for (;;) lines.append(std::string(5000, 'x'));
    }
    usleep(20000);
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    LineFile(file).append(std::string(5000, 'x'));  // the lock is gone with its process
    const std::string content = read_file(file);
    EXPECT_EQ(content.size() % 5001, 0u);
    EXPECT_GT(content.size(), before) << "lines of the killed writers stay";
    before = content.size();
  }
}

TEST_F(FileTest, AFullDiskIsAnErrorThatSaysSo) {
  const fs::path disk = folder_ / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "may not mount a small disk";
  std::string message;
  size_t left = 99;
  try {
    write_file(disk / "a", "old");
    try {
      write_file(disk / "a", std::string(200000, 'x'));
    } catch (const NoSpaceError& e) {
      message = e.what();
    }
    left = static_cast<size_t>(std::distance(fs::directory_iterator(disk), fs::directory_iterator{}));
    EXPECT_EQ(read_file(disk / "a"), "old");
  } catch (const std::exception& e) {
    ADD_FAILURE() << e.what();
  }
  umount(disk.c_str());
  EXPECT_THAT(message, HasSubstr("No space left on device"));
  EXPECT_EQ(left, 1u);
}

TEST_F(FileTest, FailuresAreErrorsNamingTheFile) {
  std::ofstream(folder_ / "file") << "x";
  fs::create_directory(folder_ / "taken");
  const std::string long_name(300, 'n');
  const std::pair<const char*, std::function<void()>> cases[] = {
      {"taken", [&] { write_file(folder_ / "taken", "x"); }},
      {"file/below", [&] { write_file(folder_ / "file/below", "x"); }},
      {"nnn", [&] { write_file(folder_ / long_name, "x"); }},
      {"nnn", [&] { read_file(folder_ / long_name); }},
      {"nnn", [&] { make_folder(folder_ / long_name); }},
      {"taken", [&] { LineFile lines(folder_ / "taken"); }},
      {"file/below", [&] { LineFile lines(folder_ / "file/below"); }},
      {"never", [&] { PendingFile(folder_ / "never").commit(); }},
      {"cannot be made a folder", [&] { make_folder(""); }},
      // Reading it fails, after it was opened: an empty text would be taken for the content.
      {"/proc/self/mem", [&] { read_file("/proc/self/mem"); }},
  };
  for (const auto& [named, work] : cases) {
    try {
      work();
      ADD_FAILURE() << named;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(named));
    } catch (const std::exception& e) {
      ADD_FAILURE() << named << ": " << e.what();
    }
  }
  EXPECT_EQ(entries(), 2u);
}

TEST_F(FileTest, AFolderWithoutPermissionIsRefused) {
  const fs::path locked = folder_ / "locked";
  fs::create_directory(locked);
  write_file(locked / "a", "x");
  fs::permissions(locked, fs::perms::owner_read | fs::perms::owner_exec);
  fs::permissions(folder_, fs::perms::all);
  const auto as_nobody = [&](const std::function<void()>& work) {
    return in_process([&] {
      if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(1);
      work();
    });
  };
  EXPECT_EQ(as_nobody([&] { make_folder(locked); }), 77);
  EXPECT_EQ(as_nobody([&] { write_file(locked / "b", "x"); }), 77);
  EXPECT_EQ(as_nobody([&] { LineFile lines(locked / "b"); }), 77);
  EXPECT_EQ(as_nobody([&] { make_folder(folder_ / "mine"); }), 0);
  fs::permissions(locked, fs::perms::none);
  const int read = as_nobody([&] { read_file(locked / "a"); });
  const int made = as_nobody([&] { make_folder(locked / "below"); });
  fs::permissions(locked, fs::perms::owner_all);
  EXPECT_EQ(read, 77);
  EXPECT_EQ(made, 77);
}

TEST(Folders, TheEnvironmentComesFirst) {
  const auto with = [](std::vector<std::pair<const char*, const char*>> values, const auto& folder) {
    std::vector<std::pair<const char*, std::optional<std::string>>> before;
    for (const auto& [name, value] : values) {
      const char* old = getenv(name);
      before.emplace_back(name, old ? std::optional<std::string>(old) : std::nullopt);
      setenv(name, value, 1);
    }
    const fs::path found = folder();
    for (const auto& [name, value] : before) value ? setenv(name, value->c_str(), 1) : unsetenv(name);
    return found;
  };
  EXPECT_EQ(with({{"HAQA_CACHE", "/a"}, {"XDG_CACHE_HOME", "/b"}}, cache_folder), "/a");
  EXPECT_EQ(with({{"HAQA_CACHE", ""}, {"XDG_CACHE_HOME", "/b"}}, cache_folder), "/b/haqa");
  EXPECT_EQ(with({{"HAQA_CACHE", ""}, {"XDG_CACHE_HOME", ""}, {"HOME", "/h"}}, cache_folder), "/h/.cache/haqa");
  EXPECT_EQ(with({{"HAQA_CACHE", ""}, {"XDG_CACHE_HOME", ""}, {"HOME", ""}}, cache_folder), "/tmp/.cache/haqa");
  EXPECT_EQ(with({{"HAQA_DATA", "/d"}}, data_folder), "/d");
  EXPECT_TRUE(fs::is_directory(with({{"HAQA_DATA", ""}}, data_folder) / "prompts"));
  EXPECT_EQ(with({{"HAQA_LLAMA_BIN", "/l"}}, llama_bin_folder), "/l");
  EXPECT_EQ(program_folder(), HAQA_BIN_DIR);
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
  } catch (const NoSpaceError& e) {
    EXPECT_THAT(e.what(), HasSubstr("4611686.0 TB are needed for a test"));
  }
}

TEST(RemoveUnfinished, LeavesWhatIsWhole) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "below");
  write_file(folder / "below/whole.gguf", "whole");
  write_file(folder / "below/llama.part-00001-Q4_0.gguf", "whole");
  {
    PendingFile pending(folder / "below/model.gguf");
    std::ofstream(pending.path()) << "half";
    remove_unfinished(folder.path());
    EXPECT_FALSE(std::filesystem::exists(pending.path()));
  }
  EXPECT_EQ(read_file(folder / "below/whole.gguf"), "whole");
  EXPECT_TRUE(std::filesystem::exists(folder / "below/llama.part-00001-Q4_0.gguf"));
  EXPECT_NO_THROW(remove_unfinished(folder / "none"));
}

}  // namespace
}  // namespace haqa
