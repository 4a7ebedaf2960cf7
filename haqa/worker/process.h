#pragma once
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace haqa {

struct Command {
  std::vector<std::string> argv;  ///< argv[0] is searched in PATH unless it holds a slash
  std::vector<std::pair<std::string, std::string>> environment = {};  ///< added to this process's own
  double timeout_s = 0;                                               ///< 0: none
  uint64_t memory_bytes =
      0;  ///< memory above which the child is ended: resident, but for file pages that can be dropped; 0: none
  std::string input = {};            ///< written to its standard input
  size_t longest_line = 256u << 20;  ///< bytes; what a line has beyond them is dropped before on_line sees it
};

enum class ProcessEnd { exited, signalled, timed_out, out_of_memory };

struct ProcessResult {
  ProcessEnd end = ProcessEnd::exited;
  int code = 0;                ///< exit status, or the signal's number
  std::string output, errors;  ///< the first 256 MiB of standard output, the last 64 KiB of standard error
  uint64_t held_bytes = 0;     ///< what was above the limit, where that ended it
  uint64_t peak_bytes = 0;     ///< largest resident memory seen, shared file pages included
  double seconds = 0;

  bool ok() const { return end == ProcessEnd::exited && code == 0; }
  /// "exit status 1: error: failed to load model" and the like: the state and the last telling line of its errors.
  std::string describe() const;
};

/// Runs a program to its end. It gets a process group of its own, dies with this process, and is killed with its
/// children on time-out, on too much memory, and when the user interrupts (then throws Interrupted).
/// `on_line` sees each complete line of standard output as it comes; where given, `output` stays empty.
/// Throws Error where the program cannot be started.
ProcessResult run_process(const Command& command, const std::function<void(std::string_view)>& on_line = {});

/// A program that stays and answers one request after another, a line each. It is started with the first request, and
/// anew with the next one after it ended; killed with its children by the destructor. One request at a time.
class ServingProcess {
 public:
  /// command.timeout_s is that of one request; command.input is not used.
  explicit ServingProcess(Command command);
  ~ServingProcess();
  ServingProcess(ServingProcess&&) noexcept;
  ServingProcess& operator=(ServingProcess&&) noexcept;

  /// Sends a line and hands over those that come back (what came before it is dropped) until on_line says true: the
  /// answer is whole. Returns how the program ended where it did so before, by a limit say; nothing where it answered.
  /// What on_line throws ends it too. Throws Interrupted, and Error where the program cannot be started.
  std::optional<ProcessResult> ask(const std::string& request, const std::function<bool(std::string_view)>& on_line);

 private:
  struct Owner;
  std::unique_ptr<Owner> owner_;
};

/// A program that goes on beside this one, its output in a file; killed by the destructor.
class BackgroundProcess {
 public:
  BackgroundProcess(const Command& command, const std::filesystem::path& log);
  ~BackgroundProcess();
  BackgroundProcess(const BackgroundProcess&) = delete;
  BackgroundProcess& operator=(const BackgroundProcess&) = delete;
  bool running();
  /// Nothing happens where it has ended: its number may be another's by then.
  void signal(int number);

 private:
  pid_t pid_ = -1;
};

/// From now on Ctrl-C and SIGTERM make run_process() and check_interrupted() throw Interrupted. Call once, in main.
void install_interrupt_handler();
bool interrupted();
void check_interrupted();

}  // namespace haqa
