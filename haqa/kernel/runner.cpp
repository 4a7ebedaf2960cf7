#include "haqa/kernel/runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>

#include "haqa/base/error.h"
#include "haqa/kernel/sandbox.h"

namespace haqa {
namespace {

/// Confined processes may not do what the sanitizer's check of an object's class does: open a pipe.
__attribute__((no_sanitize("vptr"))) void dispatch(Runner& runner, Request request) {
  switch (request) {
    case Request::begin:
      return;
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

/// Standard output becomes /dev/null, and answers go where it was.
void keep_answers_apart() {
  const int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 100), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0) throw Error("/dev/null: {}", std::strerror(errno));
  close(nowhere);
  answers = fd;
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

void answer_failure(const char* why, Control& control) {
  std::strncpy(control.message, why, sizeof control.message - 1);
  answer(kFailed);
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

void serve_device(const RunnerArguments& arguments,
                  const std::function<std::unique_ptr<Runner>(const RunnerMemory&)>& make) {
  keep_answers_apart();  // before any library could print
  const RunnerMemory memory(arguments);
  Control& control = memory.control();
  limit_driver();
  const auto failed = [&](Failure failure, const char* why) {
    control.failure = failure;
    serve_failure(why, control);
  };
  std::unique_ptr<Runner> runner;
  try {
    const auto start = std::chrono::steady_clock::now();
    runner = make(memory);
    control.compile_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } catch (const CompileError& e) {
    return failed(Failure::does_not_compile, e.what());
  } catch (const UsageError& e) {
    return failed(Failure::no_device, e.what());
  } catch (const std::exception& e) {
    return failed(Failure::none, e.what());
  }
  serve(*runner, control);
}

}  // namespace haqa
