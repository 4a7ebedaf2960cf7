#include "haqa/worker/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <future>
#include <mutex>
#include <thread>

#include "haqa/base/bytes.h"
#include "haqa/base/descriptor.h"
#include "haqa/base/error.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kErrorsKept = 64 * 1024;
constexpr size_t kOutputKept = 256u << 20;  // rubbish without end must not fill our memory; no result is as long
constexpr int kReadsAtOnce = 64;            // of 64 KiB; then the clock is looked at, whatever there is to read still

// A signal handler can reach nothing but globals; everything else of this file is passed around.
std::atomic<bool> interrupt_seen{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int) {
  // The second Ctrl-C ends the program at once, should anything hang.
  if (interrupt_seen.exchange(true)) _exit(130);
}

/// Where this process was started without standard files, others get the numbers 0 to 2, which dup2() of the child
/// overwrites.
Descriptor lifted(int fd) {
  if (fd < 0 || fd > 2) return Descriptor(fd);
  const Descriptor low(fd);
  return Descriptor(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

struct Pipe {
  Descriptor read, write;
};

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw Error("cannot make a pipe: {}; too many open files?", std::strerror(errno));
  return {lifted(ends[0]), lifted(ends[1])};
}

/// The child's standard input: a socket, as writing to a child that has closed it must not raise SIGPIPE.
Pipe make_input() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw Error("cannot make a socket: {}; too many open files?", std::strerror(errno));
  return {lifted(ends[0]), lifted(ends[1])};
}

/// Everything the child needs, made before fork(): between fork and exec only async-signal-safe calls are allowed.
struct ChildPlan {
  std::vector<char*> argv, environment;
  std::vector<std::string> texts;
  int in = -1, out = -1, err = -1, failure = -1;
  pid_t parent = 0;
};

ChildPlan plan_child(const Command& command) {
  ChildPlan plan;
  for (const std::string& word : command.argv) plan.argv.push_back(const_cast<char*>(word.c_str()));
  plan.argv.push_back(nullptr);
  for (const auto& [name, value] : command.environment) plan.texts.push_back(name + "=" + value);
  for (const std::string& text : plan.texts) plan.environment.push_back(const_cast<char*>(text.c_str()));
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text = *entry;
    const auto replaced = [&](const auto& pair) { return text.starts_with(pair.first + "="); };
    if (std::none_of(command.environment.begin(), command.environment.end(), replaced))
      plan.environment.push_back(*entry);
  }
  plan.environment.push_back(nullptr);
  plan.parent = getpid();
  return plan;
}

[[noreturn]] void run_child(const ChildPlan& plan) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != plan.parent) _exit(127);  // the parent died before prctl took hold
  signal(SIGPIPE, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  dup2(plan.in, 0);
  dup2(plan.out, 1);
  dup2(plan.err, 2);
  execvpe(plan.argv[0], plan.argv.data(), plan.environment.data());
  const int code = errno;
  [[maybe_unused]] const ssize_t n = write(plan.failure, &code, sizeof code);
  _exit(127);
}

/// Forks and execs. Throws Error where the program cannot be started.
pid_t spawn(const Command& command, int in, int out, int err) {
  Pipe failure = make_pipe();
  ChildPlan plan = plan_child(command);
  plan.in = in;
  plan.out = out;
  plan.err = err;
  plan.failure = failure.write.get();
  const pid_t pid = fork();
  if (pid < 0) throw Error("cannot start {}: {}", command.argv[0], std::strerror(errno));
  if (pid == 0) run_child(plan);
  setpgid(pid, pid);  // both sides set it, so that neither runs before it is so
  failure.write.reset();
  int code = 0;
  ssize_t n = 0;
  do n = read(failure.read.get(), &code, sizeof code);
  while (n < 0 && errno == EINTR);
  if (n == sizeof code) {
    waitpid(pid, nullptr, 0);
    throw Error("cannot start {}: {}; is it built, and named rightly?", command.argv[0], std::strerror(code));
  }
  return pid;
}

/// The status of a child that has ended; nothing while it runs. What it left running ends too.
std::optional<int> reap(pid_t pid) {
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != pid) return {};
  kill(-pid, SIGKILL);  // before waitpid(), after which the number may be another's
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

struct Memory {
  uint64_t resident = 0;
  /// Without the pages of mapped files that are not locked: the kernel takes those back where memory is short. A model
  /// that llama.cpp has re-laid for the CPU stays mapped beside its copy and would count twice.
  uint64_t held = 0;
};

/// Source: proc(5), /proc/pid/status. All 0 for a process that has ended.
Memory memory_of(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  uint64_t anonymous = 0, file = 0, shared = 0, locked = 0;
  const std::pair<std::string_view, uint64_t*> wanted[] = {
      {"RssAnon:", &anonymous}, {"RssFile:", &file}, {"RssShmem:", &shared}, {"VmLck:", &locked}};
  for (std::string line; std::getline(status, line);)
    for (const auto& [name, value] : wanted)
      if (line.starts_with(name)) *value = 1024 * std::strtoull(line.c_str() + name.size(), nullptr, 10);
  return {anonymous + file + shared, anonymous + shared + std::min(file, locked)};
}

