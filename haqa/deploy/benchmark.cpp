#include "haqa/deploy/benchmark.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

constexpr double kClearlySlower = 0.85;

struct TimedRun {
  double seconds = 0;
  uint64_t peak_bytes = 0;
};

std::string llama_bench_program() {
  return (llama_bin_folder() / "llama-bench").string();
}

/// With nothing of the module's that the user's shell may have: what runs it says so itself.
Command llama_bench_command(const std::vector<std::string>& arguments) {
  Command command{{llama_bench_program()}};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  command.without = {"GGML_BACKEND_PATH", "HAQA_TUNING"};
  return command;
}

/// The one test with one repetition that was asked for, and its seconds.
struct BenchResult {
  Json test;
  double seconds = 0;
};

BenchResult bench_result(const std::string& output) {
  const Json results = Json::parse(output, nullptr, /*allow_exceptions=*/false);
  if (results.is_array() && results.size() == 1 && results[0].is_object()) {
    const Json samples = results[0].value("samples_ns", Json());
    if (samples.is_array() && samples.size() == 1 && samples[0].is_number() && samples[0] > 0)
      return {results[0], samples[0].get<double>() * 1e-9};
  }
  throw WrongResult("llama-bench wrote no result that can be read: " + one_line(output, 120));
}

/// What the module says where it leaves a tuning file's kernel to a default one, or everything to stock code, and what
/// llama-bench does: then something else would be timed.
void require_served(const Json& test, const std::string& log) {
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("haqa: ") && (line.ends_with("default serves") || line.ends_with("default kernels serve") ||
                                       line.ends_with("stock code serves")))
      throw WrongResult(one_line(line));
  const Json named = test.value("backends", Json());  // "HAQA", or "BLAS,HAQA"
  const std::string backends = named.is_string() ? named.get<std::string>() : "nothing";
  if (("," + backends + ",").find(",HAQA,") == std::string::npos)
    throw WrongResult("the module does not serve: llama-bench ran " + one_line(backends, 60));
}

TimedRun run_llama_bench(const Setup& setup, bool prompt, const std::vector<std::string>& test, double timeout_s,
                         uint64_t memory_bytes) {
  Command command = llama_bench_command({"-m", setup.model.string(), "-r", "1", "-o", "json"});
  command.argv.insert(command.argv.end(), test.begin(), test.end());
  for (std::string& argument : bench_arguments(setup.options, prompt)) command.argv.push_back(std::move(argument));
  command.environment = runtime_environment(setup.options, backend_module());
  if (!setup.tuning.empty()) command.environment.emplace_back("HAQA_TUNING", setup.tuning.string());
  command.timeout_s = timeout_s;
  command.memory_bytes = memory_bytes;
  const ProcessResult result = run_process(command);
  if (!result.ok()) throw WorkerError(result.end, "llama-bench: " + result.describe());
  const BenchResult timed = bench_result(result.output);
  if (setup.options.kernels == "haqa") require_served(timed.test, result.errors);
  return {timed.seconds, result.peak_bytes};
}

std::vector<double> column(const std::vector<Measurement>& rows, double Measurement::*member) {
  std::vector<double> values;
  for (const Measurement& row : rows) values.push_back(row.*member);
  return values;
}

}  // namespace

Benchmark llama_bench(const Workload& workload, double timeout_s, uint64_t memory_bytes) {
  return [=](const Setup& setup) {
    const std::string in = std::to_string(workload.prompt_tokens), out = std::to_string(workload.generate_tokens);
    const TimedRun prompt = run_llama_bench(setup, true, {"-p", in, "-n", "0"}, timeout_s, memory_bytes);
    const TimedRun generate = run_llama_bench(setup, false, {"-p", "0", "-n", out, "-d", in}, timeout_s, memory_bytes);
    Measurement m;
    m.prompt_tokens_per_s = workload.prompt_tokens / prompt.seconds;
    m.generate_tokens_per_s = workload.generate_tokens / generate.seconds;
    m.request_s = prompt.seconds + generate.seconds;
    m.tokens_per_s = workload.generate_tokens / m.request_s;
    m.peak_bytes = std::max(prompt.peak_bytes, generate.peak_bytes);
    return m;
  };
}

