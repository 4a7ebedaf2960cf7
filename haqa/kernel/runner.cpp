#include "haqa/kernel/runner.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <exception>

#include "haqa/base/error.h"

namespace haqa {
namespace {

void dispatch(Runner& runner, Request request) {
  switch (request) {
    case Request::prepare:
      return runner.prepare();
    case Request::load:
      return runner.load();
    case Request::run:
      return runner.run();
    case Request::fetch:
      return runner.fetch();
  }
}

void answer(char letter) {
  [[maybe_unused]] const ssize_t n = write(STDOUT_FILENO, &letter, 1);
}

void answer_failure(const char* why, Control& control) {
  std::strncpy(control.message, why, sizeof control.message - 1);
  answer(kFailed);
}

}  // namespace

RunnerMemory::RunnerMemory(const RunnerArguments& arguments)
    : inputs_(arguments.inputs, kInputBytes, false), outputs_(arguments.outputs, kOutputBytes, true) {}

RunnerArguments runner_arguments(int argc, char** argv) {
  if (argc < 6) throw UsageError("this program answers haqa's judge of kernels");
  return {argv[2], argv[3], std::stoi(argv[4]), std::stoull(argv[5])};
}

std::vector<std::string> to_words(const RunnerArguments& arguments) {
  return {"--runner", arguments.inputs.string(), arguments.outputs.string(), std::to_string(arguments.threads),
          std::to_string(arguments.weights_limit)};
}

void serve(Runner& runner, Control& control) {
  for (char letter = 0; read(STDIN_FILENO, &letter, 1) == 1;) {
    try {
      dispatch(runner, static_cast<Request>(letter));
      answer(letter);
    } catch (const std::exception& e) {
      answer_failure(e.what(), control);
    }
  }
}

void serve_failure(const char* why, Control& control) {
  for (char letter = 0; read(STDIN_FILENO, &letter, 1) == 1;) answer_failure(why, control);
}

}  // namespace haqa
