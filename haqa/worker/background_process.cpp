#include "haqa/worker/background_process.h"

#include <fcntl.h>
#include <signal.h>

#include <cerrno>
#include <cstring>

#include "haqa/base/error.h"

namespace haqa {

BackgroundProcess::BackgroundProcess(const Command& command, const std::filesystem::path& log) {
  const Descriptor out = lifted(open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!out) throw Error("{}: cannot write: {}", log.string(), std::strerror(errno));
  const Descriptor in = lifted(open("/dev/null", O_RDONLY | O_CLOEXEC));
  group_.emplace(command, in.get(), out.get(), out.get());
}

bool BackgroundProcess::running() {
  group_->reap();
  return group_->leader() > 0;
}

void BackgroundProcess::signal(int number) {
  if (running()) kill(group_->leader(), number);
}

}  // namespace haqa
