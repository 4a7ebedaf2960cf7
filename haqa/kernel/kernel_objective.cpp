#include "haqa/kernel/kernel_objective.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/hardware/microbench.h"
#include "haqa/kernel/contestant.h"

namespace haqa {
namespace {

/// Compiling, packing weights, verifying and timing; what hangs is ended by the judge long before.
constexpr double kTimeLimit = 300;
constexpr size_t kLongestCode = 64 << 10;

uint64_t last_level_cache(const HardwareProfile& hardware) {
  uint64_t bytes = 0;
  int level = 0;
  for (const Cache& c : hardware.caches) level = std::max(level, c.level);
  for (const Cache& c : hardware.caches)
    if (c.level == level) bytes += c.bytes * static_cast<uint64_t>(std::max(1, c.count));
  return bytes;
}

/// From main memory by no more threads than there are cores.
double bandwidth_of(const HardwareProfile& hardware) {
  double best = 0;
  for (const Bandwidth& b : hardware.bandwidth)
    if (b.threads <= std::max(1, hardware.cores)) best = std::max(best, b.bytes_per_s);
  return best;
}

FailReason reason_of(std::string_view fault) {
  const auto kind = fault_kind(fault);
  if (kind == KernelFaultKind::does_not_compile || kind == KernelFaultKind::refused_source)
    return FailReason::does_not_compile;
  if (kind == KernelFaultKind::timed_out) return FailReason::timed_out;
  for (const KernelFaultKind wrong :
       {KernelFaultKind::wrong_result, KernelFaultKind::not_written, KernelFaultKind::out_of_bounds,
        KernelFaultKind::impossible_time, KernelFaultKind::works_on, KernelFaultKind::out_of_turn})
    if (kind == wrong) return FailReason::wrong_result;
  return FailReason::crashed;
}

Outcome failure(FailReason reason, const std::string& message, Json metrics = Json::object()) {
  Outcome outcome;
  outcome.reason = reason;
  outcome.message = message;
  outcome.metrics = std::move(metrics);
  return outcome;
}

Outcome outcome_of(const Json& answer) {
  if (auto fault = fault_outcome(answer)) return *std::move(fault);
  const Json &ours = answer.at("times").at("variant"), &theirs = answer.at("times").at("ggml");
  Outcome outcome;
  outcome.value = ours.at("ratio").get<double>();
  outcome.metrics = {
      {"latency_us", ours.at("us")},   {"llama_cpp_us", theirs.at("us")},           {"speedup", ours.at("ratio")},
      {"speedup_low", ours.at("low")}, {"speedup_high", ours.at("high")},           {"compile_s", answer["compile_s"]},
      {"check_s", answer["verify_s"]}, {"rotations", ours.at("samples_us").size()}, {"cached", answer["cached"]}};
  // What makes a figure doubtful: others at work, a machine that grew slower or faster meanwhile.
  if (answer.value("partly_cold", false)) outcome.metrics["partly_cold"] = true;
  if (const double busy = answer.value("busy", 0.0); busy > 0.1) outcome.metrics["busy"] = busy;
  if (const double share = answer.value("disturbed", 0.0); share > 0.5) outcome.metrics["disturbed"] = share;
  if (const double drift = answer.value("drift", 1.0); drift > 1.2 || drift < 0.8) outcome.metrics["drift"] = drift;
  return outcome;
}

}  // namespace

SearchSpace machine_space(const SearchSpace& space, int threads, std::span<const std::string> compilers,
                          bool with_code) {
  std::vector<Parameter> parameters = space.parameters();
  for (Parameter& p : parameters) {
    if (p.name != "threads") continue;
    std::erase_if(p.choices, [&](const Json& n) { return n.get<int>() > threads; });
    if (std::find(p.choices.begin(), p.choices.end(), Json(threads)) == p.choices.end())
      p.choices.emplace_back(threads);
    p.default_value = std::min(p.default_value.get<int>(), threads);
    if (std::find(p.choices.begin(), p.choices.end(), p.default_value) == p.choices.end()) p.default_value = threads;
  }
  if (compilers.size() > 1)
    parameters.push_back(categorical_parameter("compiler", {compilers.begin(), compilers.end()}, compilers.front(),
                                               "Who compiles the source."));
  if (with_code)
    parameters.push_back(text_parameter(kCode, kLongestCode, "The kernel's whole source; empty: as it ships."));
  return SearchSpace(std::move(parameters), space.constraints());
}

Json kernel_request(const KernelTask& task, const std::string& command, const Configuration& configuration) {
  Configuration parameters = configuration;
  const std::string source = parameters.value(kCode, "");
  parameters.erase(kCode);
  const HardwareProfile& hardware = task.hardware;
  return {{"command", command},
          {"kernel", task.folder.string()},
          {"engine", task.engine},
          {"type", to_string(task.problem.type)},
          {"shape", task.problem.shape},
          {"configuration", parameters},
          {"source", source},
          {"threads", std::max(1, hardware.cores)},
          {"seconds", task.seconds},
          {"rotations", task.rotations},
          {"seed", task.seed},
          {"machine",
           {{"cores", std::max(hardware.cores, hardware.threads)},
            {"fp32", hardware.peak.fp32},
            {"int8", hardware.peak.int8},
            {"bandwidth", hardware.best_bandwidth()},
            {"last_level_cache", last_level_cache(hardware)},
            // The copies of weights that are to lie outside of it must fit the memory, several times.
            {"copies", hardware.memory_bytes / 12}}}};
}

std::optional<Outcome> fault_outcome(const Json& answer) {
  if (!answer.contains("fault")) return std::nullopt;
  const std::string fault = answer["fault"];
  return failure(reason_of(fault), fault + ": " + answer.value("message", ""), {{"fault", fault}});
}

std::optional<Outcome> lost_outcome(const WorkerError& e) {
  if (e.end == ProcessEnd::exited) return std::nullopt;
  return failure(e.end == ProcessEnd::timed_out ? FailReason::timed_out : FailReason::crashed, e.what());
}

KernelObjective::KernelObjective(KernelTask task, std::function<void(double)> progress)
    : task_(std::move(task)), progress_(std::move(progress)) {}

Outcome KernelObjective::evaluate(const Configuration& configuration, const Report&) {
  Json request = kernel_request(task_, "measure", configuration);
  request["seed"] = ++task_.seed;
  try {
    return outcome_of(call_worker("haqa-kernel", request, {kTimeLimit}, progress_));
  } catch (const WorkerError& e) {
    if (auto lost = lost_outcome(e)) return *std::move(lost);
    throw;
  }
}

Json KernelObjective::confirm(const Configuration& configuration, const std::vector<std::string>& against,
                              std::optional<bool> cold) const {
  Json request = kernel_request(task_, "measure", configuration);
  request["rebuild"] = true;
  request["against"] = against;
  request["seconds"] = 3 * task_.seconds;
  request["rotations"] = task_.rotations + 2;
  request["seed"] = task_.seed + 1000003;
  if (cold) request["cold"] = *cold;
  return call_worker("haqa-kernel", request, {kTimeLimit}, progress_);
}

double arithmetic_seconds(const KernelTask& task) {
  const HardwareProfile& hardware = task.hardware;
  const bool quantized = block_length(task.problem.type) > 1;
  const double peak = quantized ? std::max(hardware.peak.fp32, hardware.peak.int8) : hardware.peak.fp32;
  return peak > 0 ? operations_of(task.spec, task.problem) / peak : 0;
}

double roofline_seconds(const KernelTask& task, bool cold) {
  const HardwareProfile& hardware = task.hardware;
  const double bytes = bytes_of(task.spec, task.problem);
  const double rate =
      cold ? bandwidth_of(hardware)
           : measure_read_rate(static_cast<uint64_t>(bytes), std::max(1, hardware.cores), hardware.has("avx2"), 0.02);
  return std::max(arithmetic_seconds(task), rate > 0 ? bytes / rate : 0);
}

}  // namespace haqa
