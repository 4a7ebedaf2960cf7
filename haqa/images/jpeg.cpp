#include "haqa/images/jpeg.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
// libjpeg's header needs stdio's.
#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>

#include "haqa/base/error.h"

namespace haqa {
namespace {

constexpr size_t kPixelsAtMost = 178'956'970;  // as Pillow has it; what is larger is taken for an attack
/// Of an image in several scans libjpeg keeps all coefficients, whatever part is wanted: of 90 million pixels with
/// halved chroma, 45 million without. A few bytes may claim them, in each of a loader's threads.
constexpr uint64_t kCoefficientsAtMost = uint64_t{256} << 20;
/// Encoders make some ten; each may cost a pass over all coefficients.
constexpr int kScansAtMost = 100;
/// Columns beside a region that smooth chroma needs to be as in the whole image.
constexpr size_t kMargin = 4;

/// What went wrong last, and where libjpeg's functions are left then.
struct Fault {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  int code = 0;
  char text[JMSG_LENGTH_MAX] = {};
};

[[noreturn]] void leave(j_common_ptr jpeg) {
  auto* const fault = reinterpret_cast<Fault*>(jpeg->err);
  fault->code = jpeg->err->msg_code;
  jpeg->err->format_message(jpeg, fault->text);
  std::longjmp(fault->jump, 1);
}

/// libjpeg goes on after damage with gray in its place; here it ends.
void judge_warning(j_common_ptr jpeg, int level) {
  const int code = jpeg->err->msg_code;
  const bool harmless =
      code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR || code == JWRN_BOGUS_ICC;
  if (level < 0 && !harmless) leave(jpeg);
}

void ignore_message(j_common_ptr) {}

void set_handlers(Fault& fault) {
  jpeg_std_error(&fault.manager);
  fault.manager.error_exit = leave;
  fault.manager.emit_message = judge_warning;
  fault.manager.output_message = ignore_message;
}

/// Calls `work`, in which nothing may need a destructor: libjpeg's errors jump out of it.
template <typename Work>
void guarded(Fault& fault, const Work& work) {
  if (setjmp(fault.jump) != 0) {  // NOLINT: libjpeg's way
    if (fault.code == JERR_OUT_OF_MEMORY) throw NoMemoryError("no memory is left for decoding a JPEG");
    throw Error("damaged JPEG: {}", fault.text);
  }
  work();
}

void limit_scans(j_common_ptr jpeg) {
  auto* const decompress = reinterpret_cast<j_decompress_ptr>(jpeg);
  if (decompress->input_scan_number <= kScansAtMost) return;
  auto* const fault = reinterpret_cast<Fault*>(jpeg->err);
  fault->code = JERR_BAD_PROGRESSION;
  std::snprintf(fault->text, sizeof fault->text, "more than %d scans", kScansAtMost);
  std::longjmp(fault->jump, 1);
}

/// Bytes that libjpeg keeps of an image in several scans.
uint64_t coefficient_bytes(const jpeg_decompress_struct& jpeg) {
  uint64_t blocks = 0;
  for (int i = 0; i < jpeg.num_components; ++i)
    blocks += uint64_t{jpeg.comp_info[i].width_in_blocks} * jpeg.comp_info[i].height_in_blocks;
  return blocks * DCTSIZE2 * sizeof(JCOEF);
}

/// Files keep CMYK inverted, as Adobe began to: so much of each colour is left.
void cmyk_to_rgb(const uint8_t* from, size_t pixels, uint8_t* to) {
  for (size_t i = 0; i < pixels; ++i)
    for (size_t c = 0; c < 3; ++c)
      to[3 * i + c] = static_cast<uint8_t>((from[4 * i + c] * from[4 * i + 3] + 127) / 255);
}

}  // namespace

struct JpegReader::State {
  Fault fault;
  jpeg_decompress_struct jpeg;
  jpeg_progress_mgr progress;

