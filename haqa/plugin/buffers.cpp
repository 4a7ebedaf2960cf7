#include "haqa/plugin/buffers.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "haqa/plugin/log.h"
#include "haqa/plugin/memory.h"
#include "haqa/plugin/weights.h"

namespace haqa {
namespace {

constexpr size_t kAlignment = 64;

/// What a buffer holds. Which of its tensors are packed is known by where they lie: others write to `extra` as well.
struct Contents {
  explicit Contents(Memory own) : memory(std::move(own)) {}
  Memory memory;
  std::mutex mutex;  ///< of what follows: a host may load by several threads
  std::unordered_map<const void*, const KernelFunctions*> packed;
};

Contents& contents_of(ggml_backend_buffer_t buffer) {
  return *static_cast<Contents*>(buffer->context);
}

void* base_of(ggml_backend_buffer_t buffer) {
  // Probes are of size 0 and have no memory, but ggml wants an address.
  std::byte* data = contents_of(buffer).memory.data();
  return data ? data : reinterpret_cast<void*>(kAlignment);
}

void free_buffer(ggml_backend_buffer_t buffer) {
  delete &contents_of(buffer);
}

void fill(ggml_backend_buffer_t buffer, uint8_t value) {
  if (buffer->size > 0) std::memset(contents_of(buffer).memory.data(), value, buffer->size);
}

std::byte* at(const ggml_tensor* tensor, size_t offset) {
  return static_cast<std::byte*>(tensor->data) + offset;
}

/// Null where there is no memory, as ggml has it: `without` says in the log what the host could do then.
ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, const ggml_backend_buffer_i& functions, size_t size,
                               const char* without) try {
  constexpr size_t kWorthLargePages = size_t{16} << 20;
  Memory memory(size, size >= kWorthLargePages ? Pages::large : Pages::small);
  if (size > 0 && !memory) throw std::bad_alloc();
  auto contents = std::make_unique<Contents>(std::move(memory));
  return ggml_backend_buffer_init(type, functions, contents.release(), size);
} catch (const std::bad_alloc&) {
  log_warning("there are no " + std::to_string(size >> 20) + " MiB of memory for " + without);
  return nullptr;
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

std::vector<std::byte> unpacked(const ggml_tensor& tensor, const KernelFunctions& kernel) {
  std::vector<std::byte> bytes(ggml_nbytes(&tensor));
  unpack(tensor, kernel, bytes.data());
  return bytes;
}

void pack_in_place(const ggml_tensor& tensor, const KernelFunctions& kernel, const void* source) {
  pack(tensor, kernel, source, tensor.data);
  Contents& contents = contents_of(tensor.buffer);
  const std::lock_guard lock(contents.mutex);
  contents.packed[tensor.data] = &kernel;
}

/// ggml's functions that read and write tensors return nothing, and no exception can pass them.
template <typename Work>
void or_end(Work work) {
  try {
    work();
  } catch (const std::exception& e) {
    GGML_ABORT("haqa: weights cannot be laid out anew: %s", e.what());
  }
}

/// Changes part of the weights, which are laid out anew where they are packed.
template <typename Change>
void change(ggml_tensor* tensor, size_t offset, Change write) {
  ggml_tensor* owner = owner_of(tensor);
  const KernelFunctions* kernel = packed_for(*owner);
  if (!kernel) return write(at(tensor, offset));
  std::vector<std::byte> bytes = unpacked(*owner, *kernel);
  write(bytes.data() + within_owner(tensor, offset));
  pack_in_place(*owner, *kernel, bytes.data());
}

const Kernels& kernels_of(ggml_backend_buffer_type_t type) {
  return *static_cast<const Kernels*>(type->context);
}

void set_weights(ggml_backend_buffer_t buffer, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
  const bool is_whole = !tensor->view_src && offset == 0 && size == ggml_nbytes(tensor);
  const KernelFunctions* kernel = is_whole ? kernels_of(buffer->buft).of_weights(*tensor) : nullptr;
  or_end([&] {
    if (kernel)
      pack_in_place(*tensor, *kernel, data);
    else
      change(tensor, offset, [&](std::byte* target) { std::memcpy(target, data, size); });
    release_file_pages(data, size);
  });
}

void get_weights(ggml_backend_buffer_t, const ggml_tensor* tensor, void* data, size_t offset, size_t size) {
  const ggml_tensor* owner = owner_of(tensor);
  const KernelFunctions* kernel = packed_for(*owner);
  if (!kernel) {
    std::memcpy(data, at(tensor, offset), size);
    return;
  }
  or_end([&] {
    const std::vector<std::byte> bytes = unpacked(*owner, *kernel);
    std::memcpy(data, bytes.data() + within_owner(tensor, offset), size);
  });
}

void memset_weights(ggml_backend_buffer_t, ggml_tensor* tensor, uint8_t value, size_t offset, size_t size) {
  or_end([&] { change(tensor, offset, [&](std::byte* target) { std::memset(target, value, size); }); });
}

/// All bytes are those of ggml's layout then.
void clear_weights(ggml_backend_buffer_t buffer, uint8_t value) {
  Contents& contents = contents_of(buffer);
  const std::lock_guard lock(contents.mutex);
  contents.packed.clear();
  fill(buffer, value);
}

constexpr ggml_backend_buffer_i kWeights = {
    .free_buffer = free_buffer,
    .get_base = base_of,
    .memset_tensor = memset_weights,
    .set_tensor = set_weights,
    .get_tensor = get_weights,
    .clear = clear_weights,
};

ggml_backend_buffer_t allocate_plain(ggml_backend_buffer_type_t type, size_t size) {
  return allocate(type, kPlain, size, "caches and intermediate results");
}

/// All of it will be written, and the system would rather end a process than refuse memory by then.
ggml_backend_buffer_t allocate_weights(ggml_backend_buffer_type_t type, size_t size) {
  constexpr const char* kWithout =
      "packed weights; llama.cpp without this module reads weights from the file as it needs them";
  if (size <= available_memory()) return allocate(type, kWeights, size, kWithout);
  log_warning("there are no " + std::to_string(size >> 20) + " MiB of memory for " + kWithout);
  return nullptr;
}

size_t alignment_of(ggml_backend_buffer_type_t) {
  return kAlignment;
}

}  // namespace

ggml_backend_buffer_type make_plain_buffers(ggml_backend_dev_t device) {
  ggml_backend_buffer_type type = {};
  type.iface.get_name = [](ggml_backend_buffer_type_t) { return "HAQA"; };
  type.iface.alloc_buffer = allocate_plain;
  type.iface.get_alignment = alignment_of;
  type.iface.is_host = [](ggml_backend_buffer_type_t) { return true; };
  type.device = device;
  return type;
}

ggml_backend_buffer_type make_weight_buffers(ggml_backend_dev_t device, const Kernels& kernels) {
  ggml_backend_buffer_type type = {};
  type.iface.get_name = [](ggml_backend_buffer_type_t) { return "HAQA_packed"; };
  type.iface.alloc_buffer = allocate_weights;
  type.iface.get_alignment = alignment_of;
  type.iface.get_alloc_size = [](ggml_backend_buffer_type_t t, const ggml_tensor* tensor) {
    return room_for(kernels_of(t), *tensor);
  };
  type.iface.is_host = [](ggml_backend_buffer_type_t) { return false; };
  type.device = device;
  type.context = const_cast<Kernels*>(&kernels);
  return type;
}

const KernelFunctions* packed_for(const ggml_tensor& tensor) {
  const ggml_tensor& owner = *owner_of(&tensor);
  if (!owner.buffer || owner.buffer->iface.clear != clear_weights) return nullptr;
  Contents& contents = contents_of(owner.buffer);
  const std::lock_guard lock(contents.mutex);
  const auto at = contents.packed.find(owner.data);
  return at == contents.packed.end() ? nullptr : at->second;
}

}  // namespace haqa
