#include "haqa/worker/piped_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

namespace haqa {
namespace {

constexpr size_t kErrorsKept = 64 * 1024;
constexpr size_t kOutputKept = 256u << 20;  // rubbish without end must not fill our memory; no result is as long
constexpr size_t kSlack = 16u << 20;
constexpr int kReadsAtOnce = 64;  // of 64 KiB; then the clock is looked at, whatever there is to read still

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

void keep_first(std::string& all, std::string_view more, size_t most) {
  all += more.substr(0, most - std::min(most, all.size()));
}

void cut_to_last(std::string& all, size_t most) {
  if (all.size() > most) all.erase(0, all.size() - most);
}

/// Somewhat more than the last `most` bytes, as moving them with each piece would take long.
void keep_last(std::string& all, std::string_view more, size_t most) {
  all += more;
  if (all.size() > most + std::min(most, kSlack)) cut_to_last(all, most);
}

}  // namespace

PipedProcess::PipedProcess(const Command& command, bool serves)
    : command_(command), serves_(serves), start_(Clock::now()), input_(command.input) {
  Pipe in = make_input(), out = make_pipe(), err = make_pipe();
  group_.emplace(command, in.read.get(), out.write.get(), err.write.get());
  in_ = std::move(in.write);
  out_ = std::move(out.read);
  err_ = std::move(err.read);
  for (const int fd : {in_.get(), out_.get(), err_.get()}) fcntl(fd, F_SETFL, O_NONBLOCK);
  if (input_.empty() && !serves) in_.reset();
}

ProcessResult PipedProcess::run(const OnLine& on_line) {
  on_line_ = on_line ? &on_line : nullptr;
  while (!finished()) work();
  return end();
}

std::optional<ProcessResult> PipedProcess::exchange(std::string_view request, const OnLine& on_line,
                                                    const bool& answered) {
  if (std::exchange(asked_, true)) drop_what_came();
  on_line_ = &on_line;
  input_ = request;
  fed_ = 0;
  start_ = Clock::now();
  while (!answered) {
    if (finished()) {
      ProcessResult result = end();  // its last lines may hold the answer
      return answered ? std::nullopt : std::optional(std::move(result));
    }
    work();
  }
  return std::nullopt;
}

void PipedProcess::drop_what_came() {
  const OnLine ignore = [](std::string_view) {};
  on_line_ = &ignore;
  drain(out_, true);
  drain(err_, false);
  line_.clear();
  result_.errors.clear();
}

void PipedProcess::work() {
  wait_for_output();
  check_interrupted();
  enforce_limits();
}

ProcessResult PipedProcess::end() {
  drain(out_, true);
  drain(err_, false);
  if (on_line_ && !line_.empty()) end_line();
  result_.seconds = elapsed();
  return std::move(result_);
}

void PipedProcess::wait_for_output() {
  const int in = fed_ < input_.size() ? in_.get() : -1;
  std::array<pollfd, 3> fds = {{{out_.get(), POLLIN, 0}, {err_.get(), POLLIN, 0}, {in, POLLOUT, 0}}};
  poll(fds.data(), fds.size(), 20);
  if (fds[0].revents) drain(out_, true);
  if (fds[1].revents) drain(err_, false);
  if (fds[2].revents) feed();
}

void PipedProcess::feed() {
  const ssize_t n = send(in_.get(), input_.data() + fed_, input_.size() - fed_, MSG_NOSIGNAL);
  if (n > 0) fed_ += static_cast<size_t>(n);
  const bool broken = n < 0 && errno != EAGAIN && errno != EINTR;
  if (broken || (fed_ == input_.size() && !serves_)) in_.reset();
}

void PipedProcess::drain(Descriptor& fd, bool is_output) {
  std::array<char, 65536> buffer;
  ssize_t n = 0;
  for (int i = 0; i < kReadsAtOnce; ++i) {
    if (fd.get() < 0 || (n = read(fd.get(), buffer.data(), buffer.size())) <= 0) break;
    const std::string_view text(buffer.data(), static_cast<size_t>(n));
    is_output ? take_output(text) : take_errors(text);
  }
  if (n == 0) fd.reset();  // at its end
}

void PipedProcess::take_output(std::string_view text) {
  if (!on_line_) {
    keep_first(result_.output, text, kOutputKept);
    return;
  }
  const std::string_view ends = command_.returns_end_lines ? "\r\n" : "\n";
  for (size_t end; (end = text.find_first_of(ends)) != std::string_view::npos; text.remove_prefix(end + 1)) {
    keep_last(line_, text.substr(0, end), command_.longest_line);
    const bool second_half = text[end] == '\n' && returned_ && line_.empty();
    returned_ = text[end] == '\r';
    if (!second_half) end_line();
  }
  if (!text.empty()) returned_ = false;
  keep_last(line_, text, command_.longest_line);
}

void PipedProcess::end_line() {
  cut_to_last(line_, command_.longest_line);
  (*on_line_)(line_);
  line_.clear();
}

void PipedProcess::take_errors(std::string_view text) {
  result_.errors += text;
  cut_to_last(result_.errors, kErrorsKept);
}

void PipedProcess::enforce_limits() {
  const Memory memory = memory_of(group_->leader());
  result_.peak_bytes = std::max(result_.peak_bytes, memory.resident);
  if (command_.timeout_s > 0 && elapsed() > command_.timeout_s) stop(ProcessEnd::timed_out);
  if (command_.memory_bytes == 0 || memory.held <= command_.memory_bytes) return;
  result_.held_bytes = memory.held;
  stop(ProcessEnd::out_of_memory);
}

void PipedProcess::stop(ProcessEnd end) {
  if (result_.end != ProcessEnd::exited) return;
  result_.end = end;
  group_->kill_all();
}

bool PipedProcess::finished() {
  const std::optional<int> status = group_->reap();
  if (!status) return false;
  if (result_.end == ProcessEnd::exited && WIFSIGNALED(*status)) result_.end = ProcessEnd::signalled;
  result_.code = WIFSIGNALED(*status) ? WTERMSIG(*status) : WEXITSTATUS(*status);
  return true;
}

}  // namespace haqa
