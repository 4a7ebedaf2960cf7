#include "haqa/kernel/cpu_runner.h"

#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/kernel/kernel_library.h"
#include "haqa/kernel/runner.h"
#include "haqa/kernel/sandbox.h"
#include "haqa/kernel/team.h"
#include "kernels/kernel.h"

namespace haqa {
namespace {

constexpr uint64_t kRoomForCode = uint64_t{256} << 20;

// What the signal handlers report to.
Control* reported = nullptr;
const std::byte* reported_inputs = nullptr;

void report_call(int number) {
  reported->forbidden_call = number;
}

/// The address sanitizer would ask for the signal's stack before a call that does not return, which is forbidden by
/// then.
__attribute__((no_sanitize("address"))) void on_fault(int number, siginfo_t* info, void*) {
  const auto* at = static_cast<const std::byte*>(info->si_addr);
  const auto* outputs = reinterpret_cast<const std::byte*>(reported);
  if (at >= reported_inputs && at < reported_inputs + kInputBytes) {
    reported->fault_memory = 'i';
  } else if (at >= outputs && at < outputs + kOutputBytes + (1 << 20)) {
    reported->fault_memory = 'o';
  }
  reported->crash_signal = number;
  _exit(128 + number);
}

/// Anonymous memory that is there before the sandbox closes.
class Room {
 public:
  explicit Room(uint64_t bytes) : bytes_(bytes) {
    void* memory = mmap(nullptr, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw NoMemoryError("cannot map {} bytes: {}", bytes, std::strerror(errno));
    madvise(memory, bytes, MADV_HUGEPAGE);
    data_ = static_cast<std::byte*>(memory);
  }
  ~Room() { munmap(data_, bytes_ + 1); }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  std::byte* data_;
  uint64_t bytes_;
};

KernelFunctions load_variant(const std::filesystem::path& library) {
  std::string why;
  const KernelFunctions f = open_kernel(library, why);
  if (!f) throw Error("{}; keep the entry point: extern \"C\" void haqa_kernel(const haqa_launch*)", why);
  if (!f.pack != !f.packed_bytes)
    throw Error("it has one of haqa_pack and haqa_packed_bytes; both are needed, or neither");
  return f;
}

haqa_tensor tensor_of(const TensorShape& shape, const std::byte* data) {
  haqa_tensor t = {};
  t.data = const_cast<std::byte*>(data);
  std::copy(std::begin(shape.ne), std::end(shape.ne), t.ne);
  std::copy(std::begin(shape.nb), std::end(shape.nb), t.nb);
  return t;
}

class CpuRunner : public Runner {
 public:
  CpuRunner(const RunnerArguments& arguments, const RunnerMemory& memory)
      : memory_(memory),
        control_(memory.control()),
        weights_(arguments.weights_limit),
        scratch_(static_cast<uint64_t>(haqa_scratch_bytes * arguments.threads)),
        shared_scratch_(haqa_shared_scratch_bytes),
        team_(arguments.threads),
        launches_([this](int thread) { run_launches(thread); }) {}
  void take(const KernelFunctions& variant) { variant_ = variant; }

  /// Every thread of the team by itself, as Landlock binds those alone that call it.
  void confine(const std::vector<std::filesystem::path>& readable) {
    std::vector<std::string> faults(static_cast<size_t>(team_.threads()));
    team_.run([&](int thread) {
      try {
        confine_files(readable, {});
      } catch (const std::exception& e) {
        faults[static_cast<size_t>(thread)] = e.what();
      }
    });
    for (const std::string& fault : faults)
      if (!fault.empty()) throw Error("{}", fault);
  }

  void prepare() override {
    std::copy(std::begin(control_.scalar), std::end(control_.scalar), scalars_);
    if (!control_.has_weights) return;
    const std::byte* raw = memory_.inputs() + control_.weights_at;
    const haqa_tensor tensor = tensor_of(control_.in[0], raw);
    const int64_t bytes = variant_.pack ? variant_.packed_bytes(&tensor) : control_.in[0].bytes();
    if (bytes < 0 || (variant_.pack && bytes % 64 != 0))
      throw Error("haqa_packed_bytes gave {}, which is no multiple of 64", bytes);
    copy_bytes_ = (static_cast<uint64_t>(bytes) + 4095) / 4096 * 4096;
    if (static_cast<uint64_t>(bytes) > weights_.bytes() || copy_bytes_ * control_.copies > weights_.bytes())
      throw Error("packed weights take {} bytes, far more than the {} that they are", bytes, control_.in[0].bytes());
    for (uint32_t i = 0; i < std::min<uint32_t>(control_.copies, kMostCopies); ++i) {
      const haqa_tensor copy = tensor_of(control_.in[0], memory_.weights(i));
      if (variant_.pack) {
        pack(copy, weights_.data() + i * copy_bytes_);
      } else {
        std::memcpy(weights_.data() + i * copy_bytes_, copy.data, static_cast<size_t>(bytes));
      }
    }
    if (variant_.unpack) check_unpacked(tensor_of(control_.in[0], memory_.weights(0)));
    control_.packed_bytes = static_cast<uint64_t>(bytes);
  }

