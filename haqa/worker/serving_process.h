#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "haqa/worker/process.h"

namespace haqa {

/// A program that stays and answers one request after another, a line each. It is started with the first request, and
/// anew with the next one after it ended; killed with its children by the destructor. One request at a time.
class ServingProcess {
 public:
  /// command.timeout_s is that of one request; command.input is not used.
  explicit ServingProcess(Command command);
  ~ServingProcess();
  ServingProcess(ServingProcess&&) noexcept;
  ServingProcess& operator=(ServingProcess&&) noexcept;

  /// Sends a line and hands over those that come back (without what came after the answer before) until on_line says
  /// true: the answer is whole. Returns how the program ended where it did so before, by a limit say; nothing where it
  /// answered. One that ended with status 0 and not a word is taken for one that answers a request and ends, and asked
  /// anew. What on_line throws ends it too. Throws Interrupted, and Error where the program cannot be started.
  std::optional<ProcessResult> ask(const std::string& request, const std::function<bool(std::string_view)>& on_line);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace haqa
