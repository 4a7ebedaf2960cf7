#pragma once
#include <cstddef>

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

/// From now on answers go where nothing that a driver or a kernel prints can: standard output becomes /dev/null.
void keep_answers_apart();
/// Answers requests on standard input until it ends. Allocates nothing of its own.
void serve(Runner& runner, Control& control);
/// Answers every request by why there is no runner.
void serve_failure(const char* why, Control& control);

}  // namespace haqa
