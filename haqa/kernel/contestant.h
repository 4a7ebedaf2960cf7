#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/kernel/protocol.h"
#include "haqa/kernel/shared_memory.h"
#include "haqa/worker/process_group.h"

namespace haqa {

/// What is wrong with a variant of a kernel.
enum class KernelFaultKind {
  refused_source,  ///< includes what it may not, or does not keep to the language
  does_not_compile,
  does_not_load,
  forbidden_call,  ///< made a system call: threads, files, sockets, memory, sleep
  crashed,
  ended_early,  ///< ended its process
  timed_out,
  out_of_bounds,  ///< wrote beside its output, or to its inputs
  not_written,    ///< left a part of its output as it was
  wrong_result,
  works_on,         ///< went on working after it had answered
  out_of_turn,      ///< answered what was not asked
  impossible_time,  ///< faster than arithmetic and memory allow
  does_not_run      ///< its device or its library refused it
};

std::string_view to_string(KernelFaultKind kind);  ///< "wrong result", ...
/// nullopt where to_string() gives no such name.
std::optional<KernelFaultKind> fault_kind(std::string_view name);

/// A fault of a variant: the outcome of its trial, never the study's end.
class KernelFault : public std::runtime_error {
 public:
  KernelFault(KernelFaultKind what, const std::string& why) : std::runtime_error(why), kind(what) {}
  KernelFaultKind kind;
};

/// The judge's memory, in which all contestants find the same inputs.
struct Contest {
  SharedMemory inputs{kInputBytes};
};

/// A process that runs one implementation of a kernel, as the judge sees it: its time is taken here, by this process's
/// clock, and its outputs are read from memory that is poisoned before.
class Contestant {
 public:
  /// command: the program and its first words, to which runner_arguments() and `rest` are added. An engine other than
  /// the processor's runs in the program's mode of that name. Throws Error where it cannot be started.
  Contestant(std::string name, const Contest& contest, const std::string& program, int threads, uint64_t weights_limit,
             const std::vector<std::string>& rest, bool is_confined, const std::string& engine = "cpu");

  const std::string& name() const { return name_; }
  int threads() const { return threads_; }
  bool is_confined() const { return is_confined_; }
  bool is_on_device() const { return is_on_device_; }
  bool is_checked() const { return is_checked_; }
  /// It only takes time.
  void output_means_nothing() { is_checked_ = false; }
  std::byte* outputs() { return outputs_.data(); }
  /// Empty on the processor.
  std::string device() const;
  Control& control() { return *reinterpret_cast<Control*>(outputs_.data()); }

  /// Hands over a problem. Throws KernelFault, as all below.
  void prepare(double timeout_s);
  /// Does the launches and returns the seconds they took, what waking and answering takes included. Afterwards a
  /// confined one may not work on.
  double run(std::span<const LaunchPlace> places, double timeout_s);
  /// Seconds of processor time that it has used so far, all its threads.
  double cpu_seconds() const;
  /// Seconds that each of its threads has waited for a processor so far, while others had it.
  std::vector<double> waited_seconds() const;
  /// Whether one of its threads runs or waits for a processor. Processor time tells less: that of a running thread is
  /// counted tick by tick.
  bool is_running() const;
  /// Returns once none does, or throws.
  void wait_until_idle();
  /// Throws where it has worked since it last came to rest, as while others were timed.
  void check_rest();
  /// How often it used processor time behind the clock's back so far, as an accident of the machine's looks as well:
  /// few are no fault, but what was timed meanwhile means nothing.
  int suspicions() const { return suspicions_; }

 private:
  bool is_watched() const { return is_confined_ && !is_on_device_; }
  [[noreturn]] void fail(KernelFaultKind kind, const std::string& why) const;
  double timed(Request request, double timeout_s);
  std::vector<std::string> read_of_threads(const char* name) const;
  void ask(Request request);
  void await(Request request, double timeout_s);
  void check_used(double beyond, const char* when);
  [[noreturn]] void throw_failure(Request request);
  [[noreturn]] void throw_end(int status);

  std::string name_;
  int threads_;
  bool is_confined_;  ///< runs code that nobody has read
  bool is_checked_ = true;
  bool is_on_device_;  ///< its outputs are copied when they are fetched, which takes time
  SharedMemory outputs_{kOutputBytes};
  Pipe in_, out_;
  std::optional<ProcessGroup> group_;
  clockid_t cpu_clock_ = 0;
  bool has_begun_ = false;
  std::optional<double> rested_;  ///< cpu_seconds() when it last came to rest
  double beyond_ = 0;             ///< processor seconds that it used while nobody waited for it, in no suspect run
  double taken_ = 0, after_ = 0;  ///< seconds of all runs until it answered, and processor seconds from there to rest
  int runs_ = 0, suspicions_ = 0;
};

}  // namespace haqa
