#include "haqa/images/make_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/parallel.h"
#include "haqa/images/augmentation.h"
#include "haqa/images/cifar.h"
#include "haqa/images/jpeg.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBatchFiles = 5;
constexpr uint64_t kTrainingPart = 0, kTestPart = 1;

using Color = std::array<double, 3>;

/// Whether a point is within the shape, whose middle is 0 and which reaches from -1 to 1.
struct Shape {
  const char* name;
  bool (*holds)(double x, double y);
};
constexpr Shape kShapes[] = {
    {"circle", [](double x, double y) { return x * x + y * y < 1; }},
    {"square", [](double x, double y) { return std::abs(x) < 0.85 && std::abs(y) < 0.85; }},
    {"triangle", [](double x, double y) { return y < 0.8 && y > 2 * std::abs(x) - 1; }},
    {"cross",
     [](double x, double y) {
       return std::min(std::abs(x), std::abs(y)) < 0.3 && std::max(std::abs(x), std::abs(y)) < 1;
     }},
    {"ring", [](double x, double y) { return x * x + y * y < 1 && x * x + y * y > 0.35; }},
    {"diamond", [](double x, double y) { return std::abs(x) + std::abs(y) < 1.1; }},
    {"rows",
     [](double x, double y) { return std::abs(x) < 0.9 && std::abs(y) < 0.9 && std::abs(std::abs(y) - 0.45) > 0.2; }},
    {"columns",
     [](double x, double y) { return std::abs(x) < 0.9 && std::abs(y) < 0.9 && std::abs(std::abs(x) - 0.45) > 0.2; }},
    {"checkers", [](double x, double y) { return std::abs(x) < 0.9 && std::abs(y) < 0.9 && (x < 0) == (y < 0); }},
    {"dots", [](double x, double y) { return (std::abs(x) - 0.6) * (std::abs(x) - 0.6) + y * y < 0.15; }},
};
/// Ranges of hue, in turns.
struct Palette {
  const char* name;
  double from, to;
};
constexpr Palette kPalettes[] = {{"warm", -0.06, 0.14}, {"cool", 0.46, 0.72}};
constexpr size_t kClassesAtMost = std::size(kShapes) * std::size(kPalettes);

size_t shape_of(size_t label) {
  return label / std::size(kPalettes);
}
size_t palette_of(size_t label) {
  return label % std::size(kPalettes);
}

/// Hue in turns; all from 0 to 1. Source: Smith 1978.
Color color_of(double hue, double saturation, double value) {
  Color color;
  for (size_t c = 0; c < 3; ++c) {
    const double k = std::fmod(5 - 2 * static_cast<double>(c) + 6 * (hue + 1), 6.0);
    color[c] = value * (1 - saturation * std::clamp(std::min(k, 4 - k), 0.0, 1.0));
  }
  return color;
}

/// Where a shape lies in an image.
struct Place {
  double x, y, radius, cosine, sine;
  Place(size_t height, size_t width, Draws& draws) {
    const auto shorter = static_cast<double>(std::min(height, width));
    radius = shorter * draws.uniform(0.22, 0.40);
    x = draws.uniform(radius, static_cast<double>(width) - radius);
    y = draws.uniform(radius, static_cast<double>(height) - radius);
    const double turn = draws.uniform(-0.06, 0.06) * 2 * std::numbers::pi;
    cosine = std::cos(turn);
    sine = std::sin(turn);
  }
  bool holds(const Shape& shape, double px, double py) const {
    const double dx = (px - x) / radius, dy = (py - y) / radius;
    return shape.holds(dx * cosine + dy * sine, dy * cosine - dx * sine);
  }
};

/// The share of a pixel that the shape covers, of four points.
double covered(const Place& place, const Shape& shape, size_t x, size_t y) {
  int held = 0;
  for (const double dy : {0.25, 0.75})
    for (const double dx : {0.25, 0.75})
      held += place.holds(shape, static_cast<double>(x) + dx, static_cast<double>(y) + dy);
  return held / 4.0;
}

