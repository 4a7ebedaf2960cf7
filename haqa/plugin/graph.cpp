#include "haqa/plugin/graph.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "haqa/plugin/buffers.h"
#include "haqa/plugin/log.h"
#include "haqa/plugin/weights.h"

namespace haqa {
namespace {

/// Steps that no barrier parts each have shared scratch memory of their own, and there is no more of it.
constexpr size_t kLongestGroup = 4;

/// The first three dimensions, which kernels know, of what begins at these places of the last two.
haqa_tensor part_of(const ggml_tensor& t, int64_t i2, int64_t i3) {
  haqa_tensor k = {};
  k.data = static_cast<char*>(t.data) + static_cast<size_t>(i2) * t.nb[2] + static_cast<size_t>(i3) * t.nb[3];
  for (int i = 0; i < 3; ++i) k.ne[i] = t.ne[i], k.nb[i] = static_cast<int64_t>(t.nb[i]);
  return k;
}

/// The whole of it: the last two dimensions are one where nothing is between them.
std::optional<haqa_tensor> tensor_of(const ggml_tensor& t) {
  haqa_tensor k = part_of(t, 0, 0);
  if (t.ne[3] > 1) {
    if (t.ne[2] > 1 && t.nb[3] != static_cast<size_t>(t.ne[2]) * t.nb[2]) return {};
    if (t.ne[2] == 1) k.nb[2] = static_cast<int64_t>(t.nb[3]);
    k.ne[2] *= t.ne[3];
  }
  return k;
}

bool is_floats(const ggml_tensor* t) {
  return t && t->type == GGML_TYPE_F32 && t->nb[0] == sizeof(float) && tensor_of(*t);
}

/// All its rows follow each other, so that a product may take them as one matrix.
std::optional<haqa_tensor> matrix_of(const ggml_tensor& t) {
  const auto next = static_cast<size_t>(t.ne[1]) * t.nb[1];  // a stride means nothing where its dimension is one
  if (t.ne[2] > 1 && t.nb[2] != next) return {};
  if (t.ne[3] > 1 && t.nb[3] != static_cast<size_t>(t.ne[2]) * next) return {};
  haqa_tensor k = part_of(t, 0, 0);
  k.ne[1] = ggml_nrows(&t), k.ne[2] = 1;
  k.nb[2] = k.nb[1] * k.ne[1];
  return k;
}

haqa_tensor slice_of(const ggml_tensor& t, int64_t i2, int64_t i3) {
  haqa_tensor k = part_of(t, i2, i3);
  k.ne[2] = 1;
  return k;
}

float float_parameter(const ggml_tensor& node, int i) {
  float value;
  std::memcpy(&value, node.op_params + i, sizeof value);
  return value;
}

bool is_swiglu(const ggml_tensor& node) {
  return node.op == GGML_OP_GLU && ggml_get_glu_op(&node) == GGML_GLU_OP_SWIGLU && is_floats(node.src[0]) &&
         (!node.src[1] || is_floats(node.src[1])) && is_floats(&node);
}

bool is_silu(const ggml_tensor& node) {
  return node.op == GGML_OP_UNARY && ggml_get_unary_op(&node) == GGML_UNARY_OP_SILU && is_floats(node.src[0]) &&
         is_floats(&node);
}

/// One of the matrices that a tensor of weights in ggml's layout consists of.
ggml_tensor matrix_at(const ggml_tensor& weights, int64_t i2, int64_t i3) {
  ggml_tensor matrix = weights;
  matrix.ne[2] = matrix.ne[3] = 1;
  matrix.data = slice_of(weights, i2, i3).data;
  return matrix;
}

bool is_packed_at_once(const Kernels& kernels, const ggml_tensor& weights) {
  return test_switches().packs_all && weights.op == GGML_OP_NONE && kernels.of_weights(matrix_at(weights, 0, 0));
}

/// Without what few models have: sinks, a bias of positions, a cap, masks of heads.
bool is_attention(const ggml_tensor& node) {
  const ggml_tensor *q = node.src[0], *k = node.src[1], *v = node.src[2], *mask = node.src[3];
  const float bias = float_parameter(node, 1), cap = float_parameter(node, 2);
  const auto is_dense = [](const ggml_tensor& t) { return t.nb[0] == ggml_type_size(t.type); };
  return !node.src[4] && bias == 0 && cap == 0 && q->type == GGML_TYPE_F32 && is_dense(*q) && k->type == v->type &&
         is_dense(*k) && is_dense(*v) && k->ne[0] % 8 == 0 && v->ne[0] % 8 == 0 && k->ne[2] == v->ne[2] &&
         k->ne[3] == q->ne[3] && v->ne[3] == q->ne[3] && q->ne[2] % k->ne[2] == 0 && ggml_is_contiguous(&node) &&
         (!mask || (mask->ne[2] == 1 && q->ne[3] % mask->ne[3] == 0));
}

const KernelFunctions* attention_kernel(const Kernels& kernels, const ggml_tensor& node) {
  switch (node.src[1]->type) {
    case GGML_TYPE_F16:
      return kernels.find("attention-F16");
    case GGML_TYPE_Q8_0:
      return kernels.find("attention-Q8_0");
    default:
      return nullptr;
  }
}

Range range_of(const ggml_tensor& t) {
  const auto* begin = static_cast<const char*>(t.data);
  return {begin, begin + ggml_nbytes(&t)};
}

bool overlap(std::span<const Range> some, std::span<const Range> others) {
  return std::any_of(some.begin(), some.end(), [&](const Range& a) {
    return std::any_of(others.begin(), others.end(),
                       [&](const Range& b) { return a.begin < b.end && b.begin < a.end; });
  });
}

/// What kernels may be given: an output that is the input itself, or shares nothing with it (kernels/kernel.h).
bool is_same_or_apart(const ggml_tensor& in, const ggml_tensor& out) {
  const Range a = range_of(in), b = range_of(out);
  return (in.data == out.data && std::equal(in.nb, in.nb + GGML_MAX_DIMS, out.nb)) || !overlap({&a, 1}, {&b, 1});
}

/// RMS_NORM whose result only the next node's MUL by one row takes: one kernel does both.
bool is_fused(const Kernels& kernels, const ggml_cgraph& graph, int at) {
  constexpr ggml_op kOperations[] = {GGML_OP_RMS_NORM, GGML_OP_MUL};
  if (!kernels.find("rms_norm_mul-F32") || !ggml_can_fuse(&graph, at, kOperations, 2)) return false;
  const ggml_tensor &norm = *graph.nodes[at], &product = *graph.nodes[at + 1];
  const ggml_tensor* weights = product.src[product.src[0] == &norm ? 1 : 0];
  return is_floats(norm.src[0]) && is_floats(&product) && is_floats(weights) && ggml_nrows(weights) == 1 &&
         weights->ne[0] == norm.ne[0] && is_same_or_apart(*norm.src[0], product);
}

/// What stock code is to serve of a norm is its product too.
bool is_product_of_stock_norm(const Kernels& kernels, const ggml_tensor& node) {
  if (kernels.find("rms_norm-F32") || kernels.find("rms_norm_mul-F32")) return false;
  return node.src[0]->op == GGML_OP_RMS_NORM || node.src[1]->op == GGML_OP_RMS_NORM;
}

/// Nodes that only look at memory, or that nobody wants.
bool is_empty(const ggml_tensor& node) {
  return ggml_op_is_empty(node.op) || ggml_is_empty(&node) || (node.flags & GGML_TENSOR_FLAG_COMPUTE) == 0;
}

}  // namespace

bool is_product(const ggml_tensor& node) {
  const ggml_tensor* x = node.src[1];
  return node.op == GGML_OP_MUL_MAT && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) &&
         node.type == GGML_TYPE_F32;
}

