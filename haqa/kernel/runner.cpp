#include "haqa/kernel/runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>

#include "haqa/base/error.h"

namespace haqa {
namespace {

/// Confined processes may not do what the sanitizer's check of an object's class does: open a pipe.
__attribute__((no_sanitize("vptr"))) void dispatch(Runner& runner, Request request) {
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

int answers = STDOUT_FILENO;

void answer(char letter) {
  [[maybe_unused]] const ssize_t n = write(answers, &letter, 1);
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
  return {argv[2], argv[3], std::stoi(argv[4]), std::stoull(argv[5]), argv[1]};
}

std::vector<std::string> to_words(const RunnerArguments& arguments) {
  return {arguments.mode, arguments.inputs.string(), arguments.outputs.string(), std::to_string(arguments.threads),
          std::to_string(arguments.weights_limit)};
}

void keep_answers_apart() {
  const int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 100), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0) throw Error("/dev/null: {}", std::strerror(errno));
  close(nowhere);
  answers = fd;
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
