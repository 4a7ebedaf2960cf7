#include "haqa/model/gguf_writer.h"

#include <fcntl.h>
#include <ggml.h>
#include <unistd.h>

#include <utility>

#include "haqa/base/error.h"

namespace haqa {
namespace {

const std::filesystem::path& with_space(const std::filesystem::path& file, uint64_t bytes, std::string_view purpose) {
  require_space(file.parent_path(), bytes, purpose);
  return file;
}

uint64_t file_size(const gguf_context* header) {
  uint64_t end = gguf_get_meta_size(header);
  if (const int64_t n = gguf_get_n_tensors(header); n > 0)
    end += gguf_get_tensor_offset(header, n - 1) +
           GGML_PAD(gguf_get_tensor_size(header, n - 1), gguf_get_alignment(header));
  return end;
}

}  // namespace

void add_tensors(gguf_context* to, const std::vector<TensorInfo>& tensors) {
  const size_t bytes = ggml_tensor_overhead() * (tensors.size() + 1);
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init({.mem_size = bytes, .mem_buffer = nullptr, .no_alloc = true}), ggml_free);
  for (const TensorInfo& tensor : tensors) {
    ggml_tensor* added = ggml_new_tensor(context.get(), ggml_type_named(tensor.type),
                                         static_cast<int>(tensor.shape.size()), tensor.shape.data());
    ggml_set_name(added, tensor.name.c_str());
    gguf_add_tensor(to, added);
  }
}

GgufWriter::GgufWriter(GgufPtr header, const std::filesystem::path& file, std::string_view purpose)
    : header_(std::move(header)), file_(with_space(file, file_size(header_.get()), purpose)), pending_(file) {
  fd_.reset(open(pending_.path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd_ || ftruncate(fd_.get(), static_cast<off_t>(file_size(header_.get()))) != 0) throw_cannot_write(file);
  std::vector<std::byte> meta(gguf_get_meta_size(header_.get()));
  gguf_get_meta_data(header_.get(), meta.data());
  write_at(fd_.get(), meta, 0, file_);
}

void GgufWriter::write(size_t tensor, uint64_t offset, std::span<const std::byte> data) const {
  const uint64_t place =
      gguf_get_meta_size(header_.get()) + gguf_get_tensor_offset(header_.get(), static_cast<int64_t>(tensor)) + offset;
  write_at(fd_.get(), data, place, file_);
}

void GgufWriter::commit() {
  fd_.reset();
  pending_.commit();
}

}  // namespace haqa
