#include "haqa/worker/serving_process.h"

#include <utility>

#include "haqa/worker/piped_process.h"

namespace haqa {

struct ServingProcess::State {
  const Command command;
  std::optional<PipedProcess> program = {};
};

ServingProcess::ServingProcess(Command command) : state_(new State{std::move(command)}) {}
ServingProcess::~ServingProcess() = default;
ServingProcess::ServingProcess(ServingProcess&&) noexcept = default;
ServingProcess& ServingProcess::operator=(ServingProcess&&) noexcept = default;

std::optional<ProcessResult> ServingProcess::ask(const std::string& request,
                                                 const std::function<bool(std::string_view)>& on_line) {
  check_interrupted();
  std::optional<PipedProcess>& program = state_->program;
  if (program && program->finished()) program.reset();  // after its last answer, so that it failed no request
  const bool fresh = !program;
  if (fresh) program.emplace(state_->command, true);
  bool answered = false, silent = true;
  std::optional<ProcessResult> ended;
  try {
    ended = program->exchange(
        request + "\n",
        [&](std::string_view line) {
          silent = false;
          if (!answered) answered = on_line(line);
        },
        answered);
  } catch (...) {
    program.reset();
    throw;
  }
  if (program->ended()) program.reset();
  // It was about to end of itself when the request came. One that failed is not asked again.
  const bool again = ended && !fresh && silent && ended->ok();
  return again ? ask(request, on_line) : std::move(ended);
}

}  // namespace haqa
