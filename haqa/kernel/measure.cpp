#include "haqa/kernel/measure.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <list>
#include <optional>
#include <utility>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/hardware/detect.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/cuda_runner.h"
#include "haqa/kernel/device_variant.h"
#include "haqa/kernel/judge.h"
#include "haqa/kernel/sandbox.h"
#include "haqa/kernel/source_check.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

void write_for_opencl(const KernelSpec& spec, const KernelEngine& engine, const SourceVariant& variant,
                      const fs::path& file) {
  if (const auto refused = refused_in_device_source(variant.source))
    throw KernelFault(KernelFaultKind::refused_source,
                      "the source holds " + *refused + "; what it needs stands before it, in opencl.h");
  const std::string prelude = read_file(kernels_folder() / "opencl.h");
  write_device_variant(device_variant(spec, engine, variant, prelude), file);
}

void write_for_cuda(const KernelSpec& spec, const KernelEngine& engine, const SourceVariant& variant,
                    const fs::path& file) {
  CudaGeometry geometry;
  for (const Expression& size : engine.problem_size) geometry.problem_size.push_back(size.text());
  for (const Expression& size : engine.block) geometry.block.push_back(size.text());
  write_cuda_variant(
      build_cuda_variant(spec, variant.source, variant.parameters, variant.defines, variant.options, geometry), file);
}

/// An engine whose variants are compiled where they run: by `haqa-kernel --NAME` (kernel_main.cpp), from a file.
struct DeviceEngine {
  std::string_view name;
  void (*write)(const KernelSpec&, const KernelEngine&, const SourceVariant&, const fs::path&);
};
constexpr std::array<DeviceEngine, 2> kDeviceEngines = {{{"opencl", write_for_opencl}, {"cuda", write_for_cuda}}};

std::optional<DeviceEngine> device_engine(const std::string& name) {
  const auto at =
      std::find_if(kDeviceEngines.begin(), kDeviceEngines.end(), [&](const auto& e) { return e.name == name; });
  return at == kDeviceEngines.end() ? std::nullopt : std::optional(*at);
}

/// Ways to read memory (kernels/read.cpp), all in bytes but the streams.
struct ReadLoop {
  int prefetch_near = 0, prefetch_far = 0, streams = 1, chunk = 0;
};
constexpr std::array<ReadLoop, 6> kReadLoops = {
    {{2048, 12288}, {0, 0}, {1024, 4096}, {4096, 32768}, {2048, 8192, 4}, {2048, 12288, 1, 16384}}};

/// To be raised where verification sees more: what passed an older one passed nothing.
constexpr int kJudgeVersion = 3;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

MachineRates machine_from(const Json& json) {
  MachineRates m;
  m.cores = json.value("cores", m.cores);
  m.fp32 = json.value("fp32", m.fp32);
  m.int8 = json.value("int8", m.int8);
  m.bandwidth = json.value("bandwidth", m.bandwidth);
  m.last_level_cache = json.value("last_level_cache", m.last_level_cache);
  m.copies = json.value("copies", m.copies);
  return m;
}

