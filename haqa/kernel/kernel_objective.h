#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/hardware/profile.h"
#include "haqa/kernel/kernel_spec.h"
#include "haqa/study/study.h"
#include "haqa/worker/worker.h"

namespace haqa {

/// The name of the parameter that holds a source of the agent's own; empty: the shipped one.
inline constexpr const char* kCode = "code";

/// The engine's space as it is on a machine: teams of no more threads than it has, the compilers that are installed;
/// with_code: and the source, for who can write one.
SearchSpace machine_space(const SearchSpace& space, int threads, std::span<const std::string> compilers,
                          bool with_code = false);

/// One kernel on one problem, to be measured by the worker haqa-kernel.
struct KernelTask {
  KernelSpec spec;
  std::filesystem::path folder;  ///< of the specification
  std::string engine = "cpu";
  KernelProblem problem;
  HardwareProfile hardware;
  double seconds = 0.5;  ///< of timing a round
  int rotations = 6;     ///< at least
  uint64_t seed = 1;
};

/// What is asked of the worker for a configuration (measure.h); `command` is "verify" or "measure".
Json kernel_request(const KernelTask& task, const std::string& command, const Configuration& configuration);

/// What an answer of the worker says of a variant with a fault; nothing where it has none.
std::optional<Outcome> fault_outcome(const Json& answer);
/// Of a worker that did not answer: what became of it is the variant's doing. Nothing where the judge itself says what
/// is wrong: no compiler, a baseline that fails.
std::optional<Outcome> lost_outcome(const WorkerError& error);

/// How many times as fast as llama.cpp's own implementation a configuration of a kernel is: it is compiled, verified,
/// and timed in turn with that. Value: the median of the paired ratios; a fault is the trial's outcome.
class KernelObjective : public Objective {
 public:
  explicit KernelObjective(KernelTask task, std::function<void(double)> progress = {});
  Outcome evaluate(const Configuration& configuration, const Report& report = {}) override;

  /// Builds it anew and verifies and times it in a fresh process, beside all of `against`; cold: caches other than the
  /// specification's where given. Throws WorkerError; a fault is in the answer, as "fault" and "message".
  Json confirm(const Configuration& configuration, const std::vector<std::string>& against,
               std::optional<bool> cold = {}) const;
  const KernelTask& task() const { return task_; }

 private:
  KernelTask task_;
  std::function<void(double)> progress_;
};

/// What a launch's arithmetic takes at the machine's peak, in seconds; 0 where that is not known.
double arithmetic_seconds(const KernelTask& task);

/// The least time that a launch takes by the roofline, in seconds: its arithmetic at the machine's peak, or its bytes
/// at the rate at which the memory that holds them is read; cold: main memory.
double roofline_seconds(const KernelTask& task, bool cold);

}  // namespace haqa
