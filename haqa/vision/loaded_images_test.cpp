#include "haqa/vision/loaded_images.h"

#include <numeric>

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

}  // namespace
}  // namespace haqa