TestSwitches& test_switches() {
  static TestSwitches switches;
  return switches;
}

bool is_native(const Kernels& kernels, const ggml_tensor& node) {
  switch (node.op) {
    case GGML_OP_MUL_MAT:
      return is_product(node) &&
             ((!node.src[0]->view_src && packed_for(*node.src[0])) || is_packed_at_once(kernels, *node.src[0]));
    case GGML_OP_RMS_NORM:
      return kernels.find("rms_norm-F32") && is_floats(node.src[0]) && is_floats(&node);
    case GGML_OP_UNARY:
      return kernels.find("silu-F32") && is_silu(node);
    case GGML_OP_GLU:
      return kernels.find("swiglu-F32") && is_swiglu(node);
    case GGML_OP_FLASH_ATTN_EXT:
      return is_attention(node) && attention_kernel(kernels, node);
    case GGML_OP_ROPE:
      return supports_rope(node);
    case GGML_OP_ADD:
      return supports_arithmetic(node);
    case GGML_OP_MUL:
      return supports_arithmetic(node) && !is_product_of_stock_norm(kernels, node);
    case GGML_OP_SET_ROWS:
    case GGML_OP_GET_ROWS:
    case GGML_OP_CPY:
    case GGML_OP_CONT:
    case GGML_OP_DUP:
      return supports_rows(node);
    default:
      return false;
  }
}

