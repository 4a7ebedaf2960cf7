#include "haqa/base/descriptor.h"

#include <cerrno>

namespace haqa {

void Descriptor::reset(int fd) {
  const int reason = errno;
  if (fd_ >= 0) close(fd_);
  errno = reason;
  fd_ = fd;
}

}  // namespace haqa
