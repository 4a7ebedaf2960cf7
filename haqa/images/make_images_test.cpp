#include "haqa/images/make_images.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/images_test_support.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) all[entry.path().lexically_relative(folder).string()] = read_file(entry.path());
  return all;
}

TEST(MakeImages, GivesEachFormWithAsManyOfEachClass) {
  const TemporaryFolder folder;
  for (const std::string form : {"cifar10", "cifar100", "folder"}) {
    make_images(folder / form, image_form_from(form), {.training = 46, .test = 9, .classes = 4, .side = 16});
    const ImageData data = read_images(folder / form);
    std::vector<std::string> classes = made_classes(4);
    if (form == "folder") std::sort(classes.begin(), classes.end());
    EXPECT_EQ(data.classes, classes);
    ASSERT_EQ(data.training.size(), 46u) << form;
    ASSERT_EQ(data.test.size(), 9u) << form;
    for (int64_t label = 0; label < 4; ++label) {
      const auto of_label = std::count(data.training.labels.begin(), data.training.labels.end(), label);
      EXPECT_TRUE(of_label == 11 || of_label == 12) << form;
    }
    EXPECT_FALSE(fs::exists(folder / (form + ".unfinished")));
  }
  EXPECT_THAT(made_classes(4), ElementsAre("warm-circle", "cool-circle", "warm-square", "cool-square"));
  EXPECT_EQ(contents(folder / "cifar10").size(), 7u);
}

TEST(MakeImages, DependsOnTheSeedAlone) {
  const TemporaryFolder folder;
  for (const ImageForm form : {ImageForm::cifar10, ImageForm::cifar100, ImageForm::folder}) {
    std::vector<std::map<std::string, std::string>> made;
    for (const uint64_t seed : {1, 1, 2}) {
      const fs::path to = folder / (std::to_string(static_cast<int>(form)) + "-" + std::to_string(made.size()));
      make_images(to, form, {.training = 12, .test = 4, .classes = 2, .seed = seed, .side = 12});
      made.push_back(contents(to));
    }
    EXPECT_EQ(made[0], made[1]);
    EXPECT_NE(made[0], made[2]);
  }
}

/// The nearest class mean, in colours and in where they lie, finds more than chance would, but does not find all.
TEST(MakeImages, CanBeLearnt) {
  const TemporaryFolder folder;
  make_images(folder / "set", ImageForm::cifar10, {.training = 1000, .test = 300});
  const ImageData data = read_images(folder / "set");
  const size_t values = 32 * 32 * 3;
  std::vector<std::vector<double>> means(10, std::vector<double>(values));
  for (size_t i = 0; i < data.training.size(); ++i)
    for (size_t v = 0; v < values; ++v) means[data.training.labels[i]][v] += data.training.pixels_of(i)[v] / 100.0;
  int right = 0;
  for (size_t i = 0; i < data.test.size(); ++i) {
    std::vector<double> distances;
    for (const auto& mean : means) {
      distances.push_back(0);
      for (size_t v = 0; v < values; ++v) distances.back() += std::pow(data.test.pixels_of(i)[v] - mean[v], 2);
    }
    right += std::min_element(distances.begin(), distances.end()) - distances.begin() == data.test.labels[i];
  }
  EXPECT_GT(right, 45);  // 30 by chance, with a deviation of 5
  EXPECT_LT(right, 200);
}

TEST(MakeImages, RefusesWhatCannotBeMade) {
  const TemporaryFolder folder;
  put(folder / "full/file", "x");
  const struct {
    const char* name;
    MadeImages options;
    const char* says;
  } cases[] = {
      {"set", {.classes = 1}, "1 classes"}, {"set", {.classes = 21}, "21 classes"},
      {"set", {.training = 9}, "9 images"}, {"set", {.test = 0}, "0 for test"},
      {"set", {.noise = -1}, "no noise"},   {"set", {.noise = std::nan("")}, "no noise"},
      {"set", {.side = 7}, "no side"},      {"full", {}, "is there already"},
  };
  for (const auto& c : cases) {
    try {
      make_images(folder / c.name, ImageForm::cifar10, c.options);
      ADD_FAILURE() << c.says;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.says));
    }
  }
  EXPECT_FALSE(fs::exists(folder / "set"));
  EXPECT_EQ(read_file(folder / "full/file"), "x");
  EXPECT_THROW(image_form_from("png"), UsageError);
}

}  // namespace
}  // namespace haqa