GraphRunner::GraphRunner(const Kernels& kernels) : kernels_(kernels) {}

GraphRunner::~GraphRunner() {
  if (cpu_) ggml_backend_free(cpu_);
}

/// No exception may pass ggml.
ggml_status GraphRunner::compute(ggml_cgraph& graph) {
  ggml_status status = GGML_STATUS_FAILED;
  try {
    status = plan_and_run(graph);
  } catch (const std::bad_alloc&) {
    log_warning("there is no memory to compute a graph");
    status = GGML_STATUS_ALLOC_FAILED;
  } catch (const std::exception& e) {
    log_warning(std::string("a graph cannot be computed: ") + e.what());
  }
  forget_steps();  // and the tables, whatever came in between: their nodes are gone by the next graph
  tables_.clear();
  return status;
}

ggml_status GraphRunner::plan_and_run(ggml_cgraph& graph) {
  if (!make_scratch()) return GGML_STATUS_ALLOC_FAILED;
  for (int at = 0; at < graph.n_nodes;) {
    if (is_empty(*graph.nodes[at])) {
      ++at;
    } else if (is_native(kernels_, *graph.nodes[at])) {
      at += add(graph, at);
    } else {
      if (const ggml_status status = run_steps(); status != GGML_STATUS_SUCCESS) return status;
      int end = at + 1;
      while (end < graph.n_nodes && !is_native(kernels_, *graph.nodes[end])) ++end;
      if (const ggml_status status = compute_elsewhere(graph, at, end); status != GGML_STATUS_SUCCESS) return status;
      at = end;
    }
  }
  return run_steps();
}

/// Plans the node, and how many after it are done with it.
int GraphRunner::add(ggml_cgraph& graph, int at) {
  const ggml_tensor& node = *graph.nodes[at];
  haqa_launch launch = {};
  if (const auto out = tensor_of(node)) launch.out = *out;
  switch (node.op) {
    case GGML_OP_MUL_MAT:
      add_product(node);
      return 1;
    case GGML_OP_RMS_NORM: {
      launch.in[0] = *tensor_of(*node.src[0]);
      const float epsilon = float_parameter(node, 0);
      if (!is_fused(kernels_, graph, at)) {
        add_kernel(node, *kernels_.find("rms_norm-F32"), launch, {node.src[0]}, epsilon);
        return 1;
      }
      const ggml_tensor& product = *graph.nodes[at + 1];
      const ggml_tensor* weights = product.src[product.src[0] == &node ? 1 : 0];
      launch.in[1] = *tensor_of(*weights);
      launch.out = *tensor_of(product);
      add_kernel(product, *kernels_.find("rms_norm_mul-F32"), launch, {node.src[0], weights}, epsilon);
      return 2;
    }
    case GGML_OP_UNARY:
      launch.in[0] = *tensor_of(*node.src[0]);
      add_kernel(node, *kernels_.find("silu-F32"), launch, {node.src[0]});
      return 1;
    case GGML_OP_GLU: {
      const ggml_tensor *a = node.src[0], *b = node.src[1] ? node.src[1] : a;
      launch.in[0] = *tensor_of(*a), launch.in[1] = *tensor_of(*b);
      if (!node.src[1]) {  // both are halves of the rows of a
        const bool swapped = node.op_params[1] != 0;
        haqa_tensor& second = launch.in[swapped ? 0 : 1];
        second.data = static_cast<char*>(second.data) + node.nb[0] * static_cast<size_t>(node.ne[0]);
        launch.in[0].ne[0] = launch.in[1].ne[0] = node.ne[0];
      }
      add_kernel(node, *kernels_.find("swiglu-F32"), launch, {a, b});
      return 1;
    }
    case GGML_OP_FLASH_ATTN_EXT:
      add_attention(node);
      return 1;
    case GGML_OP_ROPE:
      add_rope(node);
      return 1;
    case GGML_OP_ADD:
    case GGML_OP_MUL:
      add_plain(node, arithmetic);
      return 1;
    default:
      add_plain(node, rows);
      return 1;
  }
}

