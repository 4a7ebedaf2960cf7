#pragma once
#include <sys/types.h>

#include <optional>

#include "haqa/base/descriptor.h"
#include "haqa/worker/process.h"

namespace haqa {

struct Pipe {
  Descriptor read, write;
};

/// Throws Error where there are too many open files.
Pipe make_pipe();
/// A child's standard input: a socket, as writing to a child that has closed it must not raise SIGPIPE.
Pipe make_input();
/// Where this process was started without standard files, others get the numbers 0 to 2, which a child's own overwrite.
Descriptor lifted(int fd);

/// A program that was started, as the leader of a process group of its own. The group is killed by the destructor, and
/// where this process ends in whatever way, kill -9 too.
class ProcessGroup {
 public:
  /// Throws Error where the program cannot be started.
  ProcessGroup(const Command& command, int in, int out, int err);
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  pid_t leader() const { return leader_; }  ///< -1 once it was reaped
  /// The leader's status, as waitpid() gives it, where it has ended; nothing while it runs. What it left running ends
  /// too.
  std::optional<int> reap();
  void kill_all();

 private:
  /// A process that does nothing but wait for the end of this one, which it sees by the end of a pipe, and then kills
  /// the group. PR_SET_PDEATHSIG would reach the leader alone: mostly a shell, whose programs would run on.
  class Guard {
   public:
    Guard();
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    int pipe() const { return alive_.get(); }  ///< takes the leader's pid_t

   private:
    Descriptor alive_;
    pid_t pid_ = -1;
  };

  std::optional<Guard> guard_;
  pid_t leader_ = -1;
};

}  // namespace haqa
