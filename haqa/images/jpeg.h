#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "haqa/images/image_set.h"

namespace haqa {

/// Some rows and columns of an image.
struct Region {
  size_t top = 0, left = 0, height = 0, width = 0;
  bool operator==(const Region&) const = default;
};

/// A JPEG whose header is read, so that one knows its size before deciding what of it is decoded. Baseline and
/// progressive, with colours, gray, CMYK and YCCK, which become red, green and blue as in Pillow; what EXIF says of
/// turning is not followed. Damage is an Error that says of what kind: a truncated file, broken codes, more than 178
/// million pixels, in several scans more than 256 MB of coefficients, or 100 scans. What is harmless (bytes between
/// markers) is passed over.
class JpegReader {
 public:
  /// The bytes have to outlive the reader. Throws Error.
  explicit JpegReader(std::string_view bytes);
  ~JpegReader();
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  size_t height() const;
  size_t width() const;

  /// The region of the image reduced to 1/1, 1/2, 1/4 or 1/8 (`reduction`), each side rounded up: what decoding all of
  /// it gives there, without the work for the rest. Damage behind the region is not noticed. Once a reader.
  /// Throws Error.
  Image decode(const Region& region, size_t reduction = 1);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// All of an image. Throws Error as JpegReader does.
Image decode_jpeg(std::string_view bytes);

/// A baseline JPEG with halved chroma (4:2:0); quality from 1 to 100.
std::string encode_jpeg(const Image& image, int quality = 90);

}  // namespace haqa