void require_plain_path(const std::filesystem::path& path) {
  const std::string text = path.string();
  if (printable(text) != text || text.find(',') != std::string::npos)
    throw UsageError(
        "{}: llama.cpp's programs cannot take a path with commas, control characters or broken UTF-8; "
        "rename it or use a link",
        one_line(text));
}

int default_llama_threads() {
  const ProcessResult help = run_process(llama_bench_command({"--help"}));
  const size_t option = help.output.find("--threads <n>"), value = help.output.find("(default: ", option);
  const int threads =
      option == std::string::npos || value == std::string::npos ? 0 : std::atoi(help.output.c_str() + value + 10);
  if (threads < 1)
    throw Error("{}: its --help names no default number of threads; HAQA knows llama.cpp 0.5.0, see setup.sh",
                llama_bench_program());
  return threads;
}

bool llama_uses_gpu() {
  const ProcessResult list = run_process(llama_bench_command({"--list-devices"}));
  return list.ok() && list.output.find("(none)") == std::string::npos;
}

std::vector<std::vector<Measurement>> measure_interleaved(const Benchmark& benchmark, const std::vector<Setup>& setups,
                                                          int repetitions, const std::function<void(double)>& progress,
                                                          size_t first) {
  std::vector<std::vector<Measurement>> rows(setups.size());
  const size_t n = setups.size();
  for (size_t round = 0; round < static_cast<size_t>(repetitions); ++round) {
    for (size_t i = 0; i < n; ++i) {
      const size_t which = (i + first + round) % n;
      rows[which].push_back(benchmark(setups[which]));
      if (progress) progress(static_cast<double>(round * n + i + 1) / static_cast<double>(n * repetitions));
    }
  }
  return rows;
}

Estimate paired_ratio(std::span<const Measurement> a, std::span<const Measurement> b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) ratios.push_back(a[i].tokens_per_s / b[i].tokens_per_s);
  return estimate_median(ratios);
}

Json to_json(const Estimate& ratio) {
  return {{"median", ratio.median}, {"low", ratio.low}, {"high", ratio.high}, {"pairs", ratio.samples}};
}

bool is_clearly_slower(const Comparison& c) {
  return c.speedup.samples == 2 && c.speedup.high < kClearlySlower;
}

Comparison compare(const Benchmark& benchmark, const Setup& a, const Setup& b, int pairs,
                   const std::function<void(double)>& progress,
                   const std::function<bool(const Comparison&)>& is_hopeless) {
  Comparison c;
  for (int pair = 0; pair < pairs; ++pair) {
    const bool a_first = pair % 2 == 0;
    if (a_first) c.a.push_back(benchmark(a));
    c.b.push_back(benchmark(b));
    if (!a_first) c.a.push_back(benchmark(a));
    c.speedup = paired_ratio(c.b, c.a);
    if (progress) progress(static_cast<double>(pair + 1) / pairs);
    if (is_hopeless(c)) break;
  }
  return c;
}

Json summarize(const std::vector<Measurement>& rows) {
  uint64_t peak = 0;
  for (const Measurement& row : rows) peak = std::max(peak, row.peak_bytes);
  return {{"tokens_per_s", median(column(rows, &Measurement::tokens_per_s))},
          {"prompt_tokens_per_s", median(column(rows, &Measurement::prompt_tokens_per_s))},
          {"generate_tokens_per_s", median(column(rows, &Measurement::generate_tokens_per_s))},
          {"request_s", median(column(rows, &Measurement::request_s))},
          {"peak_bytes", peak},
          {"samples", column(rows, &Measurement::tokens_per_s)}};
}

Json to_json(const Comparison& c) {
  return {{"speedup", to_json(c.speedup)}, {"default", summarize(c.a)}, {"winner", summarize(c.b)}};
}

}  // namespace haqa
