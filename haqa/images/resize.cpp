#include "haqa/images/resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace haqa {
namespace {

/// Which pixels make up one of the new ones, and in which shares.
struct Taps {
  size_t first = 0, count = 0;
  const float* weights = nullptr;
};

/// Of all new pixels along one side.
class Weights {
 public:
  Weights(size_t old_size, double begin, double length, size_t new_size) {
    const double step = length / static_cast<double>(new_size);
    const double support = std::max(step, 1.0);
    room_ = static_cast<size_t>(std::ceil(support)) * 2 + 1;
    values_.resize(room_ * new_size);
    taps_.resize(new_size);
    for (size_t i = 0; i < new_size; ++i)
      set(i, begin + (static_cast<double>(i) + 0.5) * step, support, static_cast<std::ptrdiff_t>(old_size));
  }
  const Taps& operator[](size_t i) const { return taps_[i]; }

 private:
  void set(size_t i, double centre, double support, std::ptrdiff_t old_size) {
    const std::ptrdiff_t first =
        std::clamp<std::ptrdiff_t>(std::lround(std::floor(centre - support + 0.5)), 0, old_size - 1);
    const std::ptrdiff_t end =
        std::clamp<std::ptrdiff_t>(std::lround(std::floor(centre + support + 0.5)), first + 1, old_size);
    float* const weights = values_.data() + i * room_;
    const auto share = [&](std::ptrdiff_t x) {
      return std::max(0.0, 1.0 - std::abs((static_cast<double>(x) + 0.5 - centre) / support));
    };
    double sum = 0;
    for (std::ptrdiff_t x = first; x < end; ++x) sum += share(x);
    for (std::ptrdiff_t x = first; x < end; ++x)
      weights[x - first] = sum > 0 ? static_cast<float>(share(x) / sum) : 1.0f / static_cast<float>(end - first);
    taps_[i] = {static_cast<size_t>(first), static_cast<size_t>(end - first), weights};
  }

  size_t room_;
  std::vector<float> values_;
  std::vector<Taps> taps_;
};

void mix_rows(const Image& image, const Taps& taps, std::vector<float>& row) {
  const size_t values = row.size();
  std::fill(row.begin(), row.end(), 0.0f);
  for (size_t t = 0; t < taps.count; ++t) {
    const float weight = taps.weights[t];
    const uint8_t* const from = image.pixels.data() + (taps.first + t) * values;
    float* const to = row.data();
    for (size_t i = 0; i < values; ++i) to[i] += weight * static_cast<float>(from[i]);
  }
}

void mix_columns(const std::vector<float>& row, const Taps& taps, float* out) {
  const float* from = row.data() + 3 * taps.first;
  float red = 0, green = 0, blue = 0;
  for (size_t t = 0; t < taps.count; ++t, from += 3) {
    red += taps.weights[t] * from[0];
    green += taps.weights[t] * from[1];
    blue += taps.weights[t] * from[2];
  }
  out[0] = red;
  out[1] = green;
  out[2] = blue;
}

}  // namespace

void resize(const Image& image, const Box& box, size_t height, size_t width, bool mirrored, std::span<float> out) {
  const Weights rows(image.height, box.top, box.height, height), columns(image.width, box.left, box.width, width);
  std::vector<float> row(image.width * 3);
  for (size_t y = 0; y < height; ++y) {
    mix_rows(image, rows[y], row);
    float* const to = out.data() + y * width * 3;
    for (size_t x = 0; x < width; ++x) mix_columns(row, columns[x], to + 3 * (mirrored ? width - 1 - x : x));
  }
}

}  // namespace haqa
