#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "haqa/kernel/kernel_spec.h"

namespace haqa {

/// What the judge and a runner, the process that runs one contestant, say to each other. Two pieces of shared memory
/// (the runner can only read the first: the inputs), and one letter a request and an answer over pipes, so that both
/// sleep while the other works. What the runner could have written is believed in nothing.

enum class Request : char {
  begin = 'B',    ///< say whether there is a runner at all; asked once, before any of the variant's code could run
  prepare = 'P',  ///< take over the problem, and the weights, which lie at weights_at
  load = 'L',     ///< get ready for the launches at places
  run = 'R',      ///< do them: what is timed
  fetch = 'F'     ///< see that their outputs are in the shared memory
};
// Generated code on the processor is asked neither to load nor to fetch, where it could work untimed.
inline constexpr char kFailed = 'E';  ///< the answer where it could not; `message` says why

inline constexpr size_t kMostLaunches = 16384;
inline constexpr size_t kMostCopies = 4096;

/// Why a runner can do nothing at all.
enum class Failure : char { none = 0, does_not_load = 'l', does_not_compile = 'c', no_device = 'd', no_sandbox = 's' };

/// Where a launch's inputs and output lie, in bytes from the beginning of their memory.
struct LaunchPlace {
  uint64_t in[kMostInputs] = {};
  uint64_t out = 0;
  uint32_t copy = 0;      ///< of the weights
  bool in_place = false;  ///< the first input lies where the output is to
};

/// The beginning of the memory that a runner writes.
struct Control {
  TensorShape in[kMostInputs], out;
  uint32_t inputs = 0, scalars = 0;
  float scalar[4] = {};
  bool has_weights = false;
  uint64_t weights_at = 0;
  uint32_t copies = 1;  ///< of the weights, in memory of its own, so that they need not lie in caches
  /// Each copy begins by another row of the weights and goes on from the last to the first: no two are alike. They lie
  /// twice, one behind the other, so that each copy is one stretch.
  uint32_t first_rows[kMostCopies] = {};
  uint32_t launches = 0;
  LaunchPlace places[kMostLaunches];
  // By the runner:
  uint64_t packed_bytes = 0;        ///< of one copy
  int32_t forbidden_call = -1;      ///< the system call that it was ended for
  int32_t crash_signal = 0;         ///< that it was ended by
  char fault_memory = 0;            ///< where it wrote then: 'i': to the inputs, 'o': around its outputs
  Failure failure = Failure::none;  ///< with the message
  double compile_s = 0;             ///< that its compiler took
  char message[1000] = {};
  char device[200] = {};  ///< the name of a device's, as its driver has it
};

/// Bytes of the two memories as they are mapped; only what is touched takes room.
inline constexpr uint64_t kInputBytes = uint64_t{2} << 30, kOutputBytes = uint64_t{2} << 30;
/// Where outputs may begin.
inline constexpr uint64_t kOutputsAt = (sizeof(Control) + 4095) / 4096 * 4096;

/// What a runner is started with.
struct RunnerArguments {
  std::filesystem::path inputs, outputs;  ///< the shared memory, as files
  int threads = 1;
  uint64_t weights_limit = 0;     ///< bytes for all copies
  std::string mode = "--runner";  ///< the first word; a device's has its engine's name
};

}  // namespace haqa
