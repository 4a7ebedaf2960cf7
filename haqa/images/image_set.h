#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace haqa {

/// Bytes of an image, three a pixel (red, green, blue), row by row: channels last.
struct Image {
  size_t height = 0, width = 0;
  std::vector<uint8_t> pixels;
  bool operator==(const Image&) const = default;
};

/// Images with their labels: either all of one size with their bytes in memory, or JPEG files of any size.
struct ImageSet {
  std::vector<int64_t> labels;               ///< from 0 to below the number of classes
  size_t height = 0, width = 0;              ///< of those in memory
  std::vector<uint8_t> pixels;               ///< of those in memory: labels.size() x height x width x 3
  std::vector<std::filesystem::path> files;  ///< of those on disk, as many as labels; else empty

  size_t size() const { return labels.size(); }
  bool in_memory() const { return files.empty(); }
  /// Of one in memory.
  std::span<const uint8_t> pixels_of(size_t i) const {
    const size_t bytes = height * width * 3;
    return std::span(pixels).subspan(i * bytes, bytes);
  }
};

/// What a folder of images holds. A part for validation, on which one tunes, is to be split off `training`
/// (dataset/split.h); `test` is what is reported on.
struct ImageData {
  std::vector<std::string> classes;  ///< their names, by label
  ImageSet training, test;
};

/// Reads any folder of images: CIFAR's binary files where there are such, else classes of JPEGs in train/ and val/.
/// Throws what read_cifar() and list_image_folder() throw, UsageError where it is neither.
ImageData read_images(const std::filesystem::path& folder);

}  // namespace haqa
