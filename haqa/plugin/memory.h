#pragma once
#include <cstddef>

namespace haqa {

/// How memory is asked for: weights stream faster through large pages, but one byte touched is 2 MiB used then.
enum class Pages { small, large };

/// Anonymous memory, zeros at first; none is used before it is touched.
class Memory {
 public:
  Memory() = default;
  /// Holds nothing where there is not so much.
  explicit Memory(size_t bytes, Pages pages = Pages::small);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Gives back the memory behind [data, data + size) where it is a file's, mapped to be read: the pages come again from
/// the file should someone read them. Nothing happens to other memory.
void release_file_pages(const void* data, size_t size);

}  // namespace haqa