  explicit State(std::string_view bytes) {
    set_handlers(fault);
    jpeg = {};
    jpeg.err = &fault.manager;
    progress = {};
    progress.progress_monitor = limit_scans;
    try {
      guarded(fault, [&] {
        jpeg_create_decompress(&jpeg);
        jpeg.progress = &progress;
        jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
        jpeg_read_header(&jpeg, TRUE);
      });
      if (static_cast<size_t>(jpeg.image_width) * jpeg.image_height > kPixelsAtMost)
        throw Error("a JPEG of {} x {} pixels is too large; more than {} are not read", jpeg.image_width,
                    jpeg.image_height, kPixelsAtMost);
      if (jpeg_has_multiple_scans(&jpeg) && coefficient_bytes(jpeg) > kCoefficientsAtMost)
        throw Error("a progressive JPEG of {} x {} pixels is too large; write it as a baseline JPEG", jpeg.image_width,
                    jpeg.image_height);
    } catch (...) {
      jpeg_destroy_decompress(&jpeg);
      throw;
    }
  }
  ~State() { jpeg_destroy_decompress(&jpeg); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void set_output(size_t reduction) {
    const bool four = jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK;
    jpeg.out_color_space = four ? JCS_CMYK : JCS_RGB;
    jpeg.do_block_smoothing = FALSE;  // of progressive files that lack scans: it depends on which part is decoded
    jpeg.scale_num = 1;
    jpeg.scale_denom = static_cast<unsigned>(reduction);
  }

  /// libjpeg decodes whole columns of blocks; says where the first one begins.
  size_t start(const Region& region, size_t reduction) {
    size_t left = 0;
    guarded(fault, [&] {
      set_output(reduction);
      jpeg_start_decompress(&jpeg);
      const size_t end = std::min<size_t>(region.left + region.width + kMargin, jpeg.output_width);
      JDIMENSION first = static_cast<JDIMENSION>(region.left - std::min(region.left, kMargin));
      JDIMENSION columns = static_cast<JDIMENSION>(end) - first;
      if (columns < jpeg.output_width) jpeg_crop_scanline(&jpeg, &first, &columns);
      left = first;
      if (region.top > 0) jpeg_skip_scanlines(&jpeg, static_cast<JDIMENSION>(region.top));
    });
    return left;
  }

  /// Of the columns from `left`, which `row` has room for.
  void read_rows(const Region& region, size_t left, uint8_t* row, uint8_t* out) {
    guarded(fault, [&] {
      const bool four = jpeg.out_color_space == JCS_CMYK;
      for (size_t y = 0; y < region.height; ++y, out += 3 * region.width) {
        jpeg_read_scanlines(&jpeg, &row, 1);
        if (four)
          cmyk_to_rgb(row + 4 * (region.left - left), region.width, out);
        else
          std::copy_n(row + 3 * (region.left - left), 3 * region.width, out);
      }
    });
  }
};

JpegReader::JpegReader(std::string_view bytes) : state_(std::make_unique<State>(bytes)) {}
JpegReader::~JpegReader() = default;

size_t JpegReader::height() const {
  return state_->jpeg.image_height;
}
size_t JpegReader::width() const {
  return state_->jpeg.image_width;
}

Image JpegReader::decode(const Region& region, size_t reduction) {
  const auto reduced = [&](size_t side) { return (side + reduction - 1) / reduction; };
  if (region.height == 0 || region.width == 0 || region.top + region.height > reduced(height()) ||
      region.left + region.width > reduced(width()))
    throw Error("a region of {} x {} pixels at row {}, column {} is not within an image of {} x {}", region.height,
                region.width, region.top, region.left, reduced(height()), reduced(width()));
  Image image{region.height, region.width, std::vector<uint8_t>(region.height * region.width * 3)};
  const size_t left = state_->start(region, reduction);
  std::vector<uint8_t> row(static_cast<size_t>(state_->jpeg.output_width) * 4);
  state_->read_rows(region, left, row.data(), image.pixels.data());
  return image;
}

Image decode_jpeg(std::string_view bytes) {
  JpegReader reader(bytes);
  return reader.decode({0, 0, reader.height(), reader.width()});
}

std::string encode_jpeg(const Image& image, int quality) {
  if (image.height == 0 || image.width == 0 || image.pixels.size() != image.height * image.width * 3)
    throw Error("an image of {} x {} pixels with {} bytes cannot be written as JPEG", image.height, image.width,
                image.pixels.size());
  Fault fault;
  set_handlers(fault);
  jpeg_compress_struct jpeg = {};
  jpeg.err = &fault.manager;
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const auto release = [&] {
    jpeg_destroy_compress(&jpeg);
    std::free(bytes);
  };
  try {
    guarded(fault, [&] {
      jpeg_create_compress(&jpeg);
      jpeg_mem_dest(&jpeg, &bytes, &size);
      jpeg.image_height = static_cast<JDIMENSION>(image.height);
      jpeg.image_width = static_cast<JDIMENSION>(image.width);
      jpeg.input_components = 3;
      jpeg.in_color_space = JCS_RGB;
      jpeg_set_defaults(&jpeg);
      jpeg_set_quality(&jpeg, quality, TRUE);
      jpeg_start_compress(&jpeg, TRUE);
      for (size_t y = 0; y < image.height; ++y) {
        auto* row = const_cast<uint8_t*>(image.pixels.data() + y * image.width * 3);
        jpeg_write_scanlines(&jpeg, &row, 1);
      }
      jpeg_finish_compress(&jpeg);
    });
  } catch (...) {
    release();
    throw;
  }
  std::string content(reinterpret_cast<const char*>(bytes), size);
  release();
  return content;
}

}  // namespace haqa
