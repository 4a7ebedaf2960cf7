#include "haqa/images/image_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/images_test_support.h"
#include "haqa/images/make_images.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<Batch> rest_of(ImageLoader& loader) {
  std::vector<Batch> batches;
  while (std::optional<Batch> batch = loader.next()) batches.push_back(*std::move(batch));
  return batches;
}

std::vector<Batch> epoch(ImageLoader& loader, uint64_t number, size_t first = 0) {
  loader.start_epoch(number, first);
  return rest_of(loader);
}

/// What stands at each index, whatever its batch.
std::map<size_t, std::vector<float>> by_index(const std::vector<Batch>& batches) {
  std::map<size_t, std::vector<float>> all;
  for (const Batch& b : batches) {
    const size_t values = b.height * b.width * 3;
    for (size_t i = 0; i < b.indices.size(); ++i) {
      const auto from = b.pixels.begin() + static_cast<std::ptrdiff_t>(i * values);
      all[b.indices[i]] = std::vector<float>(from, from + static_cast<std::ptrdiff_t>(values));
    }
  }
  return all;
}

/// JPEGs of 60 x 60 and more.
class Files : public testing::Test {
 protected:
  Files() {
    make_images(folder_ / "set", ImageForm::folder, {.training = 23, .test = 5, .classes = 3, .side = 60});
    data_ = read_images(folder_ / "set");
  }
  const TemporaryFolder folder_;
  ImageData data_;
  LoaderOptions small(LoaderOptions options) const {
    options.view = {32, 40};
    return options;
  }
};

/// Order and pixels are the same for any number of threads and batches ahead.
void expect_same_for_all_threads(const ImageSet& set, LoaderOptions options) {
  std::vector<Batch> expected;
  for (const int threads : {1, 2, 3, 8}) {
    options.threads = threads;
    options.ahead = static_cast<size_t>(threads % 4 + 1);
    ImageLoader loader(set, all_of(set), options);
    loader.start_epoch(1);
    loader.next();  // an epoch that is left early changes nothing
    const std::vector<Batch> found = epoch(loader, 4);
    if (expected.empty()) expected = found;
    ASSERT_EQ(found.size(), loader.batches());
    ASSERT_TRUE(found == expected) << threads;
  }
}

TEST(ImageLoader, DependsOnNoThreads) {
  expect_same_for_all_threads(random_set(333, 8, 8), LoaderOptions::for_training(50, {}));
}

TEST_F(Files, DependsOnNoThreads) {
  expect_same_for_all_threads(data_.training, small(LoaderOptions::for_training(4, {})));
}

TEST(ImageLoader, GivesEachImageOnceInAnOrderOfTheEpoch) {
  const ImageSet set = random_set(100, 4, 4);
  const std::vector<size_t> indices = {3, 99, 50, 7, 8, 9, 10, 11, 12, 13, 14};
  LoaderOptions options = LoaderOptions::for_training(4, {});
  for (const bool drop_last : {true, false}) {
    options.drop_last = drop_last;
    ImageLoader loader(set, indices, options);
    EXPECT_FALSE(loader.next());
    std::set<std::vector<size_t>> orders;
    for (uint64_t e = 0; e < 5; ++e) {
      std::vector<size_t> seen, sizes;
      for (const Batch& b : epoch(loader, e)) {
        ASSERT_EQ(b.pixels.size(), b.labels.size() * 4 * 4 * 3);
        for (size_t i = 0; i < b.indices.size(); ++i) EXPECT_EQ(b.labels[i], set.labels[b.indices[i]]);
        seen.insert(seen.end(), b.indices.begin(), b.indices.end());
        sizes.push_back(b.labels.size());
      }
      EXPECT_EQ(sizes, drop_last ? std::vector<size_t>({4, 4}) : std::vector<size_t>({4, 4, 3}));
      orders.insert(seen);
      EXPECT_EQ(std::set<size_t>(seen.begin(), seen.end()).size(), seen.size());
      for (const size_t i : seen) EXPECT_THAT(indices, testing::Contains(i));
    }
    EXPECT_EQ(orders.size(), 5u);
  }
}

