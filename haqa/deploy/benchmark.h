#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/base/stats.h"
#include "haqa/deploy/runtime_options.h"

namespace haqa {

/// A model file and how it is run.
struct Setup {
  std::filesystem::path model;
  RuntimeOptions options;
  std::filesystem::path tuning;  ///< of the module's kernels (docs/plugin.md); empty: as it stands
  bool operator==(const Setup&) const = default;
};

/// The request that is timed; the paper's is 128 tokens in and 256 out.
struct Workload {
  int prompt_tokens = 128, generate_tokens = 256;
};

/// One run of a request.
struct Measurement {
  double prompt_tokens_per_s = 0, generate_tokens_per_s = 0;
  double request_s = 0;     ///< prompt and generation
  double tokens_per_s = 0;  ///< generated tokens by request_s: what is tuned
  uint64_t peak_bytes = 0;  ///< resident memory of llama.cpp, the mapped file included
};

/// Times a set-up once. Throws WorkerError where llama.cpp crashes, hangs, needs too much memory or writes rubbish.
using Benchmark = std::function<Measurement(const Setup&)>;

/// Runs llama.cpp's own llama-bench: once for the prompt (pp), once for the generation that follows it (tg at that
/// depth), each after llama-bench's warm-up. memory_bytes: see Command::memory_bytes.
Benchmark llama_bench(const Workload& workload, double timeout_s, uint64_t memory_bytes = 0);

/// Throws UsageError for a path that cannot be handed on: llama-bench splits its model's at commas, and JSON is UTF-8.
void require_plain_path(const std::filesystem::path& path);

/// The number of threads llama-bench uses when it is not told.
int default_llama_threads();

/// Whether this build of llama.cpp finds a GPU that it can use; a driver's GPU is of no use to a build for the CPU.
bool llama_uses_gpu();

/// Set-ups measured in turn, the order turning too, so that drift of the machine hits them alike.
/// Returns one row of `repetitions` measurements for each set-up. first: how many there were before, for the order's
/// turn. progress: share done.
std::vector<std::vector<Measurement>> measure_interleaved(const Benchmark& benchmark, const std::vector<Setup>& setups,
                                                          int repetitions,
                                                          const std::function<void(double)>& progress = {},
                                                          size_t first = 0);

/// Tokens/s of `a` by those of `b`, measurement by measurement: they were made in turn. The longer one's rest is left.
Estimate paired_ratio(std::span<const Measurement> a, std::span<const Measurement> b);

/// {"median","low","high","pairs"}
Json to_json(const Estimate& ratio);

/// How much faster b is than a: tokens/s of each pair divided.
struct Comparison {
  std::vector<Measurement> a, b;
  Estimate speedup;
};

/// Whether what has been measured leaves no doubt that b is slower: by 15 % in each of the first two pairs.
bool is_clearly_slower(const Comparison& so_far);

/// `pairs` interleaved pairs, fewer where what was measured so far is hopeless.
Comparison compare(const Benchmark& benchmark, const Setup& a, const Setup& b, int pairs,
                   const std::function<void(double)>& progress = {},
                   const std::function<bool(const Comparison&)>& is_hopeless = is_clearly_slower);

/// Medians over measurements, for tables: {"tokens_per_s","prompt_tokens_per_s","generate_tokens_per_s","request_s",
/// "peak_bytes","samples": tokens_per_s of each}.
Json summarize(const std::vector<Measurement>& measurements);

/// {"speedup": {"median","low","high","pairs"}, "default": a, "winner": b}
Json to_json(const Comparison& comparison);

}  // namespace haqa