using OnLine = std::function<void(std::string_view)>;

/// One running child: its pipes, and what has been read of them.
class Child {
 public:
  /// serves: its standard input stays open for exchange().
  explicit Child(const Command& command, bool serves = false)
      : command_(command), serves_(serves), start_(Clock::now()), input_(command.input) {
    Pipe in = make_input(), out = make_pipe(), err = make_pipe();
    pid_ = spawn(command, in.read.get(), out.write.get(), err.write.get());
    in_ = std::move(in.write);
    out_ = std::move(out.read);
    err_ = std::move(err.read);
    for (const int fd : {in_.get(), out_.get(), err_.get()}) fcntl(fd, F_SETFL, O_NONBLOCK);
    if (input_.empty() && !serves) in_.reset();
  }
  ~Child() {
    if (pid_ > 0) {
      kill(-pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  ProcessResult run(const OnLine& on_line) {
    on_line_ = on_line ? &on_line : nullptr;
    while (!finished()) work();
    return end();
  }

  /// Feeds a request and waits until `answered` is set by on_line, or for the end.
  std::optional<ProcessResult> exchange(std::string_view request, const OnLine& on_line, const bool& answered) {
    const OnLine ignore = [](std::string_view) {};
    on_line_ = &ignore;
    drain(out_, true);  // what came after the last answer is no part of this one
    drain(err_, false);
    line_.clear();
    on_line_ = &on_line;
    input_ = request;
    fed_ = 0;
    start_ = Clock::now();
    result_.errors.clear();
    while (!answered) {
      if (finished()) {
        ProcessResult result = end();  // its last lines may hold the answer
        return answered ? std::nullopt : std::optional(std::move(result));
      }
      work();
    }
    return std::nullopt;
  }

  bool ended() const { return pid_ < 0; }

 private:
  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  void work() {
    wait_for_output();
    check_interrupted();
    enforce_limits();
  }

  ProcessResult end() {
    drain(out_, true);
    drain(err_, false);
    if (on_line_ && !line_.empty()) (*on_line_)(line_);
    result_.seconds = elapsed();
    return std::move(result_);
  }

  void wait_for_output() {
    const int in = fed_ < input_.size() ? in_.get() : -1;
    std::array<pollfd, 3> fds = {{{out_.get(), POLLIN, 0}, {err_.get(), POLLIN, 0}, {in, POLLOUT, 0}}};
    poll(fds.data(), fds.size(), 20);
    if (fds[0].revents) drain(out_, true);
    if (fds[1].revents) drain(err_, false);
    if (fds[2].revents) feed();
  }

  void feed() {
    const ssize_t n = send(in_.get(), input_.data() + fed_, input_.size() - fed_, MSG_NOSIGNAL);
    if (n > 0) fed_ += static_cast<size_t>(n);
    const bool broken = n < 0 && errno != EAGAIN && errno != EINTR;
    if (broken || (fed_ == input_.size() && !serves_)) in_.reset();
  }

  void drain(Descriptor& fd, bool is_output) {
    std::array<char, 65536> buffer;
    ssize_t n = 0;
    for (int i = 0; i < kReadsAtOnce; ++i) {
      if (fd.get() < 0 || (n = read(fd.get(), buffer.data(), buffer.size())) <= 0) break;
      const std::string_view text(buffer.data(), static_cast<size_t>(n));
      is_output ? take_output(text) : take_errors(text);
    }
    if (n == 0) fd.reset();  // at its end
  }

  void take_output(std::string_view text) {
    if (!on_line_) {
      keep(result_.output, text, kOutputKept);
      return;
    }
    for (size_t end; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1)) {
      keep(line_, text.substr(0, end), command_.longest_line);
      (*on_line_)(line_);
      line_.clear();
    }
    keep(line_, text, command_.longest_line);
  }

  static void keep(std::string& all, std::string_view more, size_t most) {
    all += more.substr(0, most - std::min(most, all.size()));
  }

  void take_errors(std::string_view text) {
    result_.errors += text;
    if (result_.errors.size() > kErrorsKept) result_.errors.erase(0, result_.errors.size() - kErrorsKept);
  }

  void enforce_limits() {
    const Memory memory = memory_of(pid_);
    result_.peak_bytes = std::max(result_.peak_bytes, memory.resident);
    if (command_.timeout_s > 0 && elapsed() > command_.timeout_s) stop(ProcessEnd::timed_out);
    if (command_.memory_bytes == 0 || memory.held <= command_.memory_bytes) return;
    result_.held_bytes = memory.held;
    stop(ProcessEnd::out_of_memory);
  }

  void stop(ProcessEnd end) {
    if (result_.end != ProcessEnd::exited) return;
    result_.end = end;
    kill(-pid_, SIGKILL);
  }

  bool finished() {
    const std::optional<int> status = reap(pid_);
    if (!status) return false;
    pid_ = -1;
    if (result_.end == ProcessEnd::exited && WIFSIGNALED(*status)) result_.end = ProcessEnd::signalled;
    result_.code = WIFSIGNALED(*status) ? WTERMSIG(*status) : WEXITSTATUS(*status);
    return true;
  }

  const Command& command_;
  const bool serves_;
  const OnLine* on_line_ = nullptr;
  Clock::time_point start_;
  pid_t pid_ = -1;
  Descriptor in_, out_, err_;
  std::string_view input_;
  size_t fed_ = 0;
  std::string line_;
  ProcessResult result_;
};

}  // namespace

std::string ProcessResult::describe() const {
  std::string state;
  switch (end) {
    case ProcessEnd::exited:
      state = fmt::format("exit status {}", code);
      break;
    case ProcessEnd::signalled:
      state = fmt::format("ended by signal {} ({})", code, strsignal(code));
      break;
    case ProcessEnd::timed_out:
      return fmt::format("no result after {}", format_seconds(seconds));
    case ProcessEnd::out_of_memory:
      return fmt::format("held {} of memory, above its limit", format_bytes(held_bytes));
  }
  const std::string line = telling_line(errors, 297);
  return line.empty() ? state : state + ": " + line;
}

ProcessResult run_process(const Command& command, const std::function<void(std::string_view)>& on_line) {
  check_interrupted();
  return Child(command).run(on_line);
}

/// The thread that starts the program and talks with it. It has one of its own because PR_SET_PDEATHSIG means the
/// thread that forked: with that of a single trial the program would end too.
struct ServingProcess::Owner {
  using Task = std::packaged_task<std::optional<ProcessResult>()>;

