#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "haqa/train/torch.h"
#include "haqa/vision/image_batches.h"

namespace haqa {

inline double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// Batches that a test made; in another order in each epoch, as what is learned must depend on the epoch alone.
class BatchList : public ImageSource {
 public:
  BatchList(std::vector<ImageBatch> batches, int64_t classes) : batches_(std::move(batches)), classes_(classes) {}

  int64_t size() const override {
    int64_t images = 0;
    for (const ImageBatch& batch : batches_) images += batch.labels.numel();
    return images;
  }
  int64_t classes() const override { return classes_; }
  void start_epoch(uint64_t epoch, size_t first_batch) override {
    epoch_ = epoch;
    next_ = first_batch;
  }
  std::optional<ImageBatch> next() override {
    if (next_ >= batches_.size()) return std::nullopt;
    return batches_[(next_++ + epoch_) % batches_.size()];
  }
  size_t position() const override { return next_; }

 private:
  std::vector<ImageBatch> batches_;
  int64_t classes_;
  size_t next_ = 0, epoch_ = 0;
};

/// Images of 8 x 8 whose brightest part, a row of bands, tells the class, under noise.
inline BatchList striped_images(int64_t batches, int64_t batch, int64_t classes, uint64_t seed) {
  at::manual_seed(seed);
  std::vector<ImageBatch> all;
  for (int64_t i = 0; i < batches; ++i) {
    const torch::Tensor labels = at::randint(0, classes, {batch}, at::kLong);
    torch::Tensor images = at::randn({batch, 3, 8, 8}).mul_(0.3);
    for (int64_t j = 0; j < batch; ++j) images[j].narrow(1, labels[j].item<int64_t>(), 1).add_(1.5);
    all.push_back({images.contiguous(at::MemoryFormat::ChannelsLast), labels});
  }
  return {std::move(all), classes};
}

}  // namespace haqa
