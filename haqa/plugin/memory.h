#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace haqa {

/// How memory is asked for: weights stream faster through large pages, but one byte touched is 2 MiB used then.
enum class Pages { small, large };
/// Whether all of it will be used, so that there must be so much, or as a rule little: the system counts none of it
/// before it is touched then.
enum class Backing { all, as_touched };

/// Anonymous memory, zeros at first; none is used before it is touched.
class Memory {
 public:
  Memory() = default;
  /// Holds nothing where there is not so much.
  explicit Memory(size_t bytes, Pages pages = Pages::small, Backing backing = Backing::all);
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

/// Bytes that this process could still use before the system ends it, or another one: of the machine, swap and files'
/// pages included, and of each control group that it is in. Largest number where nothing is known. root: where /proc
/// and /sys are found.
uint64_t available_memory(const std::filesystem::path& root = "/");

/// Gives back the memory behind [data, data + size) where it is a file's, mapped to be read: the pages come again from
/// the file should someone read them. Nothing happens to other memory.
void release_file_pages(const void* data, size_t size);

}  // namespace haqa