  explicit Owner(Command c) : command(std::move(c)), thread([this](const std::stop_token& stop) { serve(stop); }) {}

  void serve(const std::stop_token& stop) {
    for (std::unique_lock lock(mutex); changed.wait(lock, stop, [&] { return task.valid(); });) {
      Task next = std::exchange(task, Task());
      lock.unlock();
      next();
      lock.lock();
    }
    child.reset();
  }

  std::optional<ProcessResult> exchange(const std::string& request,
                                        const std::function<bool(std::string_view)>& on_line) {
    check_interrupted();
    const bool fresh = !child;
    if (fresh) child.emplace(command, true);
    bool answered = false, silent = true;
    std::optional<ProcessResult> ended;
    try {
      ended = child->exchange(
          request,
          [&](std::string_view line) {
            silent = false;
            if (!answered) answered = on_line(line);
          },
          answered);
    } catch (...) {
      child.reset();
      throw;
    }
    if (child->ended()) child.reset();
    // One that ended of itself after its last answer did not fail this request.
    const bool again = ended && !fresh && silent && ended->end == ProcessEnd::exited;
    return again ? exchange(request, on_line) : std::move(ended);
  }

  const Command command;
  std::optional<Child> child;  ///< of the thread
  std::mutex mutex;            ///< of task
  std::condition_variable_any changed;
  Task task;
  std::jthread thread;  ///< last, so that it ends before the rest goes
};

ServingProcess::ServingProcess(Command command) : owner_(std::make_unique<Owner>(std::move(command))) {}
ServingProcess::~ServingProcess() = default;
ServingProcess::ServingProcess(ServingProcess&&) noexcept = default;
ServingProcess& ServingProcess::operator=(ServingProcess&&) noexcept = default;

std::optional<ProcessResult> ServingProcess::ask(const std::string& request,
                                                 const std::function<bool(std::string_view)>& on_line) {
  const std::string line = request + "\n";
  Owner::Task task([&] { return owner_->exchange(line, on_line); });
  std::future<std::optional<ProcessResult>> result = task.get_future();
  {
    const std::scoped_lock lock(owner_->mutex);
    owner_->task = std::move(task);
  }
  owner_->changed.notify_one();
  return result.get();
}

BackgroundProcess::BackgroundProcess(const Command& command, const std::filesystem::path& log) {
  const Descriptor out = lifted(open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (out.get() < 0) throw Error("{}: cannot write: {}", log.string(), std::strerror(errno));
  const Descriptor in = lifted(open("/dev/null", O_RDONLY | O_CLOEXEC));
  pid_ = spawn(command, in.get(), out.get(), out.get());
}

BackgroundProcess::~BackgroundProcess() {
  if (pid_ <= 0) return;
  kill(-pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool BackgroundProcess::running() {
  if (pid_ > 0 && reap(pid_)) pid_ = -1;
  return pid_ > 0;
}

void BackgroundProcess::signal(int number) {
  if (running()) kill(pid_, number);
}

void install_interrupt_handler() {
  struct sigaction action = {};
  action.sa_handler = on_signal;  // without SA_RESTART, so that reads from a terminal return
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);  // where it is ignored, as some services start us, waitpid() learns nothing
}

bool interrupted() {
  return interrupt_seen;
}

void check_interrupted() {
  if (interrupt_seen) throw Interrupted("interrupted");
}

}  // namespace haqa
