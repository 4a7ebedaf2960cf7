#include "haqa/worker/process_group.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "haqa/base/error.h"

namespace haqa {
namespace {

/// Again where a signal came in between.
template <typename Call>
auto uninterrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

int wait_for(pid_t pid) {
  int status = 0;
  uninterrupted([&] { return waitpid(pid, &status, 0); });
  return status;
}

/// Everything the child needs, made before fork(): between fork and exec only async-signal-safe calls are allowed.
struct ChildPlan {
  std::vector<char*> argv, environment;
  std::vector<std::string> texts;
  int in = -1, out = -1, err = -1, failure = -1, guard = -1;
};

ChildPlan plan_child(const Command& command) {
  ChildPlan plan;
  for (const std::string& word : command.argv) plan.argv.push_back(const_cast<char*>(word.c_str()));
  plan.argv.push_back(nullptr);
  for (const auto& [name, value] : command.environment) plan.texts.push_back(name + "=" + value);
  for (const std::string& text : plan.texts) plan.environment.push_back(const_cast<char*>(text.c_str()));
  for (char** entry = environ; *entry && !command.own_environment; ++entry) {
    const std::string_view text = *entry;
    const auto replaced = [&](const auto& pair) { return text.starts_with(pair.first + "="); };
    const auto named = [&](const std::string& name) { return text.starts_with(name + "="); };
    if (std::none_of(command.environment.begin(), command.environment.end(), replaced) &&
        std::none_of(command.without.begin(), command.without.end(), named))
      plan.environment.push_back(*entry);
  }
  plan.environment.push_back(nullptr);
  return plan;
}

[[noreturn]] void run_child(const ChildPlan& plan) {
  setpgid(0, 0);
  const pid_t self = getpid();
  [[maybe_unused]] ssize_t n = write(plan.guard, &self, sizeof self);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  dup2(plan.in, 0);
  dup2(plan.out, 1);
  dup2(plan.err, 2);
  execvpe(plan.argv[0], plan.argv.data(), plan.environment.data());
  const int code = errno;
  n = write(plan.failure, &code, sizeof code);
  _exit(127);
}

/// The guard is a copy of this process: only async-signal-safe calls here too.
[[noreturn]] void keep_guard(int pipe) {
  setpgid(0, 0);  // what a terminal sends to our group is not for it
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) signal(number, SIG_IGN);
  prctl(PR_SET_NAME, "child-guard");  // and not what `killall haqa` kills
  dup2(pipe, 0);
  closefrom(1);  // other guards' pipes among them
  pid_t leader = 0;
  if (uninterrupted([&] { return read(0, &leader, sizeof leader); }) != sizeof leader) _exit(0);
  char nothing = 0;
  if (uninterrupted([&] { return read(0, &nothing, 1); }) == 0) kill(-leader, SIGKILL);
  _exit(0);
}

}  // namespace

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw Error("cannot make a pipe: {}; too many open files?", std::strerror(errno));
  return {lifted(ends[0]), lifted(ends[1])};
}

Pipe make_input() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw Error("cannot make a socket: {}; too many open files?", std::strerror(errno));
  return {lifted(ends[0]), lifted(ends[1])};
}

Descriptor lifted(int fd) {
  if (fd < 0 || fd > 2) return Descriptor(fd);
  const Descriptor low(fd);
  return Descriptor(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

ProcessGroup::Guard::Guard() {
  Pipe pipe = make_pipe();
  pid_ = fork();
  if (pid_ < 0) throw Error("cannot start another process: {}", std::strerror(errno));
  if (pid_ == 0) keep_guard(pipe.read.get());
  alive_ = std::move(pipe.write);
}

ProcessGroup::Guard::~Guard() {
  kill(pid_, SIGKILL);
  wait_for(pid_);
}

ProcessGroup::ProcessGroup(const Command& command, int in, int out, int err) {
  Pipe failure = make_pipe();
  ChildPlan plan = plan_child(command);
  guard_.emplace();
  plan.in = in;
  plan.out = out;
  plan.err = err;
  plan.failure = failure.write.get();
  plan.guard = guard_->pipe();
  leader_ = fork();
  if (leader_ < 0) throw Error("cannot start {}: {}", command.argv[0], std::strerror(errno));
  if (leader_ == 0) run_child(plan);
  setpgid(leader_, leader_);  // both sides set it, so that neither runs before it is so
  failure.write.reset();
  int code = 0;
  if (uninterrupted([&] { return read(failure.read.get(), &code, sizeof code); }) != sizeof code) return;
  guard_.reset();
  wait_for(leader_);
  throw Error("cannot start {}: {}; is it built, and named rightly?", command.argv[0], std::strerror(code));
}

ProcessGroup::~ProcessGroup() {
  if (leader_ <= 0) return;
  kill_all();
  guard_.reset();
  wait_for(leader_);
}

std::optional<int> ProcessGroup::reap() {
  siginfo_t info = {};
  if (leader_ <= 0 || waitid(P_PID, static_cast<id_t>(leader_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid != leader_)
    return {};
  // Both before the leader is waited for, after which its number may be another's.
  kill_all();
  guard_.reset();
  return wait_for(std::exchange(leader_, -1));
}

void ProcessGroup::kill_all() {
  if (leader_ > 0) kill(-leader_, SIGKILL);
}

}  // namespace haqa
