#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/cli/commands.h"

namespace haqa {
namespace {

TEST(NewFolderTest, RunsOfOneSecondHaveFoldersOfTheirOwn) {
  const TemporaryFolder folder;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  std::set<std::filesystem::path> all;
  for (int i = 0; i < 5; ++i) {
    const std::filesystem::path made = new_folder("kernels");
    EXPECT_FALSE(std::filesystem::exists(made));
    make_folder(made);
    all.insert(made);
  }
  std::filesystem::current_path(before);
  EXPECT_EQ(all.size(), 5u);
}

TEST(NotNanTest, LetsNumbersPassAlone) {
  for (const char* text : {"nan", "NaN", "-nan"}) EXPECT_NE(not_nan(text), "") << text;
  for (const char* text : {"0", "1e3", "-2.5", "inf"}) EXPECT_EQ(not_nan(text), "") << text;
}

}  // namespace
}  // namespace haqa
