#include "haqa/base/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace haqa {
namespace {

using testing::HasSubstr;

TEST(TemporaryFolder, GoesWithAllThatIsInIt) {
  std::filesystem::path path;
  {
    const TemporaryFolder folder;
    path = folder.path();
    std::filesystem::create_directories(folder / "a" / "b");
    std::ofstream(folder / "a" / "b" / "file") << "x";
    EXPECT_TRUE(std::filesystem::exists(path / "a/b/file"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TemporaryFolder, SaysWhatToDoWhereNoneCanBeMade) {
  const char* before = getenv("TMPDIR");
  const std::string old = before ? before : "";
  // Nobody, not even root, makes folders in /proc.
  for (const char* place : {"/no/such/folder", "/proc"}) {
    setenv("TMPDIR", place, 1);
    try {
      const TemporaryFolder folder;
      ADD_FAILURE() << folder.path();
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("TMPDIR")) << place;
    }
  }
  before ? setenv("TMPDIR", old.c_str(), 1) : unsetenv("TMPDIR");
}

}  // namespace
}  // namespace haqa