TEST(ImageLoader, GivesValidationInOrderAndAsItIs) {
  const ImageSet set = random_set(10, 4, 4);
  const Normalization n{{0.5f, 0.4f, 0.3f}, {0.2f, 0.3f, 0.4f}};
  ImageLoader loader(set, {9, 2, 5}, LoaderOptions::for_validation(2, n));
  const std::vector<Batch> first = epoch(loader, 0);
  ASSERT_EQ(first.size(), 2u);
  EXPECT_THAT(first[0].indices, ElementsAre(9, 2));
  EXPECT_THAT(first[1].indices, ElementsAre(5));
  for (size_t i = 0; i < 48; ++i)
    EXPECT_NEAR(first[1].pixels[i], (set.pixels_of(5)[i] / 255.0f - n.mean[i % 3]) / n.deviation[i % 3], 1e-5);
  EXPECT_TRUE(epoch(loader, 1) == first);
}

TEST(ImageLoader, AugmentsBySeedEpochAndIndexAlone) {
  const ImageSet set = random_set(40, 6, 6);
  const auto load = [&](uint64_t seed, size_t batch, const std::vector<size_t>& indices, uint64_t number) {
    LoaderOptions options = LoaderOptions::for_training(batch, {});
    options.seed = seed;
    options.drop_last = false;
    ImageLoader loader(set, indices, options);
    return by_index(epoch(loader, number));
  };
  const auto expected = load(1, 8, all_of(set), 2);
  ASSERT_EQ(expected.size(), 40u);
  EXPECT_EQ(load(1, 3, all_of(set), 2), expected);
  for (const auto& [index, pixels] : load(1, 2, {30, 4, 17}, 2)) EXPECT_EQ(pixels, expected.at(index)) << index;
  const auto other_seed = load(2, 8, all_of(set), 2), other_epoch = load(1, 8, all_of(set), 3);
  size_t alike = 0;  // one in 162 by chance
  for (size_t i = 0; i < 40; ++i) alike += (other_seed.at(i) == expected.at(i)) + (other_epoch.at(i) == expected.at(i));
  EXPECT_LT(alike, 6u);
}

TEST(ImageLoader, GoesOnWithinAnEpoch) {
  const ImageSet set = random_set(50, 4, 4);
  ImageLoader loader(set, all_of(set), LoaderOptions::for_training(8, {}));
  const std::vector<Batch> whole = epoch(loader, 3);
  ASSERT_EQ(whole.size(), 6u);
  for (const size_t first : {0, 2, 5, 6, 9}) {
    std::vector<Batch> expected(whole.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(first, 6)), whole.end());
    EXPECT_TRUE(epoch(loader, 3, first) == expected) << first;
  }
}

TEST(ImageLoader, UsesMemoryAgain) {
  const ImageSet set = random_set(64, 8, 8);
  ImageLoader loader(set, all_of(set), LoaderOptions::for_training(8, {}));
  const std::vector<Batch> expected = epoch(loader, 1);
  loader.start_epoch(1);
  std::set<const float*> places;
  for (size_t i = 0; std::optional<Batch> batch = loader.next(); ++i) {
    EXPECT_TRUE(*batch == expected[i]) << i;
    places.insert(batch->pixels.data());
    loader.recycle(*std::move(batch));
  }
  EXPECT_LE(places.size(), 5u);  // of 8 batches
}

