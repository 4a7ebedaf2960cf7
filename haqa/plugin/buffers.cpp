#include "haqa/plugin/buffers.h"

#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "haqa/plugin/log.h"
#include "haqa/plugin/memory.h"
#include "haqa/plugin/weights.h"

namespace haqa {
namespace {

constexpr size_t kAlignment = 64;

Memory& memory_of(ggml_backend_buffer_t buffer) {
  return *static_cast<Memory*>(buffer->context);
}

void* base_of(ggml_backend_buffer_t buffer) {
  // Probes are of size 0 and have no memory, but ggml wants an address.
  std::byte* data = memory_of(buffer).data();
  return data ? data : reinterpret_cast<void*>(kAlignment);
}

void free_buffer(ggml_backend_buffer_t buffer) {
  delete &memory_of(buffer);
}

void fill(ggml_backend_buffer_t buffer, uint8_t value) {
  if (buffer->size > 0) std::memset(memory_of(buffer).data(), value, buffer->size);
}

std::byte* at(const ggml_tensor* tensor, size_t offset) {
  return static_cast<std::byte*>(tensor->data) + offset;
}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, const ggml_backend_buffer_i& functions, size_t size) {
  constexpr size_t kWorthLargePages = size_t{16} << 20;
  auto* memory = new (std::nothrow) Memory(size, size >= kWorthLargePages ? Pages::large : Pages::small);
  if (!memory || (size > 0 && !*memory)) {
    delete memory;
    // The host gives up then: it has decided where its tensors are to lie.
    log_warning("there are no " + std::to_string(size >> 20) +
                " MiB of memory for it; llama.cpp without this module reads weights from the file as it needs them");
    return nullptr;
  }
  return ggml_backend_buffer_init(type, functions, memory, size);
}

// ---- plain ----

void set_plain(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
  std::memcpy(at(tensor, offset), data, size);
}

void get_plain(ggml_backend_buffer_t, const ggml_tensor* tensor, void* data, size_t offset, size_t size) {
  std::memcpy(data, at(tensor, offset), size);
}

void memset_plain(ggml_backend_buffer_t, ggml_tensor* tensor, uint8_t value, size_t offset, size_t size) {
  std::memset(at(tensor, offset), value, size);
}

bool copy_plain(ggml_backend_buffer_t, const ggml_tensor* source, ggml_tensor* target) {
  if (!ggml_backend_buffer_is_host(source->buffer)) return false;
  std::memcpy(target->data, source->data, ggml_nbytes(source));
  return true;
}

constexpr ggml_backend_buffer_i kPlain = {
    .free_buffer = free_buffer,
    .get_base = base_of,
    .memset_tensor = memset_plain,
    .set_tensor = set_plain,
    .get_tensor = get_plain,
    .cpy_tensor = copy_plain,
    .clear = fill,
};

// ---- packed weights ----

/// The tensor that holds the bytes: a view's are those of what it looks at.
ggml_tensor* owner_of(const ggml_tensor* tensor) {
  return tensor->view_src ? tensor->view_src : const_cast<ggml_tensor*>(tensor);
}

/// Of what is `offset` bytes within the tensor, within its owner.
size_t within_owner(const ggml_tensor* tensor, size_t offset) {
  return (tensor->view_src ? tensor->view_offs : 0) + offset;
}

std::vector<std::byte> unpacked(const ggml_tensor& tensor) {
  std::vector<std::byte> bytes(ggml_nbytes(&tensor));
  unpack(tensor, bytes.data());
  return bytes;
}

/// Changes part of the weights, which are laid out anew where they are packed.
template <typename Change>
void change(ggml_tensor* tensor, size_t offset, Change write) {
  ggml_tensor* owner = owner_of(tensor);
  const KernelFunctions* kernel = packed_for(*owner);
  if (!kernel) return write(at(tensor, offset));
  std::vector<std::byte> bytes = unpacked(*owner);
  write(bytes.data() + within_owner(tensor, offset));
  pack(*owner, *kernel, bytes.data());
}

const Kernels& kernels_of(ggml_backend_buffer_type_t type) {
  return *static_cast<const Kernels*>(type->context);
}

void set_weights(ggml_backend_buffer_t buffer, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
  const bool is_whole = !tensor->view_src && offset == 0 && size == ggml_nbytes(tensor);
  const KernelFunctions* kernel = is_whole ? kernels_of(buffer->buft).of_weights(*tensor) : nullptr;
  if (kernel)
    pack(*tensor, *kernel, data);
  else
    change(tensor, offset, [&](std::byte* target) { std::memcpy(target, data, size); });
  release_file_pages(data, size);
}

void get_weights(ggml_backend_buffer_t, const ggml_tensor* tensor, void* data, size_t offset, size_t size) {
  const ggml_tensor* owner = owner_of(tensor);
  if (!packed_for(*owner)) {
    std::memcpy(data, at(tensor, offset), size);
    return;
  }
  const std::vector<std::byte> bytes = unpacked(*owner);
  std::memcpy(data, bytes.data() + within_owner(tensor, offset), size);
}

void memset_weights(ggml_backend_buffer_t, ggml_tensor* tensor, uint8_t value, size_t offset, size_t size) {
  change(tensor, offset, [&](std::byte* target) { std::memset(target, value, size); });
}

constexpr ggml_backend_buffer_i kWeights = {
    .free_buffer = free_buffer,
    .get_base = base_of,
    .memset_tensor = memset_weights,
    .set_tensor = set_weights,
    .get_tensor = get_weights,
    .clear = fill,
};

size_t alignment_of(ggml_backend_buffer_type_t) {
  return kAlignment;
}

}  // namespace

ggml_backend_buffer_type make_plain_buffers(ggml_backend_dev_t device) {
  ggml_backend_buffer_type type = {};
  type.iface.get_name = [](ggml_backend_buffer_type_t) { return "HAQA"; };
  type.iface.alloc_buffer = [](ggml_backend_buffer_type_t t, size_t size) { return allocate(t, kPlain, size); };
  type.iface.get_alignment = alignment_of;
  type.iface.is_host = [](ggml_backend_buffer_type_t) { return true; };
  type.device = device;
  return type;
}

ggml_backend_buffer_type make_weight_buffers(ggml_backend_dev_t device, const Kernels& kernels) {
  ggml_backend_buffer_type type = {};
  type.iface.get_name = [](ggml_backend_buffer_type_t) { return "HAQA_packed"; };
  type.iface.alloc_buffer = [](ggml_backend_buffer_type_t t, size_t size) { return allocate(t, kWeights, size); };
  type.iface.get_alignment = alignment_of;
  type.iface.get_alloc_size = [](ggml_backend_buffer_type_t t, const ggml_tensor* tensor) {
    return room_for(kernels_of(t), *tensor);
  };
  type.iface.is_host = [](ggml_backend_buffer_type_t) { return false; };
  type.device = device;
  type.context = const_cast<Kernels*>(&kernels);
  return type;
}

}  // namespace haqa
