#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "haqa/images/augmentation.h"
#include "haqa/images/image_folder.h"
#include "haqa/images/image_set.h"

namespace haqa {

/// Images as a network is given them.
struct Batch {
  size_t height = 0, width = 0;
  std::vector<float> pixels;  ///< labels.size() x height x width x 3, channels last
  std::vector<int64_t> labels;
  std::vector<size_t> indices;  ///< of each image in its set
  bool operator==(const Batch&) const = default;
};

struct LoaderOptions {
  size_t batch = 128;
  bool shuffle = true;    ///< training: another order in each epoch; else the order of the indices
  bool drop_last = true;  ///< training: leave out the images that do not fill a batch; validation keeps them
  std::optional<Augmentation> augmentation;  ///< training; none for validation
  Normalization normalization;
  FileView view;  ///< of files; images in memory keep their size
  uint64_t seed = 1;
  int threads = 0;   ///< that prepare batches; 0: one for each core but one, at least one
  size_t ahead = 3;  ///< batches in preparation or ready, at most

  /// Shuffled, augmented, full batches.
  static LoaderOptions for_training(size_t batch, Normalization normalization, Augmentation augmentation = {});
  /// In order, as they are, all of them.
  static LoaderOptions for_validation(size_t batch, Normalization normalization);
};

/// Prepares the batches of an epoch in threads of its own while the caller works on those before. The order of the
/// images and the augmentation of each depend on the seed, the epoch and the image's index alone, whatever the number
/// of threads. All threads work on the images of the same batch, so that memory grows with `ahead` and not with them;
/// a caller who has to wait works too. One thread at a time may call its functions.
class ImageLoader {
 public:
  /// Loads the images of those indices; the set has to outlive the loader.
  /// Throws UsageError: no index or one beyond the set, a training set smaller than a batch whose last is dropped,
  /// sizes, shares and deviations that are none.
  ImageLoader(const ImageSet& images, std::vector<size_t> indices, const LoaderOptions& options);
  ~ImageLoader();
  ImageLoader(const ImageLoader&) = delete;
  ImageLoader& operator=(const ImageLoader&) = delete;

  /// Of each epoch.
  size_t batches() const;

  /// Begins an epoch, whichever batch the former one was at; `first_batch` are passed over, as where training goes on.
  void start_epoch(uint64_t epoch, size_t first_batch = 0);

  /// The next batch of the epoch; nothing at its end, or where none was started. Damaged and unreadable files are left
  /// out, so that a batch may have fewer images; one without any is passed over. Throws what went wrong otherwise, and
  /// Error where an epoch ends without one good image.
  std::optional<Batch> next();

  /// Batches of the epoch that are behind: given, or passed over. Where start_epoch() would go on.
  size_t position() const;

  /// Gives back a batch that is no longer needed: the memory is used again, which saves the system's work of clearing
  /// new pages.
  void recycle(Batch&& batch);

  /// The files left out so far, each once, in the order of the set.
  std::vector<DamagedImage> skipped() const;

 private:
  class Worker;
  std::unique_ptr<Worker> worker_;
};

}  // namespace haqa
