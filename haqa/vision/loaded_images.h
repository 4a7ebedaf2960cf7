#pragma once
#include <vector>

#include "haqa/images/image_loader.h"
#include "haqa/vision/image_batches.h"

namespace haqa {

/// Images of a set as the loader prepares them.
class LoadedImages : public ImageSource {
 public:
  /// Those of the indices; the set must outlive it. Throws what ImageLoader throws.
  LoadedImages(const ImageSet& images, std::vector<size_t> indices, int64_t classes, const LoaderOptions& options)
      : size_(std::ssize(indices)), classes_(classes), loader_(images, std::move(indices), options) {}

  int64_t size() const override { return size_; }
  int64_t classes() const override { return classes_; }
  void start_epoch(uint64_t epoch, size_t first_batch) override { loader_.start_epoch(epoch, first_batch); }
  std::optional<ImageBatch> next() override;
  size_t position() const override { return loader_.position(); }
  std::vector<DamagedImage> skipped() const override;
  void remember_skipped(std::vector<DamagedImage> images) override { earlier_ = std::move(images); }

 private:
  const int64_t size_, classes_;
  ImageLoader loader_;
  Batch batch_;  ///< the memory of the tensors that were given last
  std::vector<DamagedImage> earlier_;
};

}  // namespace haqa
