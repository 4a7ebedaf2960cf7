// haqa-ggml: runs llama.cpp's own implementation of a kernel for the judge (kernel/judge.h), or OpenBLAS's of a
// product. The operations of one batch are the nodes of one graph, as in a model: each costs its barrier, none the
// start.
#include <dlfcn.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/kernel/runner.h"

namespace haqa {
namespace {

struct Free {
  void operator()(ggml_context* c) const { ggml_free(c); }
  void operator()(ggml_backend* b) const { ggml_backend_free(b); }
  void operator()(ggml_backend_buffer* b) const { ggml_backend_buffer_free(b); }
};
using Context = std::unique_ptr<ggml_context, Free>;
using Backend = std::unique_ptr<ggml_backend, Free>;
using Buffer = std::unique_ptr<ggml_backend_buffer, Free>;

Context make_context(size_t tensors, size_t graph_nodes) {
  const size_t bytes =
      tensors * ggml_tensor_overhead() + (graph_nodes ? ggml_graph_overhead_custom(graph_nodes, false) : 0) + 65536;
  return Context(ggml_init({bytes, nullptr, /*no_alloc=*/true}));
}

ggml_type ggml_type_of(ElementType type) {
  switch (type) {
    case ElementType::f32:
      return GGML_TYPE_F32;
    case ElementType::i32:
      return GGML_TYPE_I32;
    case ElementType::f16:
      return GGML_TYPE_F16;
    case ElementType::q8_0:
      return GGML_TYPE_Q8_0;
    case ElementType::q4_0:
      return GGML_TYPE_Q4_0;
    case ElementType::bf16:
      return GGML_TYPE_BF16;
    case ElementType::q4_k:
      return GGML_TYPE_Q4_K;
    case ElementType::q6_k:
      return GGML_TYPE_Q6_K;
    case ElementType::iq4_nl:
      break;
  }
  return GGML_TYPE_IQ4_NL;
}

/// Weights in large pages where the system has them, as ours are: that much is no kernel's merit.
void in_large_pages(void* memory, size_t bytes) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t from = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / kPage * kPage;
  if (end > from) madvise(reinterpret_cast<void*>(from), end - from, MADV_HUGEPAGE);
}

class GgmlRunner : public Runner {
 public:
  GgmlRunner(const RunnerArguments& arguments, const RunnerMemory& memory, std::string operation)
      : memory_(memory), control_(memory.control()), operation_(std::move(operation)) {
    device_ = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (!device_) throw Error("llama.cpp has no CPU back end here");
    backend_.reset(ggml_backend_dev_init(device_, nullptr));
    const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device_), "ggml_backend_set_n_threads"));
    if (!set_threads) throw Error("llama.cpp's CPU back end does not let its threads be set");
    set_threads(backend_.get(), arguments.threads);
    inputs_.reset(ggml_backend_cpu_buffer_from_ptr(const_cast<std::byte*>(memory.inputs()), kInputBytes));
    outputs_.reset(ggml_backend_cpu_buffer_from_ptr(memory.outputs(), kOutputBytes));
  }
  ~GgmlRunner() override { drop_plan(); }

  void prepare() override {
    drop_plan();
    weights_.clear();
    weight_buffer_.reset();
    if (!control_.has_weights) return;
    weight_context_ = make_context(control_.copies, 0);
    for (uint32_t i = 0; i < control_.copies; ++i)
      weights_.push_back(new_tensor(weight_context_.get(), control_.in[0]));
    weight_buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(weight_context_.get(), best_buffer_type()));
    if (!weight_buffer_) throw NoMemoryError("llama.cpp cannot allocate {} copies of the weights", control_.copies);
    ggml_backend_buffer_set_usage(weight_buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    in_large_pages(ggml_backend_buffer_get_base(weight_buffer_.get()),
                   ggml_backend_buffer_get_size(weight_buffer_.get()));
    for (size_t i = 0; i < weights_.size(); ++i)
      ggml_backend_tensor_set(weights_[i], memory_.weights(i), 0, ggml_nbytes(weights_[i]));
  }

  void load() override {
    drop_plan();
    // Inputs of all launches are a graph's leaves, of which it holds as many as nodes.
    const size_t nodes = control_.launches * std::max<size_t>(2, control_.inputs) + 16;
    context_ = make_context(nodes * 3, nodes);
    ggml_cgraph* graph = ggml_new_graph_custom(context_.get(), nodes, false);
    for (uint32_t i = 0; i < control_.launches; ++i) ggml_build_forward_expand(graph, node(control_.places[i]));
    if (control_.launches == 0) ggml_build_forward_expand(graph, least_node());
    plan_ = ggml_backend_graph_plan_create(backend_.get(), graph);
  }

  void run() override {
    if (plan_ && ggml_backend_graph_plan_compute(backend_.get(), plan_) != GGML_STATUS_SUCCESS)
      throw Error("llama.cpp could not compute the graph");
  }

 private:
  void drop_plan() {
    if (plan_) ggml_backend_graph_plan_free(backend_.get(), plan_);
    plan_ = nullptr;
  }

  static ggml_tensor* new_tensor(ggml_context* context, const TensorShape& shape) {
    ggml_tensor* t = ggml_new_tensor_3d(context, ggml_type_of(shape.type), shape.ne[0], shape.ne[1], shape.ne[2]);
    for (int d = 1; d < 3; ++d) t->nb[d] = static_cast<size_t>(shape.nb[d]);
    return t;
  }

  /// Where llama.cpp's loader would put these weights: the first of the CPU's further buffer types that supports the
  /// product, which may repack them; else the plain one.
  ggml_backend_buffer_type_t best_buffer_type() {
    using GetExtra = ggml_backend_buffer_type_t* (*)(ggml_backend_dev_t);
    const auto extra = reinterpret_cast<GetExtra>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device_), "ggml_backend_dev_get_extra_bufts"));
    for (ggml_backend_buffer_type_t* type = extra ? extra(device_) : nullptr; type && *type; ++type) {
      const Context context = make_context(8, 0);
      ggml_tensor* weights = new_tensor(context.get(), control_.in[0]);
      ggml_tensor* product = ggml_mul_mat(context.get(), weights, new_tensor(context.get(), control_.in[1]));
      const Buffer empty(ggml_backend_buft_alloc_buffer(*type, 0));
      weights->buffer = empty.get();
      const bool supported = ggml_backend_dev_supports_op(device_, product);
      weights->buffer = nullptr;
      if (supported) return *type;
    }
    return ggml_backend_dev_buffer_type(device_);
  }

  ggml_tensor* input(uint32_t i, const LaunchPlace& place) {
    if (i == 0 && control_.has_weights) return weights_.at(place.copy);
    ggml_tensor* t = new_tensor(context_.get(), control_.in[i]);
    ggml_backend_tensor_alloc(inputs_.get(), t, const_cast<std::byte*>(memory_.inputs()) + place.in[i]);
    return t;
  }

  /// What only wakes the threads, as an empty batch of ours does.
  ggml_tensor* least_node() {
    ggml_tensor* a = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, 1, 64);
    ggml_backend_tensor_alloc(inputs_.get(), a, const_cast<std::byte*>(memory_.inputs()));
    ggml_tensor* b = ggml_silu(context_.get(), a);
    ggml_backend_tensor_alloc(outputs_.get(), b, memory_.outputs() + kOutputsAt);
    return b;
  }

  ggml_tensor* node(const LaunchPlace& place) {
    ggml_context* c = context_.get();
    const auto placed = [&](ggml_tensor* t) {
      ggml_backend_tensor_alloc(outputs_.get(), t, memory_.outputs() + place.out);
      return t;
    };
    ggml_tensor* a = input(0, place);
    ggml_tensor* b = control_.inputs > 1 ? input(1, place) : nullptr;
    const float scalar = control_.scalar[0];
    if (operation_ == "softmax") return placed(ggml_soft_max(c, a));
    if (operation_ == "silu") return placed(ggml_silu(c, a));
    if (operation_ == "swiglu") return placed(ggml_swiglu_split(c, a, b));
    if (operation_ == "rms_norm") return placed(ggml_rms_norm(c, a, scalar));
    if (operation_ == "rms_norm_mul") return placed(ggml_mul(c, placed(ggml_rms_norm(c, a, scalar)), b));
    if (operation_ == "matmul") return placed(ggml_mul_mat(c, a, b));
    if (operation_ == "rope")
      return placed(ggml_rope_ext(c, a, b, nullptr, static_cast<int>(a->ne[0]), GGML_ROPE_TYPE_NORMAL, 0, scalar, 1, 0,
                                  1, 32, 1));
    if (operation_ == "attention")
      return placed(ggml_flash_attn_ext(c, a, b, input(2, place), input(3, place), scalar, 0, 0));
    throw Error("llama.cpp's implementation of {} is not known here", operation_);
  }

  const RunnerMemory& memory_;
  Control& control_;
  const std::string operation_;
  ggml_backend_dev_t device_ = nullptr;
  Backend backend_;
  Buffer inputs_, outputs_, weight_buffer_;
  Context weight_context_, context_;
  std::vector<ggml_tensor*> weights_;
  ggml_backend_graph_plan_t plan_ = nullptr;
};