  void run() override { team_.run(launches_); }

 private:
  /// As the module for llama.cpp does it: in parts where that can be, the last one first as any thread may be.
  void pack(const haqa_tensor& weights, std::byte* to) const {
    if (!variant_.pack_rows) return variant_.pack(&weights, to);
    constexpr int64_t kRows = 64;
    for (int64_t row = (weights.ne[1] - 1) / kRows * kRows; row >= 0; row -= kRows)
      variant_.pack_rows(&weights, to, row, std::min(weights.ne[1], row + kRows));
  }

  /// Behind the copies, where there is room for it.
  void check_unpacked(haqa_tensor weights) const {
    const void* raw = weights.data;
    const auto bytes = static_cast<uint64_t>(control_.in[0].bytes()), from = copy_bytes_ * control_.copies;
    if (from + bytes > weights_.bytes()) return;
    weights.data = weights_.data() + from;
    variant_.unpack(&weights, weights_.data());
    if (std::memcmp(weights.data, raw, bytes) != 0) throw Error("haqa_unpack gives other bytes than were packed");
  }

  haqa_launch first_launch(int thread) {
    haqa_launch launch = {};
    for (uint32_t i = 0; i < control_.inputs; ++i) launch.in[i] = tensor_of(control_.in[i], nullptr);
    launch.out = tensor_of(control_.out, nullptr);
    launch.scalars = scalars_;
    launch.scratch = scratch_.data() + haqa_scratch_bytes * thread;
    launch.shared_scratch = shared_scratch_.data();
    launch.thread = thread;
    launch.threads = team_.threads();
    launch.team = &team_.shared();
    launch.barrier = Team::barrier;
    launch.take = Team::take;
    return launch;
  }

  void run_launches(int thread) {
    haqa_launch launch = first_launch(thread);
    const uint32_t n = control_.launches, inputs = control_.inputs;
    const bool has_weights = control_.has_weights;
    for (uint32_t i = 0; i < n; ++i) {
      const LaunchPlace& place = control_.places[i];
      for (uint32_t k = 0; k < inputs; ++k) launch.in[k].data = const_cast<std::byte*>(memory_.inputs() + place.in[k]);
      launch.out.data = memory_.outputs() + place.out;
      if (place.in_place) launch.in[0].data = launch.out.data;
      if (has_weights) {
        std::byte* copy = weights_.data() + place.copy * copy_bytes_;
        launch.in[0].data = variant_.pack ? nullptr : copy;
        launch.packed = variant_.pack ? copy : nullptr;
      }
      variant_.compute(&launch);
      Team::finish_launch(launch.team);
    }
  }

  const RunnerMemory& memory_;
  Control& control_;
  Room weights_, scratch_, shared_scratch_;
  Team team_;
  const std::function<void(int)> launches_;
  KernelFunctions variant_;
  uint64_t copy_bytes_ = 0;
  float scalars_[4] = {};  ///< the kernel is told no address of the judge's
};

void catch_faults(const RunnerMemory& memory) {
  reported = &memory.control();
  reported_inputs = memory.inputs();
  on_forbidden_call(report_call);
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigaction(number, &action, nullptr);
}

}  // namespace

void run_cpu_variant(const RunnerArguments& arguments, const std::filesystem::path& library) {
#if defined(__GLIBC__)
  mallopt(M_ARENA_MAX, 1);  // threads' own would each take 64 MiB of the address space, which is limited below
#endif
  const RunnerMemory memory(arguments);
  std::optional<CpuRunner> runner;
  memory.control().failure = Failure::no_sandbox;
  try {
    runner.emplace(arguments, memory);
    system_call_name(0);
    catch_faults(memory);
    limit_resources(kRoomForCode);
    runner->confine({library.parent_path(), "/usr", "/lib", "/lib64", "/etc/ld.so.cache"});
    forbid_reaching_out();
    memory.control().failure = Failure::does_not_load;
    runner->take(load_variant(library));
    forbid_all_but_computing();
  } catch (const Error& e) {
    return serve_failure(e.what(), memory.control());
  }
  memory.control().failure = Failure::none;
  serve(*runner, memory.control());
}

}  // namespace haqa
