#include "haqa/images/augmentation.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/parallel.h"
#include "haqa/images/resize.h"

namespace haqa {
namespace {

constexpr double kNarrowest = 3.0 / 4, kWidest = 4.0 / 3;
constexpr int kTries = 10;
constexpr size_t kFilesForStatistics = 1000;

size_t rounded(double value) {
  return static_cast<size_t>(std::llround(value));
}

/// Pixels that are brought to scale at once: their channels fill whole vector registers.
constexpr size_t kAtOnce = 16;

/// What a network is given for a byte is byte * scale + shift, by channel; each stands here once for each pixel at
/// once.
struct Scale {
  std::array<float, 3 * kAtOnce> scale, shift;
  explicit Scale(const Normalization& n) {
    for (size_t i = 0; i < scale.size(); ++i) {
      scale[i] = 1 / (255 * n.deviation[i % 3]);
      shift[i] = -n.mean[i % 3] / n.deviation[i % 3];
    }
  }
};

template <typename T>
void apply(const Scale& s, const T* from, size_t values, float* to) {
  size_t done = 0;
  for (; done + s.scale.size() <= values; done += s.scale.size())
    for (size_t i = 0; i < s.scale.size(); ++i)
      to[done + i] = static_cast<float>(from[done + i]) * s.scale[i] + s.shift[i];
  for (size_t i = 0; done + i < values; ++i)
    to[done + i] = static_cast<float>(from[done + i]) * s.scale[i] + s.shift[i];
}

/// Pixels of one row, `pixels` of them, from right to left where `mirrored`.
void write_row(const uint8_t* from, size_t pixels, bool mirrored, const Scale& s, float* to) {
  if (!mirrored) {
    apply(s, from, 3 * pixels, to);
    return;
  }
  std::array<uint8_t, 3 * kAtOnce> turned;
  for (size_t x = 0; x < pixels; x += kAtOnce) {
    const size_t some = std::min(kAtOnce, pixels - x);
    for (size_t i = 0; i < some; ++i) std::copy_n(from + 3 * (pixels - 1 - x - i), 3, turned.data() + 3 * i);
    apply(s, turned.data(), 3 * some, to + 3 * x);
  }
}

void write_black(size_t pixels, const Scale& s, float* to) {
  for (size_t i = 0; i < 3 * pixels; ++i) to[i] = s.shift[i % 3];
}

/// The window of an image's size that begins `shift` pixels behind the image's first, with black beyond the image.
struct Window {
  size_t before, inside, after, from;
  Window(std::ptrdiff_t shift, size_t size) {
    const auto all = static_cast<std::ptrdiff_t>(size);
    before = static_cast<size_t>(std::clamp<std::ptrdiff_t>(-shift, 0, all));
    after = static_cast<size_t>(std::clamp<std::ptrdiff_t>(shift, 0, all));
    inside = size - before - after;
    from = after;
  }
};

std::ptrdiff_t random_shift(size_t padding, Draws& draws) {
  return static_cast<std::ptrdiff_t>(draws.below(2 * padding + 1)) - static_cast<std::ptrdiff_t>(padding);
}

/// The middle of the image, resized: as torchvision's Resize and CenterCrop, in one step.
Box middle(size_t height, size_t width, const FileView& view) {
  const size_t shorter = std::min(height, width);
  const auto resized = [&](size_t side) { return view.resize * side / shorter; };
  const auto begin = [&](size_t side) {
    return std::nearbyint(static_cast<double>(resized(side) - view.size) / 2.0);  // ties to even, as Python
  };
  const auto factor = [&](size_t side) { return static_cast<double>(side) / static_cast<double>(resized(side)); };
  const auto size = static_cast<double>(view.size);
  return {begin(height) * factor(height), begin(width) * factor(width), size * factor(height), size * factor(width)};
}

/// The largest reduction that leaves `wanted` pixels of both sides of the box.
size_t reduction_for(const Box& box, double wanted) {
  size_t reduction = 8;
  while (reduction > 1 && std::min(box.height, box.width) < wanted * static_cast<double>(reduction)) reduction /= 2;
  return reduction;
}

/// Where along a side of `size` pixels a part begins and ends; both within it.
struct Span {
  size_t begin, end;
  Span(double from, double to, size_t size) {
    begin = std::min(static_cast<size_t>(std::max(0.0, std::floor(from))), size - 1);
    end = std::clamp(static_cast<size_t>(std::max(0.0, std::ceil(to))), begin + 1, size);
  }
};

/// The box at the new size; `margin` pixels of the new size beyond it count too.
void decode_resized(JpegReader& reader, Box box, double wanted, double margin, size_t size, bool mirrored,
                    std::span<float> out) {
  const size_t reduction = reduction_for(box, wanted);
  const auto r = static_cast<double>(reduction);
  box = {box.top / r, box.left / r, box.height / r, box.width / r};
  const double more =
      margin * std::max({1.0, box.height / static_cast<double>(size), box.width / static_cast<double>(size)});
  const Span rows(box.top - more, box.top + box.height + more, (reader.height() + reduction - 1) / reduction);
  const Span columns(box.left - more, box.left + box.width + more, (reader.width() + reduction - 1) / reduction);
  const Image part =
      reader.decode({rows.begin, columns.begin, rows.end - rows.begin, columns.end - columns.begin}, reduction);
  box.top -= static_cast<double>(rows.begin);
  box.left -= static_cast<double>(columns.begin);
  resize(part, box, size, size, mirrored, out);
}

/// How often each byte stands in each channel.
using Counts = std::array<std::array<uint64_t, 256>, 3>;

Normalization normalization_from(const Counts& counts) {
  Normalization n;
  for (size_t c = 0; c < 3; ++c) {
    double all = 0, sum = 0, squares = 0;
    for (size_t v = 0; v < 256; ++v) {
      const double times = static_cast<double>(counts[c][v]), value = static_cast<double>(v) / 255;
      all += times;
      sum += times * value;
      squares += times * value * value;
    }
    const double mean = sum / all, variance = squares / all - mean * mean;
    n.mean[c] = static_cast<float>(mean);
    n.deviation[c] = variance > 1e-12 ? static_cast<float>(std::sqrt(variance)) : 1.0f;
  }
  return n;
}

Counts counts_of_pixels(const ImageSet& images, std::span<const size_t> indices) {
  Counts counts = {};
  for (const size_t i : indices) {
    const std::span<const uint8_t> pixels = images.pixels_of(i);
    for (size_t p = 0; p < pixels.size(); p += 3)
      for (size_t c = 0; c < 3; ++c) ++counts[c][pixels[p + c]];
  }
  return counts;
}

/// What does not depend on the order in which threads finish: whole numbers, added at the end.
Counts counts_of_files(const ImageSet& images, std::span<const size_t> indices, const FileView& view, int threads) {
  const size_t files = std::min(kFilesForStatistics, indices.size());
  std::vector<Counts> each(files);
  parallel_for(
      files,
      [&](size_t k) {
        std::vector<float> values(view.size * view.size * 3);
        try {
          prepare_jpeg(read_file(images.files[indices[k * indices.size() / files]]), view, {}, nullptr, Draws(0),
                       values);
        } catch (const NoMemoryError&) {
          throw;
        } catch (const Error&) {
          return;
        }
        for (size_t p = 0; p < values.size(); ++p)
          ++each[k][p % 3][static_cast<size_t>(std::clamp(std::lround(values[p] * 255), 0l, 255l))];
      },
      {}, threads);
  Counts counts = {};
  for (const Counts& one : each)
    for (size_t c = 0; c < 3; ++c)
      for (size_t v = 0; v < 256; ++v) counts[c][v] += one[c][v];
  return counts;
}

}  // namespace

Region random_resized_crop(size_t height, size_t width, double smallest_area, Draws& draws) {
  const auto rows = static_cast<double>(height), columns = static_cast<double>(width);
  for (int i = 0; i < kTries; ++i) {
    const double area = rows * columns * draws.uniform(smallest_area, 1);
    const double aspect = std::exp(draws.uniform(std::log(kNarrowest), std::log(kWidest)));
    const size_t w = rounded(std::sqrt(area * aspect)), h = rounded(std::sqrt(area / aspect));
    if (w == 0 || h == 0 || w > width || h > height) continue;
    const size_t top = draws.below(height - h + 1), left = draws.below(width - w + 1);
    return {top, left, h, w};
  }
  // The largest part from the middle whose aspect is allowed.
  size_t h = height, w = width;
  if (columns / rows < kNarrowest) h = std::clamp<size_t>(rounded(columns / kNarrowest), 1, height);
  if (columns / rows > kWidest) w = std::clamp<size_t>(rounded(rows * kWidest), 1, width);
  return {(height - h) / 2, (width - w) / 2, h, w};
}

void prepare_pixels(std::span<const uint8_t> pixels, size_t height, size_t width, const Normalization& normalization,
                    const Augmentation* augmentation, Draws draws, std::span<float> out) {
  const size_t padding = augmentation ? augmentation->padding : 0;
  const Scale s(normalization);
  const Window rows(random_shift(padding, draws), height), columns(random_shift(padding, draws), width);
  const bool mirrored = augmentation && augmentation->flip && draws.below(2) == 1;
  const size_t left = mirrored ? columns.after : columns.before, right = mirrored ? columns.before : columns.after;
  float* to = out.data();
  for (size_t y = 0; y < height; ++y, to += 3 * width) {
    if (y < rows.before || y >= rows.before + rows.inside) {
      write_black(width, s, to);
      continue;
    }
    const uint8_t* const from = pixels.data() + ((rows.from + y - rows.before) * width + columns.from) * 3;
    write_black(left, s, to);
    write_row(from, columns.inside, mirrored, s, to + 3 * left);
    write_black(right, s, to + 3 * (left + columns.inside));
  }
}

void prepare_jpeg(std::string_view bytes, const FileView& view, const Normalization& normalization,
                  const Augmentation* augmentation, Draws draws, std::span<float> out) {
  JpegReader reader(bytes);
  const auto size = static_cast<double>(view.size);
  if (augmentation) {
    const Region r = random_resized_crop(reader.height(), reader.width(), augmentation->smallest_area, draws);
    const bool mirrored = augmentation->flip && draws.below(2) == 1;
    const Box box{static_cast<double>(r.top), static_cast<double>(r.left), static_cast<double>(r.height),
                  static_cast<double>(r.width)};
    decode_resized(reader, box, size, 0, view.size, mirrored, out);
  } else {
    decode_resized(reader, middle(reader.height(), reader.width(), view), 2 * size, 2, view.size, false, out);
  }
  apply(Scale(normalization), out.data(), out.size(), out.data());
}

Normalization normalization_of(const ImageSet& images, std::span<const size_t> indices, const FileView& view,
                               int threads) {
  if (indices.empty()) throw UsageError("there are no images of which a mean could be taken");
  const Counts counts =
      images.in_memory() ? counts_of_pixels(images, indices) : counts_of_files(images, indices, view, threads);
  const auto& reds = counts[0];
  if (std::all_of(reds.begin(), reds.end(), [](uint64_t times) { return times == 0; }))
    throw Error("{}: damaged, as are all others whose mean was to be taken", images.files[indices[0]].string());
  return normalization_from(counts);
}

}  // namespace haqa
