#include "haqa/vision/loaded_images.h"

#include <algorithm>

namespace haqa {

std::optional<ImageBatch> LoadedImages::next() {
  loader_.recycle(std::move(batch_));
  std::optional<Batch> batch = loader_.next();
  if (!batch) {
    batch_ = {};
    return std::nullopt;
  }
  batch_ = std::move(*batch);
  const auto n = std::ssize(batch_.labels), height = static_cast<int64_t>(batch_.height),
             width = static_cast<int64_t>(batch_.width);
  const torch::Tensor pixels = at::from_blob(batch_.pixels.data(), {n, height, width, 3}, at::kFloat);
  return ImageBatch{pixels.permute({0, 3, 1, 2}), at::from_blob(batch_.labels.data(), {n}, at::kLong)};
}

std::vector<DamagedImage> LoadedImages::skipped() const {
  std::vector<DamagedImage> all = loader_.skipped();
  for (const DamagedImage& image : earlier_)
    if (std::none_of(all.begin(), all.end(), [&](const DamagedImage& other) { return other.file == image.file; }))
      all.push_back(image);
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.file < b.file; });
  return all;
}

}  // namespace haqa