void GraphRunner::add_kernel(const ggml_tensor& node, const KernelFunctions& kernel, const haqa_launch& launch,
                             std::initializer_list<const ggml_tensor*> inputs, float scalar) {
  Step step = step_of(node, inputs);
  haqa_team& team = teams_.emplace_back();
  const size_t slot = teams_.size() % kLongestGroup;
  step.work = [this, &team, launch, scalar, slot, compute = kernel.compute](Share share) {
    haqa_launch mine = launch;
    mine.scalars = &scalar;
    mine.scratch = scratch_.data() + haqa_scratch_bytes * share.thread;
    mine.shared_scratch = shared_scratch_.data() + static_cast<size_t>(haqa_shared_scratch_bytes) * slot;
    mine.thread = share.thread, mine.threads = share.threads;
    mine.team = &team;
    mine.barrier = [](haqa_team* t) { t->barrier->wait(); };
    mine.take = [](haqa_team* t, int64_t amount) { return t->taken.fetch_add(amount, std::memory_order_relaxed); };
    compute(&mine);
  };
  add_step(std::move(step));
}

/// Products that stand side by side in memory are one; else there is one for each matrix of the activations.
void GraphRunner::add_product(const ggml_tensor& node) {
  const ggml_tensor &weights = *node.src[0], &x = *node.src[1];
  const auto columns = matrix_of(x), out = matrix_of(node);
  const KernelFunctions* kernel = packed_for(weights);
  if (kernel && columns && out) {
    add_matrix_product(node, weights, *kernel, *columns, *out);
    return;
  }
  const int64_t repeated2 = x.ne[2] / weights.ne[2], repeated3 = x.ne[3] / weights.ne[3];
  for (int64_t i3 = 0; i3 < x.ne[3]; ++i3)
    for (int64_t i2 = 0; i2 < x.ne[2]; ++i2) {
      ggml_tensor matrix = matrix_at(weights, i2 / repeated2, i3 / repeated3);
      const KernelFunctions& own = kernel ? *kernel : *kernels_.of_weights(matrix);
      if (!kernel) {
        const Memory& memory = packed_anew_.emplace_back(room_for(kernels_, matrix));
        if (!memory) throw std::bad_alloc();
        pack(matrix, own, std::exchange(matrix.data, memory.data()), memory.data());
      }
      add_matrix_product(node, matrix, own, slice_of(x, i2, i3), slice_of(node, i2, i3));
    }
}

void GraphRunner::add_matrix_product(const ggml_tensor& node, const ggml_tensor& weights, const KernelFunctions& kernel,
                                     const haqa_tensor& x, const haqa_tensor& out) {
  haqa_launch launch = {};
  launch.in[0] = slice_of(weights, 0, 0);
  launch.in[0].data = nullptr;
  launch.packed = weights.data;
  launch.in[1] = x, launch.out = out;
  add_kernel(node, kernel, launch, {node.src[1]});
}

/// Sequences that are computed side by side have a part of the cache each.
void GraphRunner::add_attention(const ggml_tensor& node) {
  const ggml_tensor &q = *node.src[0], &k = *node.src[1], &v = *node.src[2], *mask = node.src[3];
  for (int64_t i3 = 0; i3 < q.ne[3]; ++i3) {
    haqa_launch launch = {};
    launch.in[0] = part_of(q, 0, i3), launch.in[1] = part_of(k, 0, i3), launch.in[2] = part_of(v, 0, i3);
    if (mask) launch.in[3] = part_of(*mask, 0, i3 % mask->ne[3]);
    launch.out = part_of(node, 0, i3);
    add_kernel(node, *attention_kernel(kernels_, node), launch, {&q, &k, &v, mask}, float_parameter(node, 0));
  }
}

