#include "haqa/kernel/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "haqa/base/error.h"

namespace haqa {
namespace {

std::byte* mapped(int fd, uint64_t bytes, bool writable) {
  void* memory = mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (memory == MAP_FAILED)
    throw NoMemoryError("cannot map {} bytes of shared memory: {}", bytes, std::strerror(errno));
  if (writable) madvise(memory, bytes, MADV_HUGEPAGE);  // where the system allows it
  return static_cast<std::byte*>(memory);
}

}  // namespace

SharedMemory::SharedMemory(uint64_t bytes) : fd_(memfd_create("haqa-kernel", MFD_CLOEXEC)), bytes_(bytes) {
  if (!fd_ || ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0)
    throw NoMemoryError("cannot make shared memory: {}", std::strerror(errno));
  data_ = mapped(fd_.get(), bytes, true);
}

SharedMemory::SharedMemory(const std::filesystem::path& path, uint64_t bytes, bool writable)
    : fd_(open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC)), bytes_(bytes) {
  if (!fd_) throw Error("{}: cannot be opened: {}", path.string(), std::strerror(errno));
  data_ = mapped(fd_.get(), bytes, writable);
  fd_.reset();
}

SharedMemory::~SharedMemory() {
  munmap(data_, bytes_);
}

std::filesystem::path SharedMemory::path() const {
  return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd_.get());
}

}  // namespace haqa
