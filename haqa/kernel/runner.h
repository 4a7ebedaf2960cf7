#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/kernel/protocol.h"
#include "haqa/kernel/shared_memory.h"

namespace haqa {

/// The shared memory as a runner sees it.
class RunnerMemory {
 public:
  explicit RunnerMemory(const RunnerArguments& arguments);
  const std::byte* inputs() const { return inputs_.data(); }
  std::byte* outputs() const { return outputs_.data(); }
  /// A copy of the weights, each of which begins by another row (protocol.h).
  const std::byte* weights(size_t copy) const {
    const Control& c = control();
    return inputs() + c.weights_at + c.first_rows[copy % kMostCopies] * static_cast<uint64_t>(c.in[0].nb[1]);
  }
  Control& control() const { return *reinterpret_cast<Control*>(outputs_.data()); }

 private:
  SharedMemory inputs_, outputs_;
};

/// What one engine does for the judge (protocol.h). Throws Error where it cannot.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual void prepare() = 0;
  virtual void load() {}
  virtual void run() = 0;
  virtual void fetch() {}
};

/// Reads the mode, inputs, outputs, threads and the limit of weights from a command line.
RunnerArguments runner_arguments(int argc, char** argv);
std::vector<std::string> to_words(const RunnerArguments& arguments);

/// A variant's source did not compile; what() is what the compiler said.
class CompileError : public Error {
 public:
  using Error::Error;
};

/// Answers requests on standard input until it ends. Allocates nothing of its own.
void serve(Runner& runner, Control& control);
/// Answers a request by why it could not be done.
void answer_failure(const char* why, Control& control);
/// Answers every request by why there is no runner.
void serve_failure(const char* why, Control& control);

/// Serves the judge by a runner that is made in this process, which its device's driver shares: answers go where
/// nothing that a driver or a kernel prints can, and what making it took is told. `make` may throw CompileError,
/// UsageError (there is no such device) and others, which become answers.
void serve_device(const RunnerArguments& arguments,
                  const std::function<std::unique_ptr<Runner>(const RunnerMemory&)>& make);

}  // namespace haqa