/// Nearly normal, of deviation 1: the sum of four even parts of 64 random bits.
double bell(Draws& draws) {
  uint64_t bits = draws.bits();
  double sum = 0;
  for (int i = 0; i < 4; ++i, bits >>= 16) sum += static_cast<double>(bits & 0xffff) / 65535 - 0.5;
  return sum * std::numbers::sqrt3;
}

Image draw(size_t height, size_t width, size_t label, double noise, Draws& draws) {
  Image image{height, width, std::vector<uint8_t>(height * width * 3)};
  const Shape& shape = kShapes[shape_of(label)];
  const Palette& palette = kPalettes[palette_of(label)];
  const Color front = color_of(draws.uniform(palette.from, palette.to), draws.uniform(0.4, 0.9), draws.uniform(0.5, 1));
  const Color back = color_of(draws.uniform(), draws.uniform(0, 0.5), draws.uniform(0, 0.7));
  const Place place(height, width, draws);
  uint8_t* out = image.pixels.data();
  for (size_t y = 0; y < height; ++y)
    for (size_t x = 0; x < width; ++x) {
      const double share = covered(place, shape, x, y);
      for (size_t c = 0; c < 3; ++c) {
        const double value = share * front[c] + (1 - share) * back[c] + noise * bell(draws);
        *out++ = static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0, 1.0)));
      }
    }
  return image;
}

/// One part, training or test: its labels, and each image by itself.
class Part {
 public:
  Part(const MadeImages& options, uint64_t part, size_t images) : o_(options), seed_(mixed_seed(options.seed, part)) {
    for (const size_t i : shuffled_indices(images, seed_, 0)) labels_.push_back(static_cast<int64_t>(i % o_.classes));
  }
  const std::vector<int64_t>& labels() const { return labels_; }
  Image cifar_image(size_t i) const {
    Draws draws = draws_of(i);
    return draw(kCifarSide, kCifarSide, static_cast<size_t>(labels_[i]), o_.noise, draws);
  }
  Image large_image(size_t i) const {
    Draws draws = draws_of(i);
    const size_t height = o_.side + draws.below(o_.side / 2 + 1), width = o_.side + draws.below(o_.side / 2 + 1);
    return draw(height, width, static_cast<size_t>(labels_[i]), o_.noise, draws);
  }

 private:
  Draws draws_of(size_t i) const { return Draws(mixed_seed(seed_, i + 1)); }

  const MadeImages& o_;
  uint64_t seed_;
  std::vector<int64_t> labels_;
};

void write_names(const fs::path& file, const std::vector<std::string>& names) {
  write_file(file, fmt::format("{}\n", fmt::join(names, "\n")));
}

/// Images `begin` to before `end` as a file of records.
void write_records(const Part& part, size_t begin, size_t end, bool coarse, const fs::path& file) {
  ImageSet images;
  images.height = images.width = kCifarSide;
  std::vector<int64_t> kinds;
  for (size_t i = begin; i < end; ++i) {
    const Image image = part.cifar_image(i);
    images.labels.push_back(part.labels()[i]);
    images.pixels.insert(images.pixels.end(), image.pixels.begin(), image.pixels.end());
    if (coarse) kinds.push_back(static_cast<int64_t>(shape_of(static_cast<size_t>(part.labels()[i]))));
  }
  write_cifar_records(images, file, kinds);
}

void write_cifar_10(const fs::path& folder, const Part& training, const Part& test, const MadeImages& o,
                    const std::function<void(double)>& progress) {
  const size_t files = std::min(kBatchFiles, o.training);
  const auto write = [&](size_t i) {
    if (i == files) return write_records(test, 0, o.test, false, folder / "test_batch.bin");
    write_records(training, i * o.training / files, (i + 1) * o.training / files, false,
                  folder / fmt::format("data_batch_{}.bin", i + 1));
  };
  parallel_for(files + 1, write, progress);
  write_names(folder / "batches.meta.txt", made_classes(o.classes));
}

