#include "haqa/images/image_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/images_test_support.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names(const ImageSet& images, const fs::path& folder) {
  std::vector<std::string> all;
  for (const fs::path& file : images.files) all.push_back(file.lexically_relative(folder).string());
  return all;
}

void put_classes(const fs::path& folder) {
  for (const char* name : {"train/b/2.jpg", "train/b/10.JPEG", "train/a/x.jpeg", "train/C/1.JPG", "val/b/v.jpg",
                           "val/C/w.jpg", "train/a/notes.txt", "train/a/.hidden.jpg", "train/list.txt"})
    put(folder / name, "");
  make_folder(folder / "train/.thumbnails");
  make_folder(folder / "train/b/folder.jpg");
}

TEST(ImageFolder, ListsClassesInOrder) {
  const TemporaryFolder folder;
  put_classes(folder.path());
  for (const ImageData& data : {list_image_folder(folder.path()), read_images(folder.path())}) {
    EXPECT_THAT(data.classes, ElementsAre("C", "a", "b"));
    EXPECT_THAT(data.training.labels, ElementsAre(0, 1, 2, 2));
    EXPECT_THAT(names(data.training, folder.path()),
                ElementsAre("train/C/1.JPG", "train/a/x.jpeg", "train/b/10.JPEG", "train/b/2.jpg"));
    EXPECT_THAT(data.test.labels, ElementsAre(0, 2));
    EXPECT_THAT(names(data.test, folder.path()), ElementsAre("val/C/w.jpg", "val/b/v.jpg"));
    EXPECT_FALSE(data.training.in_memory());
  }
}

TEST(ImageFolder, NamesWhatIsMissing) {
  const struct {
    const char* name;
    std::vector<std::string> removed;
    std::string added, says;
  } cases[] = {
      {"no val", {"val"}, "", "/val: there is no such folder"},
      {"empty val", {"val/b/v.jpg", "val/C/w.jpg"}, "", "/val: holds no .jpg"},
      {"an empty class", {"train/a/x.jpeg"}, "", "/train/a: holds no .jpg"},
      {"no class", {"train/a", "train/b", "train/C"}, "", "/train: holds no folder"},
      {"another class", {}, "val/d/1.jpg", "/val/d: train/ has no such class"},
  };
  for (const auto& c : cases) {
    const TemporaryFolder folder;
    put_classes(folder.path());
    for (const std::string& name : c.removed) fs::remove_all(folder / name);
    if (!c.added.empty()) put(folder / c.added, "");
    try {
      read_images(folder.path());
      ADD_FAILURE() << c.name << " was read";
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.says)) << c.name;
    }
  }
}

}  // namespace
}  // namespace haqa
