#pragma once
#include <cstddef>
#include <span>

#include "haqa/images/image_set.h"

namespace haqa {

/// A part of an image, in pixels and fractions of them.
struct Box {
  double top = 0, left = 0, height = 0, width = 0;
};

/// The box of an image at another size, bilinear with antialiasing: a triangle of the width of a pixel of the larger of
/// both sizes, as Pillow and torchvision do it. Pixels beyond the box count where the image has them.
/// out: height x width x 3 values from 0 to 255, not rounded, from right to left where `mirrored`.
void resize(const Image& image, const Box& box, size_t height, size_t width, bool mirrored, std::span<float> out);

}  // namespace haqa
