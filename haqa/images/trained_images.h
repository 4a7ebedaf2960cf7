#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/images/augmentation.h"

namespace haqa {

/// What a file of weights says of the images that its network learned from, beside the tensors, under kImagesNote:
/// without the normalization nothing else could use the network.
struct TrainedImages {
  std::vector<std::string> classes;  ///< by label
  Normalization normalization;
  double validation_share = 0;  ///< of the images to train on, kept from training
  std::string fingerprint;      ///< of all the images to train on
};
inline constexpr const char* kImagesNote = "haqa.images";

Json to_json(const TrainedImages& images);
/// The same from the note's text. Throws Error where it is damaged.
TrainedImages trained_images_from(const std::string& text);
/// The one among a file's notes, where it has one. Throws Error that names the file where it is damaged.
std::optional<TrainedImages> trained_images_in(const std::map<std::string, std::string>& notes,
                                               const std::filesystem::path& file);

/// 16 digits that tell whether a set is still the same: by labels and pixels, of files by labels, their folders' and
/// own names and sizes.
std::string fingerprint(const ImageSet& images);

}  // namespace haqa
