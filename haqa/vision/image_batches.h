#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "haqa/images/image_folder.h"
#include "haqa/train/torch.h"

namespace haqa {

/// Images and what they show.
struct ImageBatch {
  torch::Tensor images;  ///< [n, 3, height, width] float32, normalized, channels last in memory
  torch::Tensor labels;  ///< [n] int64, from 0 to below the number of classes
};

/// Where batches of images come from, epoch by epoch. What an epoch gives, its order and its augmentation included,
/// depends on the source's seed and the number of the epoch alone.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  /// Images of an epoch.
  virtual int64_t size() const = 0;
  virtual int64_t classes() const = 0;
  /// Begins an epoch, counted from 0, whatever was left of the one before; its first batches may be passed over, as
  /// where a training goes on.
  virtual void start_epoch(uint64_t epoch, size_t first_batch) = 0;
  /// The next batch of the epoch; nothing at its end. Its memory may be used again by the one after it.
  virtual std::optional<ImageBatch> next() = 0;
  /// The batches of the epoch that are behind: those given, and those before them without a good image.
  virtual size_t position() const = 0;
  /// Damaged images that were left out so far, each once.
  virtual std::vector<DamagedImage> skipped() const { return {}; }
  /// Those that were left out before a training was interrupted count too.
  virtual void remember_skipped(std::vector<DamagedImage>) {}
};

}  // namespace haqa
