// Golden images of tests/golden/images.py, sets and files for tests.
#pragma once
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/images/augmentation.h"
#include "haqa/images/image_set.h"

namespace haqa {

inline std::string golden_bytes(const std::string& name) {
  return read_file(std::string(HAQA_SOURCE_DIR "/tests/golden/images/") + name);
}

inline const Json& golden_images() {
  static const Json json = Json::parse(golden_bytes("images.json"));
  return json;
}

/// The pixels of a case.
inline Image golden_pixels(const Json& c) {
  const std::string bytes = golden_bytes(c["pixels"]);
  return {c["height"], c["width"], std::vector<uint8_t>(bytes.begin(), bytes.end())};
}

inline std::vector<size_t> all_of(const ImageSet& images) {
  std::vector<size_t> indices(images.size());
  std::iota(indices.begin(), indices.end(), size_t{0});
  return indices;
}

/// Images in memory with pixels by chance, and the labels 0, 1, 2, 0, 1, ...
inline ImageSet random_set(size_t images, size_t height, size_t width, uint64_t seed = 1) {
  ImageSet set;
  set.height = height;
  set.width = width;
  Draws draws(seed);
  for (size_t i = 0; i < images; ++i) set.labels.push_back(static_cast<int64_t>(i % 3));
  for (size_t i = 0; i < images * height * width * 3; ++i) set.pixels.push_back(static_cast<uint8_t>(draws.below(256)));
  return set;
}

/// Writes without care for what was there.
inline void put(const std::filesystem::path& file, const std::string& content) {
  make_folder(file.parent_path());
  std::ofstream(file, std::ios::binary) << content;
}

}  // namespace haqa
