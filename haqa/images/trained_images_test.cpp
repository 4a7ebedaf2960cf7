#include "haqa/images/trained_images.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

TEST(TrainedImages, AreReadAsTheyWereWritten) {
  const TrainedImages images = {{"cat", "a \"dog\""}, {{0.25f, 0.5f, 0.1f}, {1, 0.2f, 3}}, 0.2, "00ff"};
  const TrainedImages read = trained_images_from(to_json(images).dump());
  EXPECT_EQ(read.classes, images.classes);
  EXPECT_EQ(read.normalization.mean, images.normalization.mean);
  EXPECT_EQ(read.normalization.deviation, images.normalization.deviation);
  EXPECT_EQ(read.validation_share, 0.2);
  EXPECT_EQ(read.fingerprint, "00ff");
  const Json whole = to_json(images);
  for (const Json& change : {Json{{"mean", {1, 2}}}, Json{{"deviation", {1, 0, 1}}}, Json{{"mean", "0"}},
                             Json{{"classes", 3}}, Json{{"fingerprint", nullptr}}, Json{{"validation_share", "all"}}}) {
    Json damaged = whole;
    damaged.merge_patch(change);
    EXPECT_THROW(trained_images_from(damaged.dump()), Error) << change;
  }
  EXPECT_THROW(trained_images_from("{"), Error);
}

TEST(TrainedImages, TheFingerprintIsOfWhatIsLearned) {
  const ImageSet set = {.labels = {0, 1}, .height = 1, .width = 1, .pixels = {1, 2, 3, 4, 5, 6}};
  EXPECT_EQ(fingerprint(set), fingerprint(set));
  ImageSet label = set, pixel = set;
  label.labels = {1, 0};
  pixel.pixels.back() = 7;
  EXPECT_NE(fingerprint(label), fingerprint(set));
  EXPECT_NE(fingerprint(pixel), fingerprint(set));

  const TemporaryFolder folder;
  const auto files = [&](const char* name, const char* first, const char* content) {
    std::filesystem::create_directories(folder / name / "cat");
    std::ofstream(folder / name / "cat" / first) << content;
    return fingerprint({.labels = {0}, .files = {folder / name / "cat" / first}});
  };
  const std::string whole = files("a", "1.jpg", "abc");
  EXPECT_EQ(files("moved", "1.jpg", "abc"), whole);
  EXPECT_NE(files("a", "2.jpg", "abc"), whole);
  EXPECT_NE(files("a", "1.jpg", "abcd"), whole);
}

}  // namespace
}  // namespace haqa
