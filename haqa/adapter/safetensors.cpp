#include "haqa/adapter/safetensors.h"

#include <fcntl.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "haqa/base/descriptor.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

// A thousand tensors need some 150 kB. The format's own limit, 100 MB, would let a file claim gigabytes of memory.
constexpr uint64_t kMaxHeaderBytes = 16'000'000;
constexpr int kMaxDimensions = 8;
constexpr const char* kNotes = "__metadata__";

using Tensor = SafetensorsFile::Tensor;

[[noreturn]] void throw_damaged(const fs::path& file, std::string_view what) {
  throw Error("{}: is no whole safetensors file ({}); copy or download it again", file.string(), what);
}

/// Bits of a number of the type; empty for one that the format does not have.
std::optional<uint64_t> bits_of(std::string_view type) {
  constexpr std::array<std::pair<std::string_view, uint64_t>, 20> kTypes = {
      {{"BOOL", 8},    {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},      {"I8", 8},   {"F8_E5M2", 8},
       {"F8_E4M3", 8}, {"I16", 16}, {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32}, {"U32", 32},
       {"F32", 32},    {"C64", 64}, {"F64", 64},    {"I64", 64},    {"F8_E8M0", 8}, {"U64", 64}}};
  for (const auto& [name, bits] : kTypes)
    if (name == type) return bits;
  return std::nullopt;
}

void read_at(std::ifstream& in, uint64_t offset, std::span<char> out, const fs::path& file) {
  in.clear();
  in.seekg(static_cast<std::streamoff>(offset));
  if (!in.read(out.data(), static_cast<std::streamsize>(out.size()))) throw_damaged(file, "it ends too early");
}

/// Parsed with what the format forbids refused: names that come twice, and anything nested deeper than a tensor's.
nlohmann::json parse_header(const std::string& text, const fs::path& file) {
  using Event = nlohmann::json::parse_event_t;
  std::set<std::string> names;
  const auto look = [&](int depth, Event event, nlohmann::json& value) {
    if (depth > 3) throw_damaged(file, "its header nests too deep");
    if (event == Event::key && depth == 1 && !names.insert(value.get<std::string>()).second)
      throw_damaged(file, "a tensor comes twice");
    return true;
  };
  try {
    return nlohmann::json::parse(text, look);
  } catch (const nlohmann::json::exception& e) {
    throw_damaged(file, "its header is no JSON: " + one_line(e.what(), 100));
  }
}

/// The numbers of an array of whole numbers from 0.
std::vector<uint64_t> numbers(const nlohmann::json& array, size_t at_most) {
  if (!array.is_array() || array.size() > at_most) throw std::invalid_argument("");
  std::vector<uint64_t> all;
  for (const auto& value : array) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<int64_t>::max())
      throw std::invalid_argument("");
    all.push_back(value.get<uint64_t>());
  }
  return all;
}

/// Bytes of the tensor; empty where they are too many to count.
std::optional<uint64_t> bytes_of(const Tensor& tensor) {
  uint64_t bits = bits_of(tensor.type).value_or(0);
  for (const int64_t n : tensor.shape)
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(n), &bits)) return std::nullopt;
  return (bits + 7) / 8;
}

Tensor tensor_of(const std::string& name, const nlohmann::json& entry, const fs::path& file) {
  Tensor tensor;
  try {
    tensor.type = entry.at("dtype").get<std::string>();
    for (const uint64_t n : numbers(entry.at("shape"), kMaxDimensions)) tensor.shape.push_back(static_cast<int64_t>(n));
    const std::vector<uint64_t> offsets = numbers(entry.at("data_offsets"), 2);
    tensor.begin = offsets.at(0);
    tensor.end = offsets.at(1);
  } catch (const std::exception&) {  // json::exception, invalid_argument and out_of_range
    throw_damaged(file, fmt::format("tensor \"{}\" has no type, shape and data_offsets", one_line(name, 100)));
  }
  if (!bits_of(tensor.type))
    throw_damaged(file,
                  fmt::format("tensor \"{}\" has the type \"{}\"", one_line(name, 100), one_line(tensor.type, 20)));
  if (tensor.begin > tensor.end || bytes_of(tensor) != tensor.end - tensor.begin)
    throw_damaged(file, fmt::format("the size of tensor \"{}\" contradicts its shape", one_line(name, 100)));
  return tensor;
}

