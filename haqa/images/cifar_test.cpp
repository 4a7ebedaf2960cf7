#include "haqa/images/cifar.h"

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

/// A record as the format's page describes it: labels, 1024 reds, 1024 greens, 1024 blues.
std::string record(const std::string& labels, uint8_t red, uint8_t green, uint8_t blue) {
  std::string r = labels;
  for (const uint8_t plane : {red, green, blue})
    for (int i = 0; i < 1024; ++i) r += static_cast<char>(plane + i % 7);
  return r;
}

std::string label(int value) {
  return std::string(1, static_cast<char>(value));
}

/// Three training images in two files and one of test, of three classes.
void put_cifar_10(const fs::path& folder) {
  put(folder / "data_batch_1.bin", record(label(2), 10, 20, 30) + record(label(0), 40, 50, 60));
  put(folder / "data_batch_2.bin", record(label(1), 70, 80, 90));
  put(folder / "test_batch.bin", record(label(1), 200, 210, 220));
  put(folder / "batches.meta.txt", "cat\ndog\r\nship\n\n");
}

void put_cifar_100(const fs::path& folder) {
  put(folder / "train.bin", record(label(1) + label(2), 10, 20, 30) + record(label(0) + label(3), 1, 2, 3));
  put(folder / "test.bin", record(label(0) + label(0), 40, 50, 60));
  put(folder / "fine_label_names.txt", "oak\npine\nrose\ntulip\n");
  put(folder / "coarse_label_names.txt", "tree\nflower\n");
}

TEST(Cifar, ReadsCifar10) {
  const TemporaryFolder folder;
  put_cifar_10(folder.path());
  for (const ImageData& data : {read_cifar(folder.path()), read_images(folder.path())}) {
    EXPECT_THAT(data.classes, ElementsAre("cat", "dog", "ship"));
    EXPECT_THAT(data.training.labels, ElementsAre(2, 0, 1));
    EXPECT_THAT(data.test.labels, ElementsAre(1));
    ASSERT_EQ(data.training.pixels.size(), 3u * 32 * 32 * 3);
    const uint8_t reds[] = {10, 40, 70};
    for (size_t i = 0; i < 3; ++i)
      for (size_t p = 0; p < 1024; ++p)
        for (size_t c = 0; c < 3; ++c) ASSERT_EQ(data.training.pixels_of(i)[3 * p + c], reds[i] + 10 * c + p % 7);
    EXPECT_EQ(data.test.pixels_of(0)[4], 211);
  }
}

TEST(Cifar, ReadsBothLabelsOfCifar100) {
  const TemporaryFolder folder;
  put_cifar_100(folder.path());
  const ImageData fine = read_images(folder.path()), coarse = read_cifar(folder.path(), CifarLabels::coarse);
  EXPECT_THAT(fine.classes, ElementsAre("oak", "pine", "rose", "tulip"));
  EXPECT_THAT(fine.training.labels, ElementsAre(2, 3));
  EXPECT_THAT(coarse.classes, ElementsAre("tree", "flower"));
  EXPECT_THAT(coarse.training.labels, ElementsAre(1, 0));
  EXPECT_EQ(fine.training.pixels, coarse.training.pixels);
  EXPECT_EQ(fine.training.pixels_of(1)[2], 3);
}

TEST(Cifar, ReadsWhatItWrites) {
  const TemporaryFolder folder;
  ImageSet set = random_set(5, 32, 32);
  write_cifar_records(set, folder / "data_batch_1.bin");
  write_cifar_records(set, folder / "test_batch.bin");
  put(folder / "batches.meta.txt", "a\nb\nc\n");
  const ImageData data = read_cifar(folder.path());
  EXPECT_EQ(data.training.pixels, set.pixels);
  EXPECT_EQ(data.training.labels, set.labels);
  EXPECT_THROW(write_cifar_records(set, folder / "x", {1}), UsageError);
  EXPECT_THROW(write_cifar_records(random_set(1, 32, 31), folder / "x"), UsageError);
  set.labels[0] = 256;
  EXPECT_THROW(write_cifar_records(set, folder / "x"), UsageError);
}

TEST(Cifar, NamesFileAndPositionOfWhatIsWrong) {
  const std::string good = record(label(0), 1, 2, 3);
  const struct {
    const char *name, *file;
    std::optional<std::string> content;  ///< none: the file is removed
    std::vector<std::string> says;
    bool hundred = false;
  } cases[] = {
      {"a byte less",
       "data_batch_1.bin",
       good + good.substr(1),
       {"data_batch_1.bin", "6145 bytes", "byte 3073", "3072"}},
      {"a byte more", "test_batch.bin", good + "x", {"test_batch.bin", "3074 bytes", "byte 3073"}},
      {"empty", "data_batch_2.bin", "", {"data_batch_2.bin", "empty"}},
      {"label",
       "data_batch_2.bin",
       good + record(label(3), 1, 2, 3),
       {"data_batch_2.bin", "record 1", "byte 3073", "label 3", "3 classes"}},
      {"label 255",
       "test_batch.bin",
       record(label(255), 1, 2, 3),
       {"test_batch.bin", "record 0", "byte 0", "label 255"}},
      {"no test", "test_batch.bin", {}, {"test_batch.bin", "no such file"}},
      {"no names", "batches.meta.txt", {}, {"batches.meta.txt", "no such file"}},
      {"empty names", "batches.meta.txt", "\n\n", {"batches.meta.txt", "no name"}},
      {"a gap", "data_batch_4.bin", good, {"data_batch_3.bin", "no such file"}},
      {"both forms", "train.bin", good, {"CIFAR-10 and of CIFAR-100"}},
      {"records of CIFAR-10", "train.bin", good, {"train.bin", "3073 bytes", "3074"}, true},
      {"fine label",
       "test.bin",
       label(0) + record(label(4), 1, 2, 3),
       {"test.bin", "label 4", "fine_label_names.txt", "4 classes"},
       true},
      {"too many names",
       "fine_label_names.txt",
       [] {
         std::string names;
         for (int i = 0; i < 257; ++i) names += "x\n";
         return names;
       }(),
       {"257 names"},
       true},
  };
  for (const auto& c : cases) {
    const TemporaryFolder folder;
    c.hundred ? put_cifar_100(folder.path()) : put_cifar_10(folder.path());
    if (c.content)
      put(folder / c.file, *c.content);
    else
      fs::remove(folder / c.file);
    try {
      read_images(folder.path());
      ADD_FAILURE() << c.name << " was read";
    } catch (const UsageError& error) {
      for (const std::string& text : c.says) EXPECT_THAT(error.what(), HasSubstr(text)) << c.name;
    }
  }
}

TEST(Cifar, IsNotWhatHasOtherNames) {
  const TemporaryFolder folder;
  for (const char* name : {"data_batch_.bin", "data_batch_0.bin", "data_batch_1.bin.gz", "data_batch_-1.bin",
                           "data_batch_1x.bin", "test_batch.bin"})
    put(folder / name, "x");
  EXPECT_FALSE(is_cifar(folder.path()));
  EXPECT_THROW(read_cifar(folder.path()), UsageError);
  EXPECT_THROW(read_images(folder.path()), UsageError);
  EXPECT_THROW(read_images(folder / "missing"), UsageError);
  put(folder / "data_batch_1.bin", "x");
  EXPECT_TRUE(is_cifar(folder.path()));
}

}  // namespace
}  // namespace haqa
