#include "haqa/worker/process.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/worker/piped_process.h"

namespace haqa {
namespace {

// A signal handler can reach nothing but globals; everything else of this room is passed around.
std::atomic<bool> interrupt_seen{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int number) {
  // The second Ctrl-C ends the program at once, should anything hang. A terminal that goes sends SIGHUP twice itself.
  if (interrupt_seen.exchange(true) && number != SIGHUP) _exit(130);
}

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
  return PipedProcess(command).run(on_line);
}

void install_interrupt_handler() {
  struct sigaction action = {};
  action.sa_handler = on_signal;  // without SA_RESTART, so that reads from a terminal return
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction old = {};
    sigaction(number, nullptr, &old);
    if (old.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, [](int) {});  // the write fails instead; not ignored, which the programs that we start would inherit
  signal(SIGCHLD, SIG_DFL);     // where it is ignored, as some services start us, waitpid() learns nothing
}

bool interrupted() {
  return interrupt_seen;
}

void check_interrupted() {
  if (interrupt_seen) throw Interrupted("interrupted");
}

}  // namespace haqa
