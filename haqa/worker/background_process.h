#pragma once
#include <filesystem>
#include <optional>

#include "haqa/worker/process_group.h"

namespace haqa {

/// A program that goes on beside this one, its output in a file; killed with its children by the destructor.
class BackgroundProcess {
 public:
  /// Throws Error where the log cannot be written or the program not be started.
  BackgroundProcess(const Command& command, const std::filesystem::path& log);
  bool running();
  /// Nothing happens where it has ended: its number may be another's by then.
  void signal(int number);

 private:
  std::optional<ProcessGroup> group_;
};

}  // namespace haqa
