#include "haqa/images/cifar.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPixels = kCifarSide * kCifarSide;
constexpr size_t kClassesAtMost = 256;  // a label is one byte

/// Which files there are, and what their records are.
struct Form {
  std::vector<fs::path> training;
  fs::path test, names;
  size_t label_bytes = 1;  ///< of a record, before its pixels
  size_t label_at = 0;     ///< the one that counts
  size_t record() const { return label_bytes + 3 * kPixels; }
};

/// n of data_batch_n.bin; 0 for other names.
size_t batch_number(const std::string& name) {
  constexpr std::string_view kHead = "data_batch_", kTail = ".bin";
  if (!name.starts_with(kHead) || !name.ends_with(kTail) || name.size() <= kHead.size() + kTail.size()) return 0;
  const char* const end = name.data() + name.size() - kTail.size();
  size_t n = 0;
  const auto [stop, fault] = std::from_chars(name.data() + kHead.size(), end, n);
  return fault == std::errc() && stop == end ? n : 0;
}

std::vector<size_t> batch_numbers(const fs::path& folder) {
  std::vector<size_t> numbers;
  std::error_code fault;  // a folder that cannot be listed has no batches
  for (auto entry = fs::directory_iterator(folder, fault); !fault && entry != fs::directory_iterator();
       entry.increment(fault))
    if (const size_t n = batch_number(entry->path().filename().string()); n > 0) numbers.push_back(n);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

void require_file(const fs::path& file) {
  if (!fs::is_regular_file(file))
    throw UsageError("{}: there is no such file, which belongs to CIFAR's binary form; fetch the data set anew",
                     file.string());
}

Form cifar_10(const fs::path& folder, const std::vector<size_t>& numbers) {
  Form form;
  for (size_t n = 1; n <= numbers.size(); ++n)
    form.training.push_back(folder / ("data_batch_" + std::to_string(n) + ".bin"));
  form.test = folder / "test_batch.bin";
  form.names = folder / "batches.meta.txt";
  return form;
}

Form cifar_100(const fs::path& folder, CifarLabels labels) {
  Form form;
  const bool fine = labels == CifarLabels::fine;
  form.training = {folder / "train.bin"};
  form.test = folder / "test.bin";
  form.names = folder / (fine ? "fine_label_names.txt" : "coarse_label_names.txt");
  form.label_bytes = 2;
  form.label_at = fine ? 1 : 0;
  return form;
}

Form form_of(const fs::path& folder, CifarLabels labels) {
  const std::vector<size_t> numbers = batch_numbers(folder);
  const bool hundred = fs::exists(folder / "train.bin");
  if (!numbers.empty() && hundred)
    throw UsageError("{}: holds files of CIFAR-10 and of CIFAR-100; put them into folders of their own",
                     folder.string());
  if (numbers.empty() && !hundred)
    throw UsageError(
        "{}: holds neither data_batch_1.bin, as CIFAR-10 has, nor train.bin, as CIFAR-100; name the folder "
        "of the binary form's files",
        folder.string());
  Form form = hundred ? cifar_100(folder, labels) : cifar_10(folder, numbers);
  for (const fs::path& file : form.training) require_file(file);  // of batches 1 and 3, the second is missing
  require_file(form.test);
  require_file(form.names);
  return form;
}

/// One a line; empty lines, as at the file's end, are passed over.
std::vector<std::string> read_names(const fs::path& file) {
  std::istringstream lines(read_file(file));
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  if (names.empty()) throw UsageError("{}: holds no name of a class; write one a line", file.string());
  if (names.size() > kClassesAtMost)
    throw UsageError("{}: holds {} names of classes; CIFAR's labels have room for {}", file.string(), names.size(),
                     kClassesAtMost);
  return names;
}

void require_records(const fs::path& file, size_t bytes, size_t record) {
  if (bytes == 0) throw UsageError("{}: is empty; fetch the data set anew", file.string());
  if (bytes % record != 0)
    throw UsageError(
        "{}: {} bytes are no whole number of records of {}: what begins at byte {} has only {}; fetch the "
        "data set anew",
        file.string(), bytes, record, bytes - bytes % record, bytes % record);
}

/// A record's pixels are all of its reds, then greens, then blues.
void append_pixels(std::string_view planes, std::vector<uint8_t>& pixels) {
  for (size_t i = 0; i < kPixels; ++i)
    for (size_t c = 0; c < 3; ++c) pixels.push_back(static_cast<uint8_t>(planes[c * kPixels + i]));
}

void append_file(const fs::path& file, const Form& form, size_t classes, ImageSet& images) {
  const std::string content = read_file(file);
  require_records(file, content.size(), form.record());
  images.pixels.reserve(images.pixels.size() + content.size());
  for (size_t at = 0; at < content.size(); at += form.record()) {
    const auto label = static_cast<uint8_t>(content[at + form.label_at]);
    if (label >= classes)
      throw UsageError("{}: record {}, at byte {}, has the label {}, but {} names {} classes; fetch the data set anew",
                       file.string(), at / form.record(), at, label, form.names.filename().string(), classes);
    images.labels.push_back(label);
    append_pixels(std::string_view(content).substr(at + form.label_bytes, 3 * kPixels), images.pixels);
  }
}

ImageSet read_files(const std::vector<fs::path>& files, const Form& form, size_t classes) {
  ImageSet images;
  images.height = images.width = kCifarSide;
  for (const fs::path& file : files) append_file(file, form, classes, images);
  return images;
}

char label_byte(int64_t label) {
  if (label < 0 || label >= static_cast<int64_t>(kClassesAtMost))
    throw UsageError("{} is no label of CIFAR's binary form; use 0 to {}", label, kClassesAtMost - 1);
  return static_cast<char>(label);
}

}  // namespace

bool is_cifar(const fs::path& folder) {
  return !batch_numbers(folder).empty() || fs::exists(folder / "train.bin");
}

ImageData read_cifar(const fs::path& folder, CifarLabels labels) {
  const Form form = form_of(folder, labels);
  ImageData data;
  data.classes = read_names(form.names);
  data.training = read_files(form.training, form, data.classes.size());
  data.test = read_files({form.test}, form, data.classes.size());
  return data;
}

void write_cifar_records(const ImageSet& images, const fs::path& file, const std::vector<int64_t>& coarse) {
  if (images.height != kCifarSide || images.width != kCifarSide || !images.in_memory())
    throw UsageError("{}: CIFAR's images have {} x {} pixels", file.string(), kCifarSide, kCifarSide);
  if (!coarse.empty() && coarse.size() != images.size())
    throw UsageError("{}: {} coarse labels for {} images", file.string(), coarse.size(), images.size());
  std::string content;
  for (size_t i = 0; i < images.size(); ++i) {
    if (!coarse.empty()) content += label_byte(coarse[i]);
    content += label_byte(images.labels[i]);
    const std::span<const uint8_t> pixels = images.pixels_of(i);
    for (size_t c = 0; c < 3; ++c)
      for (size_t p = 0; p < kPixels; ++p) content += static_cast<char>(pixels[3 * p + c]);
  }
  write_file(file, content);
}

}  // namespace haqa
