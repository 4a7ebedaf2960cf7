#include "haqa/images/trained_images.h"

#include <fmt/format.h>

#include <cmath>

#include "haqa/base/error.h"
#include "haqa/base/file_name.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

template <typename T>
std::string_view bytes_of(const std::vector<T>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T)};
}

void check(const TrainedImages& images) {
  for (size_t i = 0; i < 3; ++i)
    if (!std::isfinite(images.normalization.mean[i]) || !std::isfinite(images.normalization.deviation[i]) ||
        !(images.normalization.deviation[i] > 0))
      throw Error("mean {} and deviation {} are none of a channel", images.normalization.mean[i],
                  images.normalization.deviation[i]);
}

}  // namespace

Json to_json(const TrainedImages& images) {
  return {{"classes", images.classes},
          {"mean", images.normalization.mean},
          {"deviation", images.normalization.deviation},
          {"validation_share", images.validation_share},
          {"fingerprint", images.fingerprint}};
}

TrainedImages trained_images_from(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    const TrainedImages images = {.classes = json.at("classes"),
                                  .normalization = {json.at("mean"), json.at("deviation")},
                                  .validation_share = json.at("validation_share"),
                                  .fingerprint = json.at("fingerprint")};
    check(images);
    return images;
  } catch (const std::exception& error) {
    throw Error("its note {} is damaged: {}", kImagesNote, one_line(error.what(), 200));
  }
}

std::optional<TrainedImages> trained_images_in(const std::map<std::string, std::string>& notes, const fs::path& file) {
  const auto note = notes.find(kImagesNote);
  if (note == notes.end()) return std::nullopt;
  try {
    return trained_images_from(note->second);
  } catch (const Error& error) {
    throw Error("{}: {}", file.string(), error.what());
  }
}

std::string fingerprint(const ImageSet& images) {
  uint64_t hash = mixed_seed(fnv1a_64(bytes_of(images.labels)), fnv1a_64(bytes_of(images.pixels)));
  for (const fs::path& file : images.files) {
    std::error_code ignored;  // of one that is gone the name alone counts; loading it tells more
    const fs::path name = file.parent_path().filename() / file.filename();
    hash = mixed_seed(mixed_seed(hash, fnv1a_64(name.string())), fs::file_size(file, ignored));
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace haqa