TEST_F(Files, LeavesOutNamesAndCountsWhatIsDamaged) {
  const std::vector<fs::path>& files = data_.training.files;
  put(files[2], "damaged");
  put(files[9], read_file(files[9]).substr(0, 700));
  fs::remove(files[17]);
  LoaderOptions options = small(LoaderOptions::for_training(4, {}));
  options.drop_last = false;
  options.augmentation->smallest_area = 1;
  std::vector<Batch> first;
  for (const int threads : {1, 4}) {
    options.threads = threads;
    ImageLoader loader(data_.training, all_of(data_.training), options);
    EXPECT_THAT(loader.skipped(), IsEmpty());
    for (int again = 0; again < 2; ++again) {
      const std::vector<Batch> found = epoch(loader, 0);
      if (first.empty()) first = found;
      EXPECT_TRUE(found == first) << threads;
    }
    const auto all = by_index(first);
    EXPECT_EQ(all.size(), 20u);
    for (const size_t i : {2, 9, 17}) EXPECT_FALSE(all.contains(i));
    for (const Batch& b : first)
      for (size_t i = 0; i < b.indices.size(); ++i) EXPECT_EQ(b.labels[i], data_.training.labels[b.indices[i]]);
    const std::vector<DamagedImage> skipped = loader.skipped();
    ASSERT_EQ(skipped.size(), 3u);
    EXPECT_EQ(skipped[0].file, files[2]);
    EXPECT_THAT(skipped[0].reason, HasSubstr("Not a JPEG"));
    EXPECT_EQ(skipped[1].file, files[9]);
    EXPECT_THAT(skipped[1].reason, HasSubstr("Premature end"));
    EXPECT_EQ(skipped[2].file, files[17]);
    EXPECT_THAT(skipped[2].reason, HasSubstr("No such file"));
  }
}

TEST_F(Files, KeepsPixelsOfTheOthersOfABatch) {
  const LoaderOptions options = small(LoaderOptions::for_validation(10, {}));
  ImageLoader before(data_.training, all_of(data_.training), options);
  auto expected = by_index(epoch(before, 0));
  for (const size_t i : {0, 4, 5, 9, 20, 21, 22}) {  // first, last and all of a batch among them
    put(data_.training.files[i], "damaged");
    expected.erase(i);
  }
  ImageLoader after(data_.training, all_of(data_.training), options);
  const std::vector<Batch> found = epoch(after, 0);
  EXPECT_EQ(found.size(), 2u);  // of three: the last one has no good image
  EXPECT_EQ(by_index(found), expected);
}

TEST_F(Files, EndsWhereNoImageIsGood) {
  for (const fs::path& file : data_.test.files) put(file, "damaged");
  ImageLoader loader(data_.test, all_of(data_.test), small(LoaderOptions::for_validation(2, {})));
  loader.start_epoch(0);
  try {
    loader.next();
    FAIL() << "there was a batch";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(data_.test.files[0].string()));
  }
}

TEST_F(Files, RefusesWhatCannotBe) {
  const ImageSet pixels = random_set(10, 4, 4);
  const LoaderOptions good = LoaderOptions::for_training(4, {});
  const struct {
    const char* says;
    std::vector<size_t> indices;
    void (*change)(LoaderOptions&);
    bool files = false;
  } cases[] = {
      {"no images", {}, [](LoaderOptions&) {}},
      {"no image 10", {0, 1, 2, 10}, [](LoaderOptions&) {}},
      {"do not fill", {0, 1, 2}, [](LoaderOptions&) {}},
      {"at least one image", {0, 1, 2}, [](LoaderOptions& o) { o.batch = 0; }},
      {"ahead", {0, 1, 2, 3}, [](LoaderOptions& o) { o.ahead = 0; }},
      {"deviation", {0, 1, 2, 3}, [](LoaderOptions& o) { o.normalization.deviation[1] = 0; }},
      {"padding", {0, 1, 2, 3}, [](LoaderOptions& o) { o.augmentation->padding = 5; }},
      {"no share", {0, 1, 2, 3}, [](LoaderOptions& o) { o.augmentation->smallest_area = 0; }},
      {"no share", {0, 1, 2, 3}, [](LoaderOptions& o) { o.augmentation->smallest_area = 1.1; }},
      {"no middle",
       {0, 1, 2, 3},
       [](LoaderOptions& o) {
         o.view = {224, 200};
       },
       true},
      {"no middle",
       {0, 1, 2, 3},
       [](LoaderOptions& o) {
         o.view = {0, 200};
       },
       true},
  };
  for (const auto& c : cases) {
    LoaderOptions options = good;
    c.change(options);
    try {
      ImageLoader(c.files ? data_.training : pixels, c.indices, options);
      ADD_FAILURE() << c.says;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.says));
    }
  }
  EXPECT_NO_THROW(ImageLoader(pixels, {0, 1, 2, 3}, good));
}

}  // namespace
}  // namespace haqa
