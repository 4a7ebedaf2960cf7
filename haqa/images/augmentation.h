#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "haqa/dataset/split.h"
#include "haqa/images/image_set.h"
#include "haqa/images/jpeg.h"

namespace haqa {

/// Random numbers that follow from a seed alone, on every platform, and cost nothing to begin.
class Draws {
 public:
  explicit Draws(uint64_t seed) : seed_(seed) {}
  uint64_t bits() { return mixed_seed(seed_, count_++); }
  /// From `low` to below `high`.
  double uniform(double low = 0, double high = 1) {
    return low + (high - low) * (static_cast<double>(bits() >> 11) * 0x1p-53);
  }
  /// From 0 to below n.
  size_t below(size_t n) { return static_cast<size_t>(uniform() * static_cast<double>(n)); }

 private:
  uint64_t seed_, count_ = 0;
};

/// How images in training differ from epoch to epoch.
struct Augmentation {
  bool flip = true;    ///< half of them mirrored; digits and letters must not be
  size_t padding = 4;  ///< of images in memory: black pixels around, of which a window of their size is cut
  double smallest_area =
      0.08;  ///< of files: the share of an image that is cut out, at least; the rest is as torchvision's
};

/// How pixels, as values from 0 to 1, become what a network is given: (value - mean) / deviation, by channel.
struct Normalization {
  std::array<float, 3> mean = {0, 0, 0}, deviation = {1, 1, 1};
};

/// Of ImageNet, as torchvision's pretrained networks expect it.
constexpr Normalization kImageNetNormalization = {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};

/// Sizes of what files are made to.
struct FileView {
  size_t size = 224;    ///< rows and columns of what the network is given
  size_t resize = 256;  ///< validation: the shorter side, of which the middle is cut out
};

/// What is cut out of a file's image in training: a share of its area from `smallest_area` to 1, an aspect from 3/4 to
/// 4/3. Source: torchvision 0.28, RandomResizedCrop.get_params.
Region random_resized_crop(size_t height, size_t width, double smallest_area, Draws& draws);

/// Writes an image in memory as a network is given it: augmented by `draws`, or as it is where there is no
/// augmentation.
void prepare_pixels(std::span<const uint8_t> pixels, size_t height, size_t width, const Normalization& normalization,
                    const Augmentation* augmentation, Draws draws, std::span<float> out);

/// Decodes a JPEG and writes it likewise. With an augmentation a random crop is brought to the size, else the middle of
/// the image. An image several times as large as needed is decoded at a half, a quarter or an eighth: in training where
/// as many pixels as wanted are left, in validation twice as many. Throws Error where it is damaged.
void prepare_jpeg(std::string_view bytes, const FileView& view, const Normalization& normalization,
                  const Augmentation* augmentation, Draws draws, std::span<float> out);

/// The mean and deviation of each channel over some images of a set: of all pixels in memory; of files, as the middle
/// that validation sees, of 1000 at most, evenly spaced; damaged ones are left out. A channel that never changes has
/// deviation 1. Threads: 0 means all cores. Throws UsageError where there are no images, Error where all are damaged.
Normalization normalization_of(const ImageSet& images, std::span<const size_t> indices, const FileView& view = {},
                               int threads = 0);

}  // namespace haqa
