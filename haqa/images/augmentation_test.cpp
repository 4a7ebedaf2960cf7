#include "haqa/images/augmentation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/images_test_support.h"
#include "haqa/images/resize.h"

namespace haqa {
namespace {

TEST(Resize, IsThatOfPillow) {
  const Image image = decode_jpeg(golden_bytes("plain.jpg"));
  ASSERT_EQ(golden_images()["resize"].size(), 5u);
  for (const Json& c : golden_images()["resize"]) {
    const Image expected = golden_pixels(c);
    const Json& b = c["box"];  // left, top, right, bottom
    const Box box{b[1], b[0], b[3].get<double>() - b[1].get<double>(), b[2].get<double>() - b[0].get<double>()};
    std::vector<float> out(expected.pixels.size()), mirrored(out.size());
    resize(image, box, expected.height, expected.width, false, out);
    resize(image, box, expected.height, expected.width, true, mirrored);
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], expected.pixels[i], 1.51) << c << i;  // Pillow rounds twice, and one may be off in decoding
      const size_t pixel = i / 3, row = pixel / expected.width, column = pixel % expected.width;
      ASSERT_EQ(out[i], mirrored[((row + 1) * expected.width - 1 - column) * 3 + i % 3]) << c << i;
    }
  }
}

TEST(PrepareJpeg, TakesTheMiddleAsTorchvision) {
  const Normalization n{{0.4f, 0.5f, 0.6f}, {0.2f, 0.3f, 0.25f}};
  ASSERT_EQ(golden_images()["middle"].size(), 3u);
  for (const Json& c : golden_images()["middle"]) {
    const Image expected = golden_pixels(c);
    std::vector<float> out(expected.pixels.size());
    prepare_jpeg(golden_bytes("plain.jpg"), {c["size"], c["resize"]}, n, nullptr, Draws(1), out);
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_NEAR(255 * (out[i] * n.deviation[i % 3] + n.mean[i % 3]), expected.pixels[i], 1.51) << c << i;
  }
}

/// What is decoded at a quarter looks as what is decoded whole.
TEST(PrepareJpeg, ReducesWithoutHarm) {
  Image large{400, 500, {}};
  for (size_t y = 0; y < large.height; ++y)
    for (size_t x = 0; x < large.width; ++x)
      for (const double wave : {std::sin(static_cast<double>(x) / 30), std::cos(static_cast<double>(y) / 20), 0.3})
        large.pixels.push_back(static_cast<uint8_t>(128 + 100 * wave));
  const std::string bytes = encode_jpeg(large, 95);
  const Image decoded = decode_jpeg(bytes);
  for (const size_t size : {20, 45, 90, 200}) {
    std::vector<float> out(size * size * 3), expected(out.size());
    prepare_jpeg(bytes, {size, size}, {}, nullptr, Draws(1), out);
    const size_t longer = size * 5 / 4;
    const double factor = 500.0 / static_cast<double>(longer);
    const double left = std::nearbyint(static_cast<double>(longer - size) / 2);
    resize(decoded, {0, left * factor, 400, static_cast<double>(size) * factor}, size, size, false, expected);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(255 * out[i], expected[i], 6) << size << " " << i;
    const Augmentation whole{.flip = false, .smallest_area = 0.9};
    prepare_jpeg(bytes, {size, size}, {}, &whole, Draws(7), out);
    Draws draws(7);
    const Region r = random_resized_crop(400, 500, 0.9, draws);
    const Box box{static_cast<double>(r.top), static_cast<double>(r.left), static_cast<double>(r.height),
                  static_cast<double>(r.width)};
    resize(decoded, box, size, size, false, expected);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(255 * out[i], expected[i], 12) << size << " " << i;
  }
}

TEST(RandomResizedCrop, StaysWithinItsRanges) {
  double areas = 0, least = 1, most = 0;
  constexpr int kDraws = 20000;
  Draws draws(5);
  for (int i = 0; i < kDraws; ++i) {
    const Region r = random_resized_crop(300, 300, 0.08, draws);
    ASSERT_LE(r.top + r.height, 300u);
    ASSERT_LE(r.left + r.width, 300u);
    const double aspect = static_cast<double>(r.width) / static_cast<double>(r.height);
    ASSERT_GT(aspect, 0.73);  // sides are rounded
    ASSERT_LT(aspect, 1.37);
    const double area = static_cast<double>(r.width * r.height) / 90000;
    areas += area / kDraws;
    least = std::min(least, area);
    most = std::max(most, area);
  }
  EXPECT_NEAR(least, 0.08, 0.002);
  EXPECT_GT(most, 0.98);
  // By torchvision's rule with NumPy's random numbers: 0.4791. Areas near 1 fit with few aspects only.
  EXPECT_NEAR(areas, 0.479, 0.01);
}

