#include "haqa/images/jpeg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
// libjpeg's header needs stdio's.
#include <jpeglib.h>

#include "haqa/base/error.h"
#include "haqa/images/images_test_support.h"

namespace haqa {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

Image part_of(const Image& image, const Region& r) {
  Image part{r.height, r.width, {}};
  for (size_t y = r.top; y < r.top + r.height; ++y) {
    const auto row = image.pixels.begin() + static_cast<std::ptrdiff_t>((y * image.width + r.left) * 3);
    part.pixels.insert(part.pixels.end(), row, row + static_cast<std::ptrdiff_t>(r.width * 3));
  }
  return part;
}

TEST(Jpeg, DecodesAsPillow) {
  ASSERT_EQ(golden_images()["decode"].size(), 10u);
  for (const Json& c : golden_images()["decode"]) {
    const Image expected = golden_pixels(c), found = decode_jpeg(golden_bytes(c["file"]));
    ASSERT_EQ(found.height, expected.height) << c;
    ASSERT_EQ(found.width, expected.width) << c;
    int most = 0;  // other versions of the library may round in another way
    for (size_t i = 0; i < expected.pixels.size(); ++i)
      most = std::max(most, std::abs(found.pixels[i] - expected.pixels[i]));
    EXPECT_LE(most, 1) << c;
  }
}

/// A progressive file of which the last scans are missing, which a fuzzer found to be smoothed by the part decoded.
std::string without_last_scans(std::string bytes) {
  size_t at = 0;
  for (int scan = 0; scan < 4; ++scan) at = bytes.find("\xff\xda", at + 1);
  return bytes.substr(0, at) + "\xff\xd9";
}

void expect_parts_as_in_the_whole(const std::string& bytes, size_t reduction) {
  const JpegReader header(bytes);
  const auto reduced = [&](size_t side) { return (side + reduction - 1) / reduction; };
  const size_t height = reduced(header.height()), width = reduced(header.width());
  const Image whole = JpegReader(bytes).decode({0, 0, height, width}, reduction);
  Draws draws(reduction);
  for (int i = 0; i < 60; ++i) {
    Region r;
    r.top = draws.below(height);
    r.left = draws.below(width);
    r.height = 1 + draws.below(height - r.top);
    r.width = 1 + draws.below(width - r.left);
    ASSERT_EQ(JpegReader(bytes).decode(r, reduction), part_of(whole, r))
        << "/" << reduction << ": " << r.top << " " << r.left << " " << r.height << " " << r.width;
  }
}

TEST(Jpeg, DecodesAPartAsInTheWhole) {
  std::vector<std::string> files = {without_last_scans(golden_bytes("progressive.jpg"))};
  for (const Json& c : golden_images()["decode"]) files.push_back(golden_bytes(c["file"]));
  for (size_t i = 0; i < files.size(); ++i)
    for (const size_t reduction : {1, 2, 4, 8}) {
      SCOPED_TRACE(i);
      expect_parts_as_in_the_whole(files[i], reduction);
    }
}

/// Each pixel of the reduced image is nearly the mean of those that it stands for.
TEST(Jpeg, ReducesByMeans) {
  const std::string bytes = golden_bytes("full-chroma.jpg");
  const Image whole = decode_jpeg(bytes);
  for (const size_t reduction : {2, 4}) {
    const size_t height = whole.height / reduction, width = whole.width / reduction;
    const Image reduced = JpegReader(bytes).decode({0, 0, height, width}, reduction);
    double off = 0;
    for (size_t y = 0; y < height; ++y)
      for (size_t x = 0; x < width; ++x)
        for (size_t c = 0; c < 3; ++c) {
          double sum = 0;
          for (size_t k = 0; k < reduction * reduction; ++k)
            sum +=
                whole.pixels[((y * reduction + k / reduction) * whole.width + x * reduction + k % reduction) * 3 + c];
          off += std::abs(sum / static_cast<double>(reduction * reduction) - reduced.pixels[(y * width + x) * 3 + c]);
        }
    EXPECT_LT(off / static_cast<double>(reduced.pixels.size()), 3) << reduction;
  }
}

/// A gray image whose first `count` coefficients behind the mean have a scan each.
std::string in_scans(int count) {
  jpeg_compress_struct jpeg = {};
  jpeg_error_mgr errors;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = jpeg.image_height = 8;
  jpeg.input_components = 1;
  jpeg.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&jpeg);
  // Each coefficient without its last bit, then that.
  std::vector<jpeg_scan_info> scans = {{1, {0}, 0, 0, 0, 0}};
  for (const int last : {1, 0})
    for (int i = 1; i <= count; ++i) scans.push_back({1, {0}, i, i, last == 1 ? 0 : 1, last});
  jpeg.scan_info = scans.data();
  jpeg.num_scans = static_cast<int>(scans.size());
  jpeg_start_compress(&jpeg, TRUE);
  uint8_t pixels[8] = {10, 200, 30, 160, 50, 120, 70, 90};
  JSAMPROW row = pixels;
  for (int y = 0; y < 8; ++y) jpeg_write_scanlines(&jpeg, &row, 1);
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  std::string text(reinterpret_cast<const char*>(bytes), size);
  std::free(bytes);
  return text;
}

