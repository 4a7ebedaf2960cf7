#include "haqa/deploy/runtime_options.h"

#include <fmt/format.h>
#include <ggml.h>

#include <algorithm>

#include "haqa/base/file.h"
#include "haqa/model/compute_graph.h"

namespace haqa {
namespace {

using Arguments = std::vector<std::string>;

void add(Arguments& all, std::initializer_list<std::string> more) {
  all.insert(all.end(), more);
}

Parameter thread_parameter(const RuntimeSpaceFacts& facts, const char* name, const char* work) {
  return integer_parameter(
      name, 1, std::max(facts.max_threads, facts.default_threads), facts.default_threads,
      fmt::format("CPU threads that {}. More help until the memory bandwidth or the cores are used up.", work));
}

Parameter batch_parameter(const RuntimeSpaceFacts& facts, const char* name, int stock, const char* what) {
  return integer_parameter(
      name, 32, std::max(stock, facts.prompt_tokens), stock,
      fmt::format("{} From {} on, the tokens of the prompt, all values do the same.", what, facts.prompt_tokens), true);
}

Parameter cache_parameter(const char* name, int head_width) {
  std::vector<Json> types;
  for (const char* type : {"f16", "bf16", "q8_0", "q4_0"})
    if (head_width % ggml_blck_size(kv_cache_type(type)) == 0) types.emplace_back(type);
  return categorical_parameter(name, types, "f16",
                               "Type of the cached keys or values: smaller ones save bandwidth in long contexts and "
                               "lose some quality.");
}

const char* poll_level(const std::string& polling) {
  return polling == "active" ? "100" : "0";
}

}  // namespace

SearchSpace runtime_space(const RuntimeSpaceFacts& facts) {
  std::vector<Parameter> p;
  p.push_back(thread_parameter(facts, "threads", "generate tokens (bound by memory bandwidth)"));
  p.push_back(thread_parameter(facts, "threads_batch", "process the prompt (bound by arithmetic)"));
  p.push_back(categorical_parameter("affinity", {"none", "pinned"}, "none",
                                    "Whether each thread is pinned to a core of its own."));
  p.push_back(categorical_parameter("polling", {"default", "active", "passive"}, "default",
                                    "How threads wait for each other: spinning (active) or sleeping (passive)."));
  p.push_back(batch_parameter(facts, "batch", 2048, "Logical batch in tokens: the most submitted at once."));
  p.push_back(batch_parameter(facts, "ubatch", 512,
                              "Physical micro-batch in tokens of prompt processing; smaller fits the cache better."));
  p.push_back(categorical_parameter("flash_attention", {"auto", "on", "off"}, "auto",
                                    "Attention without the full score matrix."));
  p.push_back(cache_parameter("cache_type_k", facts.n_embd_head_k));
  p.push_back(cache_parameter("cache_type_v", facts.n_embd_head_v));
  p.push_back(categorical_parameter("load_mode", {"auto", "none", "mmap+mlock"}, "auto",
                                    "How the file is loaded: mapped, read into own memory, or mapped and locked."));
  p.push_back(
      boolean_parameter("repack", true, "Whether weights are re-laid at load for the CPU's vector instructions."));
  if (facts.has_module)
    p.push_back(categorical_parameter("kernels", {"stock", "haqa"}, "stock",
                                      "Whose code computes: llama.cpp's own, or haqa's kernels, which a back-end "
                                      "module runs inside llama.cpp: weights are packed for them at load."));
  if (facts.has_gpu)
    p.push_back(integer_parameter("gpu_layers", 0, facts.n_layer + 1, facts.n_layer + 1, "Layers kept on the GPU."));
  if (facts.gguf_types.size() > 1)
    p.push_back(categorical_parameter("gguf_type", {facts.gguf_types.begin(), facts.gguf_types.end()},
                                      facts.gguf_types.front(), "How llama.cpp stores the weights of this bit width."));
  return SearchSpace(std::move(p), {Expression("ubatch <= batch"),
                                    Expression("flash_attention != 'off' or cache_type_v in ['f16', 'bf16']")});
}

RuntimeOptions runtime_options(const Configuration& c) {
  RuntimeOptions o;
  o.gguf_type = c.value("gguf_type", o.gguf_type);
  o.threads = c.value("threads", o.threads);
  o.threads_batch = c.value("threads_batch", o.threads_batch);
  o.affinity = c.value("affinity", o.affinity);
  o.polling = c.value("polling", o.polling);
  o.batch = c.value("batch", o.batch);
  o.ubatch = c.value("ubatch", o.ubatch);
  o.flash_attention = c.value("flash_attention", o.flash_attention);
  o.cache_type_k = c.value("cache_type_k", o.cache_type_k);
  o.cache_type_v = c.value("cache_type_v", o.cache_type_v);
  o.load_mode = c.value("load_mode", o.load_mode);
  o.repack = c.value("repack", o.repack);
  o.gpu_layers = c.value("gpu_layers", o.gpu_layers);
  o.kernels = c.value("kernels", o.kernels);
  return o;
}

Arguments bench_arguments(const RuntimeOptions& o, bool prompt) {
  Arguments all;
  const int threads = prompt && o.threads_batch > 0 ? o.threads_batch : o.threads;
  if (threads > 0) add(all, {"-t", std::to_string(threads)});
  if (o.polling != "default") add(all, {"--poll", poll_level(o.polling)});
  add(all, {"-b", std::to_string(o.batch), "-ub", std::to_string(o.ubatch), "-fa", o.flash_attention});
  add(all, {"-ctk", o.cache_type_k, "-ctv", o.cache_type_v, "-lm", o.load_mode, "--repack", o.repack ? "1" : "0"});
  if (o.gpu_layers >= 0) add(all, {"-ngl", std::to_string(o.gpu_layers)});
  return all;
}

Arguments server_arguments(const RuntimeOptions& o) {
  const RuntimeOptions stock;
  Arguments all;
  if (o.threads > 0) add(all, {"--threads", std::to_string(o.threads)});
  if (o.threads_batch > 0) add(all, {"--threads-batch", std::to_string(o.threads_batch)});
  if (o.polling != stock.polling) add(all, {"--poll", poll_level(o.polling)});
  if (o.batch != stock.batch) add(all, {"--batch-size", std::to_string(o.batch)});
  if (o.ubatch != stock.ubatch) add(all, {"--ubatch-size", std::to_string(o.ubatch)});
  if (o.flash_attention != stock.flash_attention) add(all, {"--flash-attn", o.flash_attention});
  if (o.cache_type_k != stock.cache_type_k) add(all, {"--cache-type-k", o.cache_type_k});
  if (o.cache_type_v != stock.cache_type_v) add(all, {"--cache-type-v", o.cache_type_v});
  if (o.load_mode != stock.load_mode) add(all, {"--load-mode", o.load_mode});
  if (!o.repack) add(all, {"--no-repack"});
  if (o.gpu_layers >= 0) add(all, {"--gpu-layers", std::to_string(o.gpu_layers)});
  return all;
}

std::vector<std::pair<std::string, std::string>> runtime_environment(const RuntimeOptions& o,
                                                                     const std::filesystem::path& module) {
  // llama.cpp's own --cpu-mask pins only its own thread pool, which an OpenMP build does not use.
  std::vector<std::pair<std::string, std::string>> all;
  if (o.affinity == "pinned") {
    all.emplace_back("OMP_PROC_BIND", "close");
    all.emplace_back("OMP_PLACES", "cores");
  }
  if (o.polling != "default") all.emplace_back("OMP_WAIT_POLICY", o.polling == "active" ? "ACTIVE" : "PASSIVE");
  if (o.kernels == "haqa") all.emplace_back("GGML_BACKEND_PATH", module.string());
  return all;
}

std::filesystem::path backend_module() {
  const std::filesystem::path module = program_folder() / "libggml-haqa.so";
  std::error_code ignored;
  return std::filesystem::exists(module, ignored) ? module : std::filesystem::path();
}

}  // namespace haqa
