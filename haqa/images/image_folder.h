#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "haqa/images/image_set.h"

namespace haqa {

/// Whether the folder has a folder train/.
bool is_image_folder(const std::filesystem::path& folder);

/// Lists train/CLASS/*.jpg and val/CLASS/*.jpg (.jpeg and capitals too), as ImageNet is kept. Labels are the places of
/// the classes of train/ in the order of their names' bytes; images stand in the order of classes and names. Other
/// files, and what begins with a dot, are passed over. No image is opened.
/// Throws UsageError: a folder is missing, a class of train/ or all of val/ has no image, a class of val/ that train/
/// has not.
ImageData list_image_folder(const std::filesystem::path& folder);

/// An image that cannot be used.
struct DamagedImage {
  std::filesystem::path file;
  std::string reason;
};

}  // namespace haqa
