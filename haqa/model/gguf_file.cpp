#include "haqa/model/gguf_file.h"

#include <ggml.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

#include "haqa/base/error.h"
#include "haqa/base/json.h"
#include "haqa/base/text.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

// The largest vocabularies need some 20 MB. gguf.h allocates four times what a file claims for an array of texts before
// it reads one, so the claim is bounded by telling it that the file ends here.
constexpr uint64_t kMaxHeaderBytes = 64'000'000;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FilePtr = std::unique_ptr<std::FILE, FileCloser>;

/// Keeps ggml's first message, the cause, instead of printing all of them to stderr. ggml has one logger for the whole
/// process, so readers take turns.
class LogCapture {
 public:
  LogCapture() : turn_(mutex()) {
    ggml_log_get(&callback_, &user_data_);
    ggml_log_set(&LogCapture::keep, &first_);
  }
  ~LogCapture() { ggml_log_set(callback_, user_data_); }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  /// "invalid magic characters", without the name of the function that said it.
  std::string cause() const {
    std::string line = first_.substr(0, first_.find('\n'));
    if (const size_t colon = line.find(": ");
        colon != std::string::npos && line.substr(0, colon).find(' ') == line.npos)
      line.erase(0, colon + 2);
    return line.empty() ? "no reason given" : one_line(line);
  }

 private:
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static void keep(ggml_log_level, const char* text, void* first) {
    if (auto* kept = static_cast<std::string*>(first); kept->empty()) *kept = text;
  }
  std::lock_guard<std::mutex> turn_;
  ggml_log_callback callback_ = nullptr;
  void* user_data_ = nullptr;
  std::string first_;
};

struct Reader {
  std::FILE* file;
  uint64_t offset = 0;
};

size_t read_some(void* userdata, void* output, uint64_t offset, size_t length) {
  auto& reader = *static_cast<Reader*>(userdata);
  if (reader.offset != offset && fseeko(reader.file, static_cast<off_t>(offset), SEEK_SET) != 0) return 0;
  const size_t n = std::fread(output, 1, length, reader.file);
  reader.offset = offset + n;
  return n;
}

FilePtr open_file(const fs::path& file) {
  std::error_code code;
  const fs::file_status status = fs::status(file, code);
  if (status.type() == fs::file_type::not_found)
    throw Error("{}: no such file; name a GGUF file or a known model ({})", file.string(),
                fmt::join(architecture_names(), ", "));
  if (status.type() == fs::file_type::directory)
    throw Error("{}: is a folder; name a GGUF file (`haqa convert {}` makes one of a Hugging Face folder)",
                file.string(), file.string());
  FilePtr opened;
  if (status.type() == fs::file_type::regular) opened.reset(std::fopen(file.c_str(), "rb"));
  if (!opened)
    throw Error("{}: cannot be read: {}; name a GGUF file that you may read", file.string(),
                status.type() == fs::file_type::regular ? std::strerror(errno) : "it is no regular file");
  return opened;
}

void check_magic(std::FILE* opened, const fs::path& file, uint64_t file_bytes) {
  if (file_bytes == 0) throw Error("{}: is empty; copy or download it again", file.string());
  char magic[4] = {};
  const size_t n = std::fread(magic, 1, sizeof magic, opened);
  if (n < sizeof magic || std::memcmp(magic, "GGUF", sizeof magic) != 0)
    throw Error("{}: is not a GGUF file: it begins with \"{}\" instead of \"GGUF\"; name a model in GGUF format",
                file.string(), one_line({magic, n}));
  std::rewind(opened);
}

GgufPtr read_header(std::FILE* opened, const fs::path& file, uint64_t file_bytes) {
  Reader reader{opened};
  LogCapture log;
  GgufPtr context;
  try {
    context.reset(gguf_init_from_callback(read_some, &reader, 0, std::min(file_bytes, kMaxHeaderBytes),
                                          {.no_alloc = true, .ctx = nullptr}));
  } catch (const std::exception&) {  // gguf.h lets bad_alloc and length_error through for single texts
  }
  if (!context)
    throw Error("{}: its GGUF header is truncated or damaged ({}); copy or download it again", file.string(),
                log.cause());
  return context;
}

template <typename T>
int64_t element(const void* data, size_t i) {
  const auto value = static_cast<const T*>(data)[i];
  if constexpr (std::is_same_v<T, uint64_t>)
    if (value > static_cast<uint64_t>(INT64_MAX)) return INT64_MAX;
  return static_cast<int64_t>(value);
}

