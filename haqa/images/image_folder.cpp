#include "haqa/images/image_folder.h"

#include <algorithm>
#include <cctype>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/images/cifar.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

bool is_jpeg_name(const fs::path& file) {
  const std::string ending = lowercase(file.extension().string());
  return ending == ".jpg" || ending == ".jpeg";
}

/// Sorted by the bytes of the names, whatever the order on the disk.
template <typename Wanted>
std::vector<fs::path> entries(const fs::path& folder, const Wanted& wanted) {
  std::vector<fs::path> found;
  std::error_code fault;
  for (auto entry = fs::directory_iterator(folder, fault); !fault && entry != fs::directory_iterator();
       entry.increment(fault))
    if (!entry->path().filename().string().starts_with('.') && wanted(*entry)) found.push_back(entry->path());
  if (fault) throw UsageError("{}: cannot be listed: {}", folder.string(), fault.message());
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return found;
}

std::vector<fs::path> class_folders(const fs::path& folder) {
  std::error_code ignored;  // a link to nowhere is no folder
  if (!fs::is_directory(folder, ignored))
    throw UsageError("{}: there is no such folder; images are expected in train/CLASS and val/CLASS", folder.string());
  return entries(folder, [&](const fs::directory_entry& e) { return e.is_directory(ignored); });
}

std::vector<fs::path> images_in(const fs::path& folder) {
  std::error_code ignored;
  return entries(folder,
                 [&](const fs::directory_entry& e) { return is_jpeg_name(e.path()) && e.is_regular_file(ignored); });
}

void append(std::vector<fs::path> files, int64_t label, ImageSet& images) {
  images.labels.insert(images.labels.end(), files.size(), label);
  images.files.insert(images.files.end(), std::make_move_iterator(files.begin()), std::make_move_iterator(files.end()));
}

void list_training(const fs::path& folder, ImageData& data) {
  for (const fs::path& of_class : class_folders(folder)) {
    std::vector<fs::path> files = images_in(of_class);
    if (files.empty())
      throw UsageError("{}: holds no .jpg of its class; add some, or remove the folder", of_class.string());
    append(std::move(files), static_cast<int64_t>(data.classes.size()), data.training);
    data.classes.push_back(of_class.filename().string());
  }
  if (data.classes.empty()) throw UsageError("{}: holds no folder of a class", folder.string());
}

void list_validation(const fs::path& folder, ImageData& data) {
  for (const fs::path& of_class : class_folders(folder)) {
    const auto known = std::find(data.classes.begin(), data.classes.end(), of_class.filename().string());
    if (known == data.classes.end())
      throw UsageError("{}: train/ has no such class; add it there, or remove it here", of_class.string());
    append(images_in(of_class), known - data.classes.begin(), data.test);
  }
  if (data.test.size() == 0) throw UsageError("{}: holds no .jpg in a folder of a class", folder.string());
}

}  // namespace

bool is_image_folder(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder / "train", ignored);
}

ImageData list_image_folder(const fs::path& folder) {
  ImageData data;
  list_training(folder / "train", data);
  list_validation(folder / "val", data);
  return data;
}

ImageData read_images(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) throw UsageError("{}: there is no such folder", folder.string());
  if (is_cifar(folder)) return read_cifar(folder);
  if (is_image_folder(folder)) return list_image_folder(folder);
  throw UsageError(
      "{}: holds neither CIFAR's binary files (data_batch_1.bin or train.bin) nor train/ with a folder of "
      "JPEGs for each class",
      folder.string());
}

}  // namespace haqa
