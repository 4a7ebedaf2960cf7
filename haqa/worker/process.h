#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace haqa {

struct Command {
  std::vector<std::string> argv;  ///< argv[0] is searched in PATH unless it holds a slash
  std::vector<std::pair<std::string, std::string>> environment = {};  ///< added to this process's own
  std::vector<std::string> without = {};  ///< names of this process's environment that it does not have
  double timeout_s = 0;                   ///< 0: none
  uint64_t memory_bytes =
      0;  ///< memory above which the child is ended: resident, but for file pages that can be dropped; 0: none
  std::string input = {};            ///< written to its standard input
  size_t longest_line = 256u << 20;  ///< bytes; what a longer line has before its last so many, on_line does not see
  bool own_environment = false;      ///< it has nothing of this process's
  bool returns_end_lines = false;    ///< a carriage return ends a line too, as in bars of progress
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

/// Runs a program to its end. It is killed with its children on time-out, on too much memory, when the user interrupts
/// (then throws Interrupted), and where this process is killed.
/// `on_line` sees each complete line of standard output as it comes; where given, `output` stays empty.
/// Throws Error where the program cannot be started.
ProcessResult run_process(const Command& command, const std::function<void(std::string_view)>& on_line = {});

/// From now on Ctrl-C, SIGTERM and the end of the terminal make run_process() and check_interrupted() throw
/// Interrupted. A signal that was ignored stays so: nohup means to outlive the terminal. Call once, in main.
void install_interrupt_handler();
bool interrupted();
void check_interrupted();

}  // namespace haqa
