#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "haqa/plugin/ggml.h"
#include "haqa/plugin/kernels.h"
#include "haqa/plugin/memory.h"
#include "haqa/plugin/operations.h"
#include "haqa/plugin/team.h"

namespace haqa {

/// Whether the node is a matrix product of floats by which weights, packed for it, are multiplied.
bool is_product(const ggml_tensor& node);

/// What tests of operations need, and nobody else: set by the module that is built for them (test_module_main.cpp).
struct TestSwitches {
  bool packs_all = false;  ///< weights in plain memory are packed for every product anew, so that it reaches kernels
  bool native_only =
      false;  ///< the device supports what is_native() alone: ggml's CPU code is not tested against itself
  std::string ggml_version = GGML_VERSION_BUILT_FOR;  ///< of the host that it serves
};
TestSwitches& test_switches();

/// Whether this module computes the node itself: by a kernel, or by operations.h.
bool is_native(const Kernels& kernels, const ggml_tensor& node);

/// Memory from begin to before end.
struct Range {
  const char *begin, *end;
};

/// Computes graphs of ggml: what is native on one team of threads from the first node to the last, the rest by ggml's
/// own CPU code in between.
class GraphRunner {
 public:
  explicit GraphRunner(const Kernels& kernels);
  ~GraphRunner();
  void set_threads(int threads) { threads_ = threads; }
  /// What one of the threads asks between steps: where it says yes, nothing more is computed. Null: nobody.
  void set_abort_callback(ggml_abort_callback callback, void* data);
  ggml_status compute(ggml_cgraph& graph);

 private:
  /// What all threads do together.
  struct Step {
    std::function<void(Share)> work;
    std::vector<Range> reads, writes;
    bool barrier = false;  ///< all earlier steps must be done before this one begins
  };

  int add(ggml_cgraph& graph, int at);
  void add_kernel(const ggml_tensor& node, const KernelFunctions& kernel, const haqa_launch& launch,
                  std::initializer_list<const ggml_tensor*> inputs, float scalar = 0);
  void add_product(const ggml_tensor& node);
  void add_matrix_product(const ggml_tensor& node, const ggml_tensor& weights, const KernelFunctions& kernel,
                          const haqa_tensor& x, const haqa_tensor& out);
  void add_attention(const ggml_tensor& node);
  void add_rope(const ggml_tensor& node);
  void add_plain(const ggml_tensor& node, void (*work)(const ggml_tensor&, Share));
  Step step_of(const ggml_tensor& node, std::initializer_list<const ggml_tensor*> inputs);
  void add_step(Step step);
  ggml_status plan_and_run(ggml_cgraph& graph);
  void forget_steps();
  bool make_scratch();
  ggml_status run_steps();
  ggml_status compute_elsewhere(ggml_cgraph& graph, int first, int end);

  const Kernels& kernels_;
  int threads_ = 1;
  std::vector<Step> steps_;
  size_t group_ = 0;  ///< where the steps begin that no barrier parts
  std::deque<haqa_team> teams_;
  std::vector<std::unique_ptr<RopeTable>> tables_;
  std::deque<Memory> packed_anew_;
  Memory scratch_, shared_scratch_;
  ggml_backend_t cpu_ = nullptr;  ///< the host's, once it was needed
  ggml_backend_set_n_threads_t set_cpu_threads_ = nullptr;
  ggml_backend_set_abort_callback_t set_cpu_abort_callback_ = nullptr;
  ggml_abort_callback abort_callback_ = nullptr;
  void* abort_data_ = nullptr;
};

}  // namespace haqa