void GraphRunner::add_rope(const ggml_tensor& node) {
  const auto known = std::find_if(tables_.begin(), tables_.end(), [&](const auto& t) { return t->serves(node); });
  RopeTable* table = known != tables_.end() ? known->get() : nullptr;
  if (!table) {
    table = tables_.emplace_back(std::make_unique<RopeTable>(node)).get();
    Step compute = step_of(node, {node.src[1]});  // as if it wrote the node, which needs it first
    compute.work = [table](Share share) { table->compute(share); };
    add_step(std::move(compute));
  }
  Step step = step_of(node, {node.src[0]});
  step.work = [&node, table](Share share) { rope(node, *table, share); };
  add_step(std::move(step));
}

void GraphRunner::add_plain(const ggml_tensor& node, void (*work)(const ggml_tensor&, Share)) {
  Step step = step_of(node, {node.src[0], node.src[1]});
  step.work = [&node, work](Share share) { work(node, share); };
  add_step(std::move(step));
}

GraphRunner::Step GraphRunner::step_of(const ggml_tensor& node, std::initializer_list<const ggml_tensor*> inputs) {
  Step step;
  for (const ggml_tensor* input : inputs)
    if (input) step.reads.push_back(range_of(*input));
  step.writes.push_back(range_of(node));
  return step;
}

/// A step that touches nothing that the steps before it write, nor writes what they read, begins without waiting for
/// the last of their threads.
void GraphRunner::add_step(Step step) {
  const auto conflicts = [&](const Step& earlier) {
    return overlap(step.reads, earlier.writes) || overlap(step.writes, earlier.writes) ||
           overlap(step.writes, earlier.reads);
  };
  const auto group = std::span(steps_).subspan(group_);
  if (group.size() >= kLongestGroup || std::any_of(group.begin(), group.end(), conflicts)) {
    step.barrier = true;
    group_ = steps_.size();
  }
  steps_.push_back(std::move(step));
}

bool GraphRunner::make_scratch() {
  const auto bytes = static_cast<size_t>(haqa_scratch_bytes * threads_);
  if (scratch_.size() < bytes) scratch_ = Memory(bytes, Pages::small, Backing::as_touched);
  if (!shared_scratch_)
    shared_scratch_ =
        Memory(static_cast<size_t>(haqa_shared_scratch_bytes) * kLongestGroup, Pages::small, Backing::as_touched);
  if (scratch_ && shared_scratch_) return true;
  log_warning("there is no memory for the kernels' intermediate results");
  return false;
}

ggml_status GraphRunner::run_steps() {
  if (steps_.empty()) return GGML_STATUS_SUCCESS;
  const size_t n = steps_.size();
  std::atomic<size_t> end = n;  // the step before which all stop, which those that are behind may reach later
  run_on_threads(threads_, [&](Share share, Barrier& barrier) {
    if (share.thread == 0)
      for (haqa_team& team : teams_) team.barrier = &barrier;
    barrier.wait();
    for (size_t i = 0; i < n; ++i) {
      if (steps_[i].barrier) {
        if (share.thread == 0 && abort_callback_ && abort_callback_(abort_data_)) end = i;
        barrier.wait();
        if (i >= end) return;
      }
      steps_[i].work(share);
    }
  });
  forget_steps();
  return end < n ? GGML_STATUS_ABORTED : GGML_STATUS_SUCCESS;
}

void GraphRunner::set_abort_callback(ggml_abort_callback callback, void* data) {
  abort_callback_ = callback;
  abort_data_ = data;
  if (cpu_ && set_cpu_abort_callback_) set_cpu_abort_callback_(cpu_, callback, data);
}

void GraphRunner::forget_steps() {
  steps_.clear();
  teams_.clear();
  packed_anew_.clear();
  group_ = 0;
}

/// By the CPU back end that the host has, in the same memory.
ggml_status GraphRunner::compute_elsewhere(ggml_cgraph& graph, int first, int end) {
  if (!cpu_) {
    cpu_ = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    if (!cpu_) return GGML_STATUS_FAILED;
    ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu_));
    set_cpu_threads_ = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    set_cpu_abort_callback_ = reinterpret_cast<ggml_backend_set_abort_callback_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_abort_callback"));
    set_abort_callback(abort_callback_, abort_data_);
  }
  if (set_cpu_threads_) set_cpu_threads_(cpu_, threads_);
  ggml_cgraph part = ggml_graph_view(&graph, first, end);
  return ggml_backend_graph_compute(cpu_, &part);
}

}  // namespace haqa
