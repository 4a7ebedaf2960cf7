#pragma once
#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "haqa/base/descriptor.h"
#include "haqa/worker/process.h"
#include "haqa/worker/process_group.h"

namespace haqa {

/// A running program with pipes to it, its limits, and what has been read of it: what run_process() and ServingProcess
/// share.
class PipedProcess {
 public:
  using OnLine = std::function<void(std::string_view)>;

  /// serves: its standard input stays open for exchange(). The command must outlive this.
  explicit PipedProcess(const Command& command, bool serves = false);

  /// To its end.
  ProcessResult run(const OnLine& on_line);

  /// What came after the answer before is dropped; what it said before the first request is not.
  /// Feeds a request and waits until `answered` is set by on_line, or for the end.
  std::optional<ProcessResult> exchange(std::string_view request, const OnLine& on_line, const bool& answered);

  bool finished();  ///< looks whether it has ended
  bool ended() const { return group_->leader() < 0; }

 private:
  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  void drop_what_came();
  void work();
  ProcessResult end();
  void wait_for_output();
  void feed();
  void drain(Descriptor& fd, bool is_output);
  void take_output(std::string_view text);
  void end_line();
  void take_errors(std::string_view text);
  void enforce_limits();
  void stop(ProcessEnd end);

  using Clock = std::chrono::steady_clock;
  const Command& command_;
  const bool serves_;
  const OnLine* on_line_ = nullptr;
  Clock::time_point start_;
  bool asked_ = false;
  Descriptor in_, out_, err_;
  std::string_view input_;
  size_t fed_ = 0;
  std::string line_;
  bool returned_ = false;  ///< whether a carriage return ended the line before: a line feed after it ends none
  ProcessResult result_;
  std::optional<ProcessGroup> group_;
};

}  // namespace haqa
