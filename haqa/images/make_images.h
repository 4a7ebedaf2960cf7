#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/images/image_set.h"

namespace haqa {

/// How generated images are kept.
enum class ImageForm {
  cifar10,   ///< five files of training and one of test records
  cifar100,  ///< the same with a coarse label too, the shape
  folder,    ///< JPEGs in train/CLASS and val/CLASS
};
/// Throws UsageError where the name is none of cifar10, cifar100 and folder.
ImageForm image_form_from(std::string_view name);

struct MadeImages {
  size_t training = 1000, test = 200;  ///< images
  size_t classes = 10;                 ///< from 2 to 20
  uint64_t seed = 1;
  double noise = 0.15;  ///< standard deviation of each value, of 1; what is hard about them grows with it
  size_t side = 96;     ///< the shortest of a JPEG; the longest is half as much again
};

/// The names of the classes: a shape in warm or in cool colours, so that a network has to see both.
std::vector<std::string> made_classes(size_t classes);

/// Makes images whose classes can be learnt: shapes with random place, size, turn, colours and noise, as many of each
/// class. The images depend on the options alone, and are there whole or not at all. `progress` hears the share done.
/// Throws UsageError where options are out of range or the folder is not empty, Error where it cannot be written.
void make_images(const std::filesystem::path& folder, ImageForm form, const MadeImages& options,
                 const std::function<void(double)>& progress = {});

}  // namespace haqa
