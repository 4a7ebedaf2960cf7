#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/hardware/profile.h"
#include "haqa/space/search_space.h"

namespace haqa {

/// llama.cpp's run-time options, as llama-bench, llama-server and llama-cli understand them.
struct RuntimeOptions {
  std::string gguf_type;            ///< which quantized file; empty: the only one there is
  int threads = 0;                  ///< for generation; 0: llama.cpp's own choice
  int threads_batch = 0;            ///< for the prompt; 0: as `threads`
  std::string affinity = "none";    ///< "none", or "pinned": one core to a thread
  std::string polling = "default";  ///< "default", "active" (spin while waiting) or "passive" (sleep)
  int batch = 2048, ubatch = 512;
  std::string flash_attention = "auto";
  std::string cache_type_k = "f16", cache_type_v = "f16";
  std::string load_mode = "auto";
  bool repack = true;   ///< weights re-laid at load for the CPU's vector instructions
  int gpu_layers = -1;  ///< -1: llama.cpp's own choice
  /// "stock": llama.cpp's; "haqa": ours, by the back-end module that llama.cpp loads (docs/plugin.md).
  std::string kernels = "stock";

  bool operator==(const RuntimeOptions&) const = default;
};

/// What the search space depends on.
struct RuntimeSpaceFacts {
  int default_threads = 1;  ///< as llama.cpp chooses on this machine: see default_llama_threads()
  int max_threads = 1;
  int n_layer = 0;
  bool has_gpu = false;                        ///< see llama_uses_gpu()
  std::vector<std::string> gguf_types;         ///< choices within the bit width, the default first
  int prompt_tokens = 128;                     ///< of the request that is timed: larger batches than it are all alike
  int n_embd_head_k = 64, n_embd_head_v = 64;  ///< cache types whose blocks do not divide a head are left out
  bool has_module = false;                     ///< see backend_module()
};

/// The options worth tuning on a device. Its defaults are llama.cpp's.
SearchSpace runtime_space(const RuntimeSpaceFacts& facts);

/// Missing keys keep llama.cpp's defaults.
RuntimeOptions runtime_options(const Configuration& configuration);

/// Command-line options for llama-bench; `prompt`: with threads_batch, as llama-bench has one thread count only.
std::vector<std::string> bench_arguments(const RuntimeOptions& options, bool prompt);
/// Command-line options for llama-server and llama-cli. Those at llama.cpp's default are left out.
std::vector<std::string> server_arguments(const RuntimeOptions& options);
/// Environment variables that go with them: OpenMP's, which most builds of llama.cpp use for their threads, and where
/// `module` is, for options that run its kernels.
std::vector<std::pair<std::string, std::string>> runtime_environment(const RuntimeOptions& options,
                                                                     const std::filesystem::path& module);

/// libggml-haqa.so beside the running program; empty where this build has none.
std::filesystem::path backend_module();

}  // namespace haqa