std::optional<int64_t> integer_at(gguf_type type, const void* data, size_t i) {
  switch (type) {
    case GGUF_TYPE_UINT8:
      return element<uint8_t>(data, i);
    case GGUF_TYPE_INT8:
      return element<int8_t>(data, i);
    case GGUF_TYPE_UINT16:
      return element<uint16_t>(data, i);
    case GGUF_TYPE_INT16:
      return element<int16_t>(data, i);
    case GGUF_TYPE_UINT32:
      return element<uint32_t>(data, i);
    case GGUF_TYPE_INT32:
      return element<int32_t>(data, i);
    case GGUF_TYPE_UINT64:
      return element<uint64_t>(data, i);
    case GGUF_TYPE_INT64:
      return element<int64_t>(data, i);
    default:
      return std::nullopt;
  }
}

std::vector<int64_t> shape_of(const int64_t* ne) {
  size_t n = GGML_MAX_DIMS;
  while (n > 1 && ne[n - 1] == 1) --n;
  return {ne, ne + n};
}

}  // namespace

std::string type_name(ggml_type type) {
  std::string name = ggml_type_name(type);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

ggml_type ggml_type_named(std::string_view name) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i)
    if (const auto type = static_cast<ggml_type>(i); ggml_blck_size(type) > 0 && type_name(type) == name) return type;
  throw UsageError("'{}' is no tensor type of ggml's; F16, Q8_0 and Q4_0 are", one_line(name));
}

GgufFile::GgufFile(fs::path file) : file_(std::move(file)) {
  const FilePtr opened = open_file(file_);
  std::error_code code;
  file_bytes_ = fs::file_size(file_, code);
  if (code) throw Error("{}: cannot be read: {}", file_.string(), code.message());
  check_magic(opened.get(), file_, file_bytes_);
  context_ = read_header(opened.get(), file_, file_bytes_);
}

std::optional<int64_t> GgufFile::integer(const std::string& key, int64_t low, int64_t high) const {
  const gguf_context* g = context();
  const int64_t id = gguf_find_key(g, key.c_str());
  if (id < 0) return std::nullopt;
  const bool array = gguf_get_kv_type(g, id) == GGUF_TYPE_ARRAY;
  const gguf_type type = array ? gguf_get_arr_type(g, id) : gguf_get_kv_type(g, id);
  const size_t n = array ? gguf_get_arr_n(g, id) : 1;
  const uint64_t zero = 0;
  const bool number = integer_at(type, &zero, 0).has_value();
  if (!number || n == 0) throw Error("{}: '{}' is no whole number; convert the model again", file_.string(), key);
  const void* data = array ? gguf_get_arr_data(g, id) : gguf_get_val_data(g, id);
  const int64_t value = *integer_at(type, data, 0);
  for (size_t i = 1; i < n; ++i)
    if (*integer_at(type, data, i) != value)
      throw Error("{}: '{}' differs from layer to layer, which is not supported; choose another model", file_.string(),
                  key);
  if (value < low || value > high)
    throw Error("{}: '{}' is {}, expected {} to {}; the file is damaged, convert the model again", file_.string(), key,
                value, low, high);
  return value;
}

std::string GgufFile::text(const std::string& key) const {
  const int64_t id = gguf_find_key(context(), key.c_str());
  if (id < 0 || gguf_get_kv_type(context(), id) != GGUF_TYPE_STRING) return "";
  return one_line(gguf_get_val_str(context(), id), 100);
}

std::vector<TensorInfo> GgufFile::tensors() const {
  const gguf_context* g = context();
  const uint64_t data = gguf_get_data_offset(g);
  std::vector<TensorInfo> all;
  for (int64_t i = 0; i < gguf_get_n_tensors(g); ++i) {
    TensorInfo& tensor = all.emplace_back();
    tensor.name = one_line(gguf_get_tensor_name(g, i), 100);
    tensor.type = type_name(gguf_get_tensor_type(g, i));
    tensor.shape = shape_of(gguf_get_tensor_ne(g, i));
    tensor.bytes = gguf_get_tensor_size(g, i);
    const uint64_t offset = gguf_get_tensor_offset(g, i);  // gguf.h checked that their sum does not overflow
    if (data > file_bytes_ || offset > file_bytes_ - data || tensor.bytes > file_bytes_ - data - offset)
      throw Error("{}: is truncated: tensor '{}' ends at byte {}, but the file has {}; copy or download it again",
                  file_.string(), tensor.name, data + offset + tensor.bytes, file_bytes_);
  }
  return all;
}

}  // namespace haqa
