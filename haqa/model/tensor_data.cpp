#include "haqa/model/tensor_data.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "haqa/base/descriptor.h"
#include "haqa/base/error.h"
#include "haqa/base/file_name.h"

namespace haqa {

TensorData::TensorData(const std::filesystem::path& file) : header_(file), tensors_(header_.tensors()) {
  const gguf_context* g = header_.context();
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    places_[gguf_get_tensor_name(g, id)] = {i, gguf_get_data_offset(g) + gguf_get_tensor_offset(g, id),
                                            gguf_get_tensor_type(g, id)};
  }
  const Descriptor fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  void* data = fd ? mmap(nullptr, header_.file_bytes(), PROT_READ, MAP_PRIVATE, fd.get(), 0) : MAP_FAILED;
  if (data == MAP_FAILED) throw Error("{}: cannot be mapped into memory: {}", file.string(), std::strerror(errno));
  mapped_ = {static_cast<const std::byte*>(data), header_.file_bytes()};
}

TensorData::~TensorData() {
  munmap(const_cast<std::byte*>(mapped_.data()), mapped_.size());
}

bool TensorData::contains(const std::string& name) const {
  return places_.contains(name);
}

const TensorData::Place& TensorData::place(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end())
    throw Error("{}: holds no tensor \"{}\"; convert the model again", header_.file().string(), name);
  return found->second;
}

const TensorInfo& TensorData::info(const std::string& name) const {
  return tensors_[place(name).index];
}

std::span<const std::byte> TensorData::bytes(const std::string& name) const {
  return mapped_.subspan(place(name).offset, info(name).bytes);
}

uint64_t TensorData::fingerprint() const {
  constexpr size_t kBytesOfEach = 4096;
  std::string sample;
  for (const TensorInfo& tensor : tensors_) {
    const std::span<const std::byte> all = bytes(tensor.name);
    sample += tensor.name;
    sample.append(reinterpret_cast<const char*>(all.data()), std::min(all.size(), kBytesOfEach));
  }
  return fnv1a_64(sample);
}

void TensorData::read_rows(const std::string& name, int64_t first, int64_t rows, std::span<float> out) const {
  const Place& at = place(name);
  const TensorInfo& tensor = tensors_[at.index];
  const int64_t length = tensor.shape[0];
  if (first < 0 || rows < 0 || first + rows > tensor.elements() / length ||
      out.size() != static_cast<size_t>(rows * length))
    throw Error("rows {} to {} of tensor \"{}\" were asked for, which has {} of {} elements", first, first + rows, name,
                tensor.elements() / length, length);
  const size_t skipped = static_cast<size_t>(first) * ggml_row_size(at.type, length);
  const std::span<const std::byte> stored = mapped_.subspan(at.offset + skipped);
  if (out.empty()) return;
  if (at.type == GGML_TYPE_F32) {
    std::memcpy(out.data(), stored.data(), out.size_bytes());
    return;
  }
  const ggml_to_float_t to_float = ggml_get_type_traits(at.type)->to_float;
  if (!to_float)
    throw Error("{}: tensor \"{}\" has type {}, which ggml cannot turn into numbers; convert the model to F16",
                header_.file().string(), name, tensor.type);
  to_float(stored.data(), out.data(), rows * length);
}

std::vector<float> TensorData::floats(const std::string& name) const {
  const TensorInfo& tensor = info(name);
  std::vector<float> out(static_cast<size_t>(tensor.elements()));
  if (!out.empty()) read_rows(name, 0, tensor.elements() / tensor.shape[0], out);  // a row may have no length
  return out;
}

}  // namespace haqa
