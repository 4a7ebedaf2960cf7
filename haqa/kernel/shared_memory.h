#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "haqa/base/descriptor.h"

namespace haqa {

/// Memory that other processes map by its path, while this one lives. Zeros at first; only what is touched takes room.
class SharedMemory {
 public:
  /// Throws NoMemoryError.
  explicit SharedMemory(uint64_t bytes);
  /// Maps that of another process. Throws Error.
  SharedMemory(const std::filesystem::path& path, uint64_t bytes, bool writable);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  std::filesystem::path path() const;

 private:
  Descriptor fd_;
  std::byte* data_ = nullptr;
  uint64_t bytes_;
};

}  // namespace haqa