TEST(Jpeg, ReadsManyScans) {
  const Image all = decode_jpeg(in_scans(49));  // its rows are alike, so that all that matters is among the first 30
  EXPECT_TRUE(decode_jpeg(in_scans(30)) == all);
  EXPECT_FALSE(decode_jpeg(in_scans(10)) == all);
}

TEST(Jpeg, RefusesWhatIsDamaged) {
  const std::string good = golden_bytes("plain.jpg"), progressive = golden_bytes("progressive.jpg");
  const auto with = [](std::string bytes, size_t at, const std::string& others) {
    return bytes.replace(at, others.size(), others);
  };
  const size_t size_at = good.find("\xff\xc0") + 5, progressive_at = progressive.find("\xff\xc2") + 5;
  const struct {
    const char* name;
    std::string bytes, says;
  } cases[] = {
      {"empty", "", "Empty input"},
      {"text", "no picture at all", "Not a JPEG"},
      {"PNG", "\x89PNG\r\n\x1a\n0123456789", "Not a JPEG"},
      {"begun", good.substr(0, 2), "Premature end"},
      {"header", good.substr(0, 200), "Premature end"},
      {"truncated", good.substr(0, good.size() - 300), "Premature end"},
      {"without end", good.substr(0, good.size() - 2), "Premature end"},
      {"truncated, progressive", progressive.substr(0, progressive.size() - 300), "Premature end"},
      {"zeros in the data", with(good, good.size() - 300, std::string(200, '\0')), "damaged"},
      {"a marker in the data", with(good, good.size() - 300, "\xff\xd9"), "premature end"},
      {"no rows", with(good, size_at, std::string(2, '\0')), "damaged"},
      {"65500 x 65500", with(good, size_at, "\xff\xdc\xff\xdc"), "too large"},
      {"13312 x 13312, progressive", with(progressive, progressive_at, "\x34\x00\x34\x00"s), "too large"},
      {"127 scans", in_scans(63), "more than 100 scans"},
      {"12 bits", with(good, size_at - 1, "\x0c"), "precision"},
  };
  for (const auto& c : cases) {
    try {
      decode_jpeg(c.bytes);
      ADD_FAILURE() << c.name << " was read";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.says)) << c.name;
    }
  }
}

TEST(Jpeg, PassesOverWhatIsHarmless) {
  std::string bytes = golden_bytes("plain.jpg");
  const Image expected = decode_jpeg(bytes);
  EXPECT_EQ(decode_jpeg(bytes + "more"), expected);
  bytes.insert(bytes.find("\xff\xc0"), "??");  // between two segments
  EXPECT_EQ(decode_jpeg(bytes), expected);
}

TEST(Jpeg, RefusesPartsBeyondTheImage) {
  const std::string bytes = golden_bytes("plain.jpg");  // 45 rows of 61
  for (const Region r : {Region{0, 0, 0, 5}, Region{0, 0, 5, 0}, Region{40, 0, 6, 5}, Region{0, 60, 5, 2}})
    EXPECT_THROW(JpegReader(bytes).decode(r), Error);
  EXPECT_THROW(JpegReader(bytes).decode({0, 0, 24, 5}, 2), Error);
}

TEST(Jpeg, WritesWhatItReads) {
  Image image{33, 50, {}};
  for (size_t y = 0; y < image.height; ++y)
    for (size_t x = 0; x < image.width; ++x)
      for (const size_t value : {4 * x, 6 * y, 100 + x}) image.pixels.push_back(static_cast<uint8_t>(value));
  const Image read = decode_jpeg(encode_jpeg(image, 95));
  ASSERT_EQ(read.pixels.size(), image.pixels.size());
  for (size_t i = 0; i < image.pixels.size(); ++i) ASSERT_NEAR(read.pixels[i], image.pixels[i], 8) << i;
  EXPECT_THROW(encode_jpeg({2, 2, std::vector<uint8_t>(11)}), Error);
  EXPECT_THROW(encode_jpeg({0, 2, {}}), Error);
}

}  // namespace
}  // namespace haqa