/// The data must lie without holes and overlaps, as the format wants it: nothing can hide, nothing is there twice.
void check_places(const std::map<std::string, Tensor>& tensors, uint64_t data_bytes, const fs::path& file) {
  std::vector<std::pair<uint64_t, uint64_t>> places;
  for (const auto& [name, tensor] : tensors) places.emplace_back(tensor.begin, tensor.end);
  std::sort(places.begin(), places.end());
  uint64_t end = 0;
  for (const auto& [first, last] : places) {
    if (first != end) throw_damaged(file, "its tensors overlap or leave holes");
    end = last;
  }
  if (end > data_bytes)
    throw_damaged(file, fmt::format("it should have {} bytes of data, but has {}", end, data_bytes));
  if (end < data_bytes) throw_damaged(file, "there is more data than its tensors have");
}

std::string header_of(const std::vector<TensorToSave>& tensors, std::map<std::string, std::string> notes) {
  notes["format"] = "pt";  // which transformers insists on
  nlohmann::ordered_json header = {{kNotes, notes}};
  uint64_t end = 0;
  for (const TensorToSave& tensor : tensors) {
    const uint64_t begin = end;
    end += tensor.numbers.size_bytes();
    header[tensor.name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that data is aligned
  return text;
}

}  // namespace

int64_t SafetensorsFile::Tensor::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

SafetensorsFile::SafetensorsFile(fs::path file) : file_(std::move(file)) {
  std::error_code code;
  if (!fs::is_regular_file(file_, code)) throw Error("{}: no such file", file_.string());
  const uint64_t bytes = fs::file_size(file_, code);
  std::ifstream in(file_, std::ios::binary);
  if (code || !in) throw Error("{}: cannot read: {}", file_.string(), std::strerror(errno));
  uint64_t length = 0;
  if (bytes < sizeof length) throw_damaged(file_, "it is too short");
  read_at(in, 0, {reinterpret_cast<char*>(&length), sizeof length}, file_);
  if (length > bytes - sizeof length || length > kMaxHeaderBytes)
    throw_damaged(file_, fmt::format("its header should be {} bytes long", length));
  std::string text(length, '\0');
  read_at(in, sizeof length, text, file_);
  if (!text.starts_with('{')) throw_damaged(file_, "its header does not begin with {");
  data_ = sizeof length + length;

  const nlohmann::json header = parse_header(text, file_);
  for (const auto& [name, entry] : header.items())
    if (name != kNotes) tensors_.emplace(name, tensor_of(name, entry, file_));
  if (header.contains(kNotes))
    for (const auto& [name, note] : header[kNotes].items())
      if (note.is_string()) notes_.emplace(name, note);
  check_places(tensors_, bytes - data_, file_);
}

std::vector<float> SafetensorsFile::floats(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error("{}: holds no tensor \"{}\"", file_.string(), name);
  const Tensor& tensor = found->second;
  std::ifstream in(file_, std::ios::binary);
  std::vector<char> stored(tensor.end - tensor.begin);
  read_at(in, data_ + tensor.begin, stored, file_);
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  if (tensor.type == "F32") {
    if (values.empty()) return values;  // memcpy() takes no null pointers, not even for nothing
    std::memcpy(values.data(), stored.data(), stored.size());
  } else if (tensor.type == "F16") {
    ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(stored.data()), values.data(), tensor.elements());
  } else if (tensor.type == "BF16") {
    ggml_bf16_to_fp32_row(reinterpret_cast<const ggml_bf16_t*>(stored.data()), values.data(), tensor.elements());
  } else {
    throw Error("{}: tensor \"{}\" has the type {}; F32, F16 and BF16 can be read, save it as one of them",
                file_.string(), one_line(name, 100), tensor.type);
  }
  return values;
}

void write_safetensors(const std::vector<TensorToSave>& tensors, const fs::path& file,
                       const std::map<std::string, std::string>& notes) {
  const std::string header = header_of(tensors, notes);
  const uint64_t length = header.size();
  uint64_t offset = sizeof length + length;
  uint64_t bytes = offset;
  for (const TensorToSave& tensor : tensors) bytes += tensor.numbers.size_bytes();
  require_space(file.parent_path(), bytes, "the weights");
  PendingFile pending(file);
  {
    const Descriptor out(open(pending.path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!out) throw_cannot_write(file);
    write_at(out.get(), std::as_bytes(std::span(&length, 1)), 0, file);
    write_at(out.get(), std::as_bytes(std::span(header)), sizeof length, file);
    for (const TensorToSave& tensor : tensors) {
      write_at(out.get(), std::as_bytes(tensor.numbers), offset, file);
      offset += tensor.numbers.size_bytes();
    }
  }
  pending.commit();
}

}  // namespace haqa