TEST(RandomResizedCrop, TakesTheMiddleOfWhatIsTooLong) {
  Draws draws(1);
  const struct {
    size_t height, width;
    Region expected;
  } cases[] = {{1, 1000, {0, 499, 1, 1}},
               {1000, 1, {499, 0, 1, 1}},
               {30, 3000, {0, 1480, 30, 40}},
               {3000, 30, {1480, 0, 40, 30}}};
  for (const auto& c : cases) EXPECT_EQ(random_resized_crop(c.height, c.width, 0.9, draws), c.expected);
}

/// Of an image with black pixels laid around it, the window at a place, mirrored or not.
std::vector<float> window(const ImageSet& set, size_t padding, size_t top, size_t left, bool mirrored,
                          const Normalization& n) {
  std::vector<float> out;
  for (size_t y = top; y < top + set.height; ++y)
    for (size_t k = 0; k < set.width; ++k)
      for (size_t c = 0; c < 3; ++c) {
        const size_t x = left + (mirrored ? set.width - 1 - k : k);
        const bool inside = y >= padding && y < padding + set.height && x >= padding && x < padding + set.width;
        const uint8_t byte = inside ? set.pixels[((y - padding) * set.width + x - padding) * 3 + c] : 0;
        out.push_back((static_cast<float>(byte) / 255 - n.mean[c]) / n.deviation[c]);
      }
  return out;
}

bool nearly(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) { return std::abs(x - y) < 1e-5f; });
}

TEST(PreparePixels, CutsEveryWindowAlike) {
  const ImageSet set = random_set(1, 5, 6);
  const Normalization n{{0.1f, 0.2f, 0.3f}, {0.5f, 0.25f, 2.0f}};
  for (const bool flip : {false, true})
    for (const size_t padding : {0, 1, 7}) {  // 7: some windows are all black
      const Augmentation augmentation{.flip = flip, .padding = padding};
      const size_t shifts = 2 * padding + 1;
      std::set<std::tuple<size_t, size_t, bool>> seen;
      const int draws = padding == 7 ? 400 : 200;
      for (int seed = 0; seed < draws; ++seed) {
        std::vector<float> out(set.pixels.size());
        prepare_pixels(set.pixels, 5, 6, n, &augmentation, Draws(static_cast<uint64_t>(seed)), out);
        bool found = false;
        for (size_t top = 0; top < shifts; ++top)
          for (size_t left = 0; left < shifts; ++left)
            for (const bool mirrored : {false, true})
              if (nearly(out, window(set, padding, top, left, mirrored, n))) {
                found = true;
                seen.emplace(top, left, mirrored);
              }
        ASSERT_TRUE(found) << padding << " " << seed;
      }
      if (padding < 2) {
        EXPECT_EQ(seen.size(), shifts * shifts * (flip ? 2 : 1)) << padding;
      }
    }
  std::vector<float> out(set.pixels.size());
  prepare_pixels(set.pixels, 5, 6, n, nullptr, Draws(3), out);
  EXPECT_TRUE(nearly(out, window(set, 0, 0, 0, false, n)));
}

TEST(Normalization, IsThatOfTheImagesNamed) {
  ImageSet set = random_set(9, 4, 4);
  const std::vector<size_t> indices = {1, 4, 8};
  for (const size_t i : all_of(set))
    for (size_t p = 0; p < 16; ++p) set.pixels[i * 48 + 3 * p + 2] = 51;  // blue never changes
  const Normalization n = normalization_of(set, indices);
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0;
    for (const size_t i : indices)
      for (size_t p = 0; p < 16; ++p) sum += set.pixels_of(i)[3 * p + c] / 255.0;
    for (const size_t i : indices)
      for (size_t p = 0; p < 16; ++p) squares += std::pow(set.pixels_of(i)[3 * p + c] / 255.0 - sum / 48, 2);
    EXPECT_NEAR(n.mean[c], sum / 48, 1e-6);
    EXPECT_NEAR(n.deviation[c], c == 2 ? 1 : std::sqrt(squares / 48), 1e-6);
  }
  EXPECT_THROW(normalization_of(set, {}), UsageError);
}

TEST(Normalization, LeavesOutDamagedFiles) {
  const TemporaryFolder folder;
  ImageSet set;
  for (const std::string name : {"a.jpg", "b.jpg", "c.jpg"}) {
    const uint8_t value = name == "a.jpg" ? 60 : 100;
    put(folder / name, name == "b.jpg" ? "damaged" : encode_jpeg({50, 40, std::vector<uint8_t>(6000, value)}));
    set.files.push_back(folder / name);
    set.labels.push_back(0);
  }
  const Normalization n = normalization_of(set, all_of(set), {20, 24});
  for (size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(n.mean[c], 80 / 255.0, 0.004);
    EXPECT_NEAR(n.deviation[c], 20 / 255.0, 0.004);
  }
  EXPECT_THROW(normalization_of(set, std::vector<size_t>{1}, {20, 24}), Error);
}

}  // namespace
}  // namespace haqa