/// cblas_sgemm, of a single column cblas_sgemv, of an OpenBLAS that is installed: what a user would call for a product
/// of plain floats.
class BlasRunner : public Runner {
 public:
  BlasRunner(const RunnerArguments& arguments, const RunnerMemory& memory)
      : memory_(memory), control_(memory.control()) {
    void* library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!library) throw Error("OpenBLAS is not installed");
    sgemm_ = reinterpret_cast<decltype(sgemm_)>(dlsym(library, "cblas_sgemm"));
    sgemv_ = reinterpret_cast<decltype(sgemv_)>(dlsym(library, "cblas_sgemv"));
    const auto set_threads = reinterpret_cast<void (*)(int)>(dlsym(library, "openblas_set_num_threads"));
    if (!sgemm_ || !sgemv_ || !set_threads) throw Error("libopenblas.so.0 has no cblas_sgemm");
    set_threads(arguments.threads);
  }
  void prepare() override {
    if (!control_.has_weights || control_.in[0].type != ElementType::f32)
      throw Error("OpenBLAS multiplies floats alone");
    bytes_ = static_cast<size_t>(control_.in[0].bytes());
    weights_.reserve(bytes_ / 4 * control_.copies);
    in_large_pages(weights_.data(), weights_.capacity() * sizeof(float));
    weights_.resize(bytes_ / 4 * control_.copies);
    for (uint32_t i = 0; i < control_.copies; ++i)
      std::memcpy(weights_.data() + i * (bytes_ / 4), memory_.weights(i), bytes_);
  }
  void run() override {
    constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;
    const int m = static_cast<int>(control_.out.ne[0]), n = static_cast<int>(control_.out.ne[1]);
    const int k = static_cast<int>(control_.in[0].ne[0]);
    for (uint32_t i = 0; i < control_.launches; ++i) {
      const LaunchPlace& place = control_.places[i];
      const float* weights = weights_.data() + place.copy * (bytes_ / 4);
      const auto* right = reinterpret_cast<const float*>(memory_.inputs() + place.in[1]);
      auto* out = reinterpret_cast<float*>(memory_.outputs() + place.out);
      if (n == 1) {
        sgemv_(kRowMajor, kNoTranspose, m, k, 1, weights, k, right, 1, 0, out, 1);
      } else {
        sgemm_(kRowMajor, kNoTranspose, kTranspose, n, m, k, 1, right, k, weights, k, 0, out, m);
      }
    }
  }

 private:
  const RunnerMemory& memory_;
  Control& control_;
  size_t bytes_ = 0;
  std::vector<float> weights_;
  void (*sgemv_)(int, int, int, int, float, const float*, int, const float*, int, float, float*, int) = nullptr;
  void (*sgemm_)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*,
                 int) = nullptr;
};

void run(int argc, char** argv) {
  const RunnerArguments arguments = runner_arguments(argc, argv);
  const std::string contestant = argv[6], operation = argc > 7 ? argv[7] : "";
  const RunnerMemory memory(arguments);
  std::unique_ptr<Runner> runner;
  try {
    if (contestant == "openblas") {
      runner = std::make_unique<BlasRunner>(arguments, memory);
    } else {
      runner = std::make_unique<GgmlRunner>(arguments, memory, operation);
    }
  } catch (const std::exception& e) {
    return serve_failure(e.what(), memory.control());
  }
  serve(*runner, memory.control());
}

}  // namespace
}  // namespace haqa

int main(int argc, char** argv) {
  try {
    if (argc < 7) throw haqa::UsageError("this program answers haqa's judge of kernels");
    haqa::run(argc, argv);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "haqa-ggml: %s\n", e.what());
    return 1;
  }
}
