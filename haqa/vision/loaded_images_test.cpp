#include "haqa/vision/loaded_images.h"

#include <numeric>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/make_images.h"
#include "haqa/vision/vision_test_support.h"

namespace haqa {
namespace {

TEST(LoadedImages, AreTheLoadersWithoutACopy) {
  ImageSet set{.labels = {2, 0, 1, 1, 0}, .height = 4, .width = 6};
  set.pixels.resize(5 * 4 * 6 * 3);
  std::iota(set.pixels.begin(), set.pixels.end(), uint8_t{0});
  LoadedImages source(set, {4, 0, 2}, 3, LoaderOptions::for_validation(2, {{0.5f, 0, 0}, {1, 2, 1}}));
  EXPECT_EQ(source.size(), 3);
  EXPECT_EQ(source.classes(), 3);
  for (const size_t first : {0, 1}) {
    source.start_epoch(0, first);
    std::vector<int64_t> labels;
    while (const auto batch = source.next()) {
      EXPECT_TRUE(batch->images.is_contiguous(at::MemoryFormat::ChannelsLast));
      for (int64_t i = 0; i < batch->labels.numel(); ++i) labels.push_back(batch->labels[i].item<int64_t>());
      if (labels.size() != 2) continue;
      // Image 4 begins at byte 288, which is 32; its second row at 32 + 18; of it the green of the third column.
      EXPECT_NEAR(batch->images[0][1][1][2].item<double>(), (32 + 18 + 7) / 255.0 / 2, 1e-6);
      EXPECT_NEAR(batch->images[0][0][0][0].item<double>(), 32 / 255.0 - 0.5, 1e-6);
    }
    EXPECT_EQ(labels, first == 0 ? (std::vector<int64_t>{0, 2, 1}) : (std::vector<int64_t>{1}));
  }
}

TEST(LoadedImages, KnowsWhichAreDamagedAndHowFarItIs) {
  const TemporaryFolder folder;
  make_images(folder / "made", ImageForm::folder, {.training = 8, .test = 2, .classes = 2, .side = 16});
  const ImageData data = read_images(folder / "made");
  for (const size_t i : {2, 3, 6}) write_file(data.training.files[i], "no JPEG");
  LoaderOptions options = LoaderOptions::for_validation(2, {});
  options.view = {.size = 8, .resize = 8};
  const auto names = [](const LoadedImages& source) {
    std::vector<std::string> all;
    for (const DamagedImage& image : source.skipped()) all.push_back(image.file.string());
    return all;
  };
  const auto file = [&](size_t i) { return data.training.files[i].string(); };
  LoadedImages source(data.training, {0, 1, 2, 3, 4, 5, 6, 7}, 2, options);
  source.start_epoch(0, 0);
  std::vector<std::pair<int64_t, size_t>> given;  // images of a batch, and batches behind
  while (const auto batch = source.next()) given.emplace_back(batch->labels.numel(), source.position());
  EXPECT_EQ(given, (std::vector<std::pair<int64_t, size_t>>{{2, 1}, {2, 3}, {1, 4}}));
  EXPECT_EQ(names(source), (std::vector{file(2), file(3), file(6)}));
  LoadedImages rest(data.training, {0, 1, 2, 3, 4, 5, 6, 7}, 2, options);
  rest.remember_skipped({{file(6), "cut"}, {file(2), "cut"}});
  rest.start_epoch(0, 3);
  while (rest.next()) {
  }
  EXPECT_EQ(names(rest), (std::vector{file(2), file(6)}));
}

}  // namespace
}  // namespace haqa
