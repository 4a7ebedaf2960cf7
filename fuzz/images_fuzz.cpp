// Any bytes are a JPEG or an Error; of one that is read, a part is what stands there in the whole, and a network can be
// given it. Any records of CIFAR's are images whose labels have names, or a UsageError.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/augmentation.h"
#include "haqa/images/cifar.h"
#include "haqa/images/jpeg.h"

namespace {

constexpr size_t kPixelsAtMost = 1 << 18;  // a header may claim many, which only take time
constexpr size_t kSize = 16;

void require(bool truth) {
  if (!truth) std::abort();
}

/// Somewhere within, as the bytes have it.
haqa::Region some_region(size_t height, size_t width, std::string_view bytes) {
  haqa::Draws draws(bytes.size());
  haqa::Region r;
  r.top = draws.below(height);
  r.left = draws.below(width);
  r.height = 1 + draws.below(height - r.top);
  r.width = 1 + draws.below(width - r.left);
  return r;
}

bool stands_in(const haqa::Image& part, const haqa::Region& r, const haqa::Image& whole) {
  for (size_t y = 0; y < r.height; ++y)
    if (!std::equal(part.pixels.begin() + static_cast<std::ptrdiff_t>(3 * y * r.width),
                    part.pixels.begin() + static_cast<std::ptrdiff_t>(3 * (y + 1) * r.width),
                    whole.pixels.begin() + static_cast<std::ptrdiff_t>(3 * ((r.top + y) * whole.width + r.left))))
      return false;
  return true;
}

void check_view(std::string_view bytes, const haqa::Augmentation* augmentation) {
  std::vector<float> out(kSize * kSize * 3);
  haqa::prepare_jpeg(bytes, {kSize, kSize + 2}, {}, augmentation, haqa::Draws(bytes.size()), out);
  for (const float value : out) require(value > -0.001f && value < 1.001f);
}

void check_jpeg(std::string_view bytes) {
  const haqa::JpegReader header(bytes);
  const size_t height = header.height(), width = header.width();
  if (height * width > kPixelsAtMost) return;
  const haqa::Augmentation augmentation;
  check_view(bytes, &augmentation);
  check_view(bytes, nullptr);
  for (const size_t reduction : {1, 2, 8}) {
    const size_t rows = (height + reduction - 1) / reduction, columns = (width + reduction - 1) / reduction;
    const haqa::Image whole = haqa::JpegReader(bytes).decode({0, 0, rows, columns}, reduction);
    const haqa::Region r = some_region(rows, columns, bytes);
    require(stands_in(haqa::JpegReader(bytes).decode(r, reduction), r, whole));
  }
}

/// The bytes as records, and behind the first two, repeated, as whole ones.
void check_cifar(std::string_view bytes) {
  static const haqa::TemporaryFolder folder;
  std::ofstream(folder / "data_batch_1.bin", std::ios::binary) << bytes;
  std::string record(bytes.substr(0, 2));
  record.resize(3073, 'x');
  std::ofstream(folder / "test_batch.bin", std::ios::binary) << record << record;
  std::ofstream(folder / "batches.meta.txt", std::ios::binary) << bytes.substr(0, 40);
  const haqa::ImageData data = haqa::read_cifar(folder.path());
  for (const haqa::ImageSet* set : {&data.training, &data.test}) {
    require(set->size() > 0 && set->pixels.size() == set->size() * 3072);
    for (const int64_t label : set->labels) require(label >= 0 && label < static_cast<int64_t>(data.classes.size()));
  }
}

}  // namespace

/// Leaves an image and a record in the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path corpus = (*argv)[i];
    if (!std::filesystem::is_directory(corpus)) continue;
    haqa::Image image{21, 37, std::vector<uint8_t>(21 * 37 * 3, 90)};
    for (size_t p = 0; p < image.pixels.size(); p += 5) image.pixels[p] = static_cast<uint8_t>(p);
    std::ofstream(corpus / "seed-jpeg", std::ios::binary) << haqa::encode_jpeg(image);
    std::ofstream(corpus / "seed-cifar", std::ios::binary) << std::string(1, '\0') + "\na\nb" + std::string(3068, 'x');
    for (const char* name : {"progressive", "restarts", "gray", "cmyk", "rgb", "half-chroma"}) {
      const std::filesystem::path golden = HAQA_SOURCE_DATA "/../tests/golden/images";
      std::error_code ignored;
      std::filesystem::copy_file(golden / (std::string(name) + ".jpg"), corpus / (std::string("seed-") + name),
                                 ignored);
    }
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    check_jpeg(bytes);
  } catch (const haqa::Error&) {
  }
  try {
    check_cifar(bytes);
  } catch (const haqa::UsageError&) {
  }
  return 0;
}