void write_cifar_100(const fs::path& folder, const Part& training, const Part& test, const MadeImages& o,
                     const std::function<void(double)>& progress) {
  const auto write = [&](size_t i) {
    if (i == 0) write_records(training, 0, o.training, true, folder / "train.bin");
    if (i == 1) write_records(test, 0, o.test, true, folder / "test.bin");
  };
  parallel_for(2, write, progress);
  write_names(folder / "fine_label_names.txt", made_classes(o.classes));
  std::vector<std::string> shapes;
  for (size_t i = 0; i <= shape_of(o.classes - 1); ++i) shapes.push_back(kShapes[i].name);
  write_names(folder / "coarse_label_names.txt", shapes);
}

void write_jpegs(const fs::path& folder, const Part& training, const Part& test, const MadeImages& o,
                 const std::function<void(double)>& progress) {
  const std::vector<std::string> classes = made_classes(o.classes);
  for (const char* part : {"train", "val"})
    for (const std::string& name : classes) make_folder(folder / part / name);
  const auto write = [&](size_t i) {
    const bool trained = i < o.training;
    const Part& part = trained ? training : test;
    const size_t place = trained ? i : i - o.training;
    const std::string& name = classes[static_cast<size_t>(part.labels()[place])];
    write_file(folder / (trained ? "train" : "val") / name / fmt::format("{:06}.jpg", place),
               encode_jpeg(part.large_image(place)));
  };
  parallel_for(o.training + o.test, write, progress);
}

void require_in_range(const MadeImages& o) {
  if (o.classes < 2 || o.classes > kClassesAtMost)
    throw UsageError("{} classes cannot be made; ask for 2 to {}", o.classes, kClassesAtMost);
  if (o.training < o.classes || o.test == 0)
    throw UsageError("{} images for training and {} for test are too few; each class needs one to train on", o.training,
                     o.test);
  if (!(o.noise >= 0 && o.noise <= 1)) throw UsageError("{} is no noise; give one from 0 to 1", o.noise);
  if (o.side < 8 || o.side > 4096) throw UsageError("{} is no side of an image; give one from 8 to 4096", o.side);
}

/// A folder that appears under its name when all is in it; what is left of an interrupted one is made anew.
fs::path unfinished(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder) && !fs::is_empty(folder, ignored))
    throw UsageError("{}: is there already; remove it or name another folder", folder.string());
  fs::path pending = folder;
  if (!pending.has_filename()) pending = pending.parent_path();
  pending += ".unfinished";
  fs::remove_all(pending, ignored);
  make_folder(pending);
  return pending;
}

void finish(const fs::path& pending, const fs::path& folder) {
  std::error_code fault;
  fs::remove(folder, fault);  // an empty one
  fs::rename(pending, folder.has_filename() ? folder : folder.parent_path(), fault);
  if (fault)
    throw Error("{}: cannot be made: {}; the images are in {}", folder.string(), fault.message(), pending.string());
}

}  // namespace

ImageForm image_form_from(std::string_view name) {
  if (name == "cifar10") return ImageForm::cifar10;
  if (name == "cifar100") return ImageForm::cifar100;
  if (name == "folder") return ImageForm::folder;
  throw UsageError("{} is no form of images; write cifar10, cifar100 or folder", name);
}

std::vector<std::string> made_classes(size_t classes) {
  std::vector<std::string> names;
  for (size_t i = 0; i < classes; ++i)
    names.push_back(fmt::format("{}-{}", kPalettes[palette_of(i)].name, kShapes[shape_of(i)].name));
  return names;
}

void make_images(const fs::path& folder, ImageForm form, const MadeImages& options,
                 const std::function<void(double)>& progress) {
  require_in_range(options);
  const fs::path pending = unfinished(folder);
  const Part training(options, kTrainingPart, options.training), test(options, kTestPart, options.test);
  if (form == ImageForm::cifar10) write_cifar_10(pending, training, test, options, progress);
  if (form == ImageForm::cifar100) write_cifar_100(pending, training, test, options, progress);
  if (form == ImageForm::folder) write_jpegs(pending, training, test, options, progress);
  finish(pending, folder);
}

}  // namespace haqa