/// Processor seconds that the whole machine has been busy so far, or kept waiting by others on its host.
double machine_busy_seconds() {
  return static_cast<double>(read_cpu_time().busy) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

class Measurement {
 public:
  explicit Measurement(const Json& request)
      : request_(request),
        spec_(read_kernel_spec(request.at("kernel").get<std::string>())),
        engine_name_(request.value("engine", "cpu")),
        engine_(engine_of(spec_, engine_name_)),
        problem_{element_type_from(request.value("type", "F32")), request.at("shape").get<Shape>()},
        machine_(machine_from(request.value("machine", Json::object()))),
        threads_(std::max(1, request.value("threads", 1))),
        judge_(spec_, problem_, request.value("seed", uint64_t{1}), request.value("timeout", 20.0)) {
    const std::vector<ElementType>& known = engine_.types.empty() ? spec_.types : engine_.types;
    if (std::find(known.begin(), known.end(), problem_.type) == known.end())
      throw UsageError("{}: the engine {} has no {}", spec_.name, engine_name_, to_string(problem_.type));
  }

  Json answer(const std::function<void(double)>& progress) {
    Json result = Json::object();
    if (!has_landlock()) result["no_landlock"] = true;
    try {
      const Configuration configuration = request_.value("configuration", engine_.space.defaults());
      Contestant& variant = add_variant("the variant", configuration, request_.value("source", ""), result);
      const std::string problem = passed_problem(variant);
      const bool is_timed = request_.at("command") == "measure";
      // What passed before is looked at again while it is timed.
      const bool is_quick = is_timed && result["cached"] && has_passed(library_in(result), problem);
      result["cached"] = is_quick;
      const auto start = Clock::now();
      judge_.verify(variant, is_quick);
      result["verify_s"] = since(start);
      if (variant.is_on_device()) {
        result["compile_s"] = variant.control().compile_s;
        result["device"] = variant.device();
      }
      if (is_timed) time_beside_others(variant, result, progress);
      if (result.contains("library")) note_passed(library_in(result), problem);
    } catch (const KernelFault& fault) {
      if (result.contains("library")) forget_passed(library_in(result));
      result["fault"] = to_string(fault.kind);
      result["message"] = fault.what();
    }
    return result;
  }

 private:
  static fs::path library_in(const Json& result) { return result["library"].get<std::string>(); }

  /// What a library passes: this very problem, by as many threads, as this specification and this judge see it.
  std::string passed_problem(const Contestant& variant) const {
    return fmt::format("{} {:016x} {} {}", kJudgeVersion, spec_.hash, problem_.label(), variant.threads());
  }

  static const KernelEngine& engine_of(const KernelSpec& spec, const std::string& name) {
    const auto at = spec.engines.find(name);
    if (at == spec.engines.end()) throw UsageError("{}: there is no engine {}", spec.name, name);
    return at->second;
  }

  Contestant& add_variant(const std::string& name, const Configuration& configuration, const std::string& source,
                          Json& result) {
    SourceVariant variant{source.empty() ? read_file(engine_.source) : source, configuration, {}, engine_.options};
    variant.defines.push_back(fmt::format("HAQA_WEIGHTS={}", weights_number(problem_.type)));
    const bool needs_compiler = engine_name_ == "cpu" && installed_compilers().empty();
    const fs::path file = needs_compiler ? prebuilt(configuration, source, result) : build(variant, result);
    const int threads = std::min(configuration.value("threads", threads_), std::max(machine_.cores, threads_));
    return contestants_.emplace_back(name, judge_.contest(), (program_folder() / "haqa-kernel").string(), threads,
                                     judge_.weights_limit(machine_), std::vector<std::string>{file.string()},
                                     /*is_confined=*/true, engine_name_);
  }

  /// The file that the variant's process is started with: a library, or what a device's own compiler gets there.
  fs::path build(const SourceVariant& variant, Json& result) {
    if (const auto device = device_engine(engine_name_)) {
      result["cached"] = false;
      const fs::path file = folder_ / fmt::format("variant-{}.json", contestants_.size());
      device->write(spec_, engine_, variant, file);
      return file;
    }
    if (engine_name_ != "cpu") throw UsageError("there is no engine {}", engine_name_);
    SourceVariant named = variant;
    named.defines.push_back(fmt::format("HAQA_KERNEL_NAME=\"{}-{}\"", spec_.name, to_string(problem_.type)));
    const Compiled compiled = compile(named, request_.value("rebuild", false));
    result["compile_s"] = compiled.seconds;
    result["cached"] = compiled.cached;
    result["library"] = compiled.library.string();
    return compiled.library;
  }

  /// Without a compiler the default variant runs all the same.
  fs::path prebuilt(Configuration configuration, const std::string& source, Json& result) {
    Configuration defaults = engine_.space.defaults();
    for (Configuration* c : {&configuration, &defaults}) c->erase("threads");
    const auto library = prebuilt_variant(spec_.name, to_string(problem_.type));
    if (!source.empty() || configuration != defaults || !library)
      throw KernelFault(KernelFaultKind::does_not_compile,
                        "there is no C++ compiler here, so that only the default variant can run; install one: apt-get "
                        "install g++");
    result["compile_s"] = 0;
    result["cached"] = false;
    result["prebuilt"] = true;
    return *library;
  }

  /// Where the library that a user would call is installed, and computes this.
  bool has_openblas() const {
    return spec_.reference == "matmul" && problem_.type == ElementType::f32 &&
           dlopen("libopenblas.so.0", RTLD_LAZY | RTLD_LOCAL);
  }

  /// "ggml" is llama.cpp on the processor for every engine: its back ends for devices are not in the build that HAQA is
  /// linked with. What a device's variant gains over it is then what the device gains too.
  Contestant& add_other(const std::string& name, const TimingOptions& options) {
    if (name == "default") return add_default();
    if (name == "read") return add_read(options);
    return contestants_.emplace_back(name, judge_.contest(), (program_folder() / "haqa-ggml").string(), threads_,
                                     judge_.weights_limit(machine_), std::vector<std::string>{name, spec_.reference},
                                     /*is_confined=*/false);
  }

  /// Verified as any other: its figures may be those that are shown.
  Contestant& add_default() {
    try {
      Json ignored;
      Contestant& ours = add_variant("our default variant", engine_.space.defaults(), "", ignored);
      judge_.verify(ours, /*quick=*/false);
      return ours;
    } catch (const KernelFault& fault) {
      throw KernelFault(fault.kind, fmt::format("our default variant: {}", fault.what()));
    }
  }

  /// What reading the weights alone takes: the fastest of several loops, each timed by itself. Their output means
  /// nothing, so that it is not checked.
  Contestant& add_read(TimingOptions options) {
    options.seconds = std::min(options.seconds, 0.2);
    options.least_rotations = 10;
    double least = HUGE_VAL;
    auto best = contestants_.end();
    for (const ReadLoop& loop : kReadLoops) {
      start_reader(loop);
      const auto last = std::prev(contestants_.end());
      const double us = judge_.time({&*last}, machine_, options).front().microseconds;
      const auto slower = us < least ? std::exchange(best, last) : last;
      least = std::min(least, us);
      if (slower != contestants_.end()) contestants_.erase(slower);  // with its copies of the weights
    }
    return *best;
  }

  void start_reader(const ReadLoop& loop) {
    const Compiled compiled = compile({read_file(kernels_folder() / "read.cpp"),
                                       {{"prefetch_near", loop.prefetch_near},
                                        {"prefetch_far", loop.prefetch_far},
                                        {"streams", loop.streams},
                                        {"chunk", loop.chunk}},
                                       {},
                                       {}});
    contestants_
        .emplace_back("read", judge_.contest(), (program_folder() / "haqa-kernel").string(), threads_,
                      judge_.weights_limit(machine_), std::vector<std::string>{compiled.library.string()},
                      /*is_confined=*/false)
        .output_means_nothing();
  }

  void time_beside_others(Contestant& variant, Json& result, const std::function<void(double)>& progress) {
    TimingOptions options;
    options.cold = request_.value("cold", spec_.is_cold);
    options.seconds = request_.value("seconds", options.seconds);
    options.least_rotations = request_.value("rotations", options.least_rotations);
    std::vector<std::string> names;
    std::vector<Contestant*> all;
    for (const Json& name : request_.value("against", Json{"ggml"})) {
      if (name == "openblas" && !has_openblas()) continue;
      if (name == "read" && (!spec_.weights() || installed_compilers().empty())) continue;
      names.push_back(name);
      all.push_back(&add_other(name, options));
    }
    names.emplace_back("variant");
    all.push_back(&variant);
    const double others_before = machine_busy_seconds() - own_seconds();
    const auto start = Clock::now();
    const std::vector<Paired> times = judge_.time(all, machine_, options, progress);
    const double others = machine_busy_seconds() - own_seconds() - others_before;
    result["busy"] = std::clamp(others / (since(start) * machine_.cores), 0.0, 1.0);
    for (size_t i = 0; i < names.size(); ++i)
      result["times"][names[i]] = {{"us", times[i].microseconds},
                                   {"ratio", times[i].ratio.median},
                                   {"low", times[i].ratio.low},
                                   {"high", times[i].ratio.high},
                                   {"samples_us", times[i].samples_us}};
    result["us"] = times.back().microseconds;
    result["disturbed"] = times.back().disturbed;
    result["drift"] = drift(times.front().samples_us);
    if (options.cold && judge_.is_partly_cold(machine_)) result["partly_cold"] = true;
    result["packed_bytes"] = variant.control().packed_bytes;
    const double least = impossible_below(spec_, problem_, machine_, options.cold) * 1e6;
    // The rates are the processor's.
    if (!variant.is_on_device() && times.back().microseconds < least)
      throw KernelFault(
          KernelFaultKind::impossible_time,
          fmt::format("{:.3g} us is less than the {:.3g} us that its arithmetic and its memory take here at least",
                      times.back().microseconds, least));
  }

  /// Processor seconds of this process and its contestants.
  double own_seconds() const {
    timespec t = {};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    double sum = static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
    for (const Contestant& c : contestants_) sum += c.cpu_seconds();
    return sum;
  }

  const Json& request_;
  const KernelSpec spec_;
  const std::string engine_name_;
  const KernelEngine& engine_;
  const KernelProblem problem_;
  const MachineRates machine_;
  const int threads_;
  Judge judge_;
  const TemporaryFolder folder_;
  std::list<Contestant> contestants_;
};

}  // namespace

Json measure_kernel(const Json& request, const std::function<void(double)>& progress) {
  return Measurement(request).answer(progress);
}

}  // namespace haqa
