// Small graphs, scheduled by ggml between the module's device and the processor as llama.cpp's are.
#include <ggml-alloc.h>
#include <ggml-cpp.h>
#include <ggml.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "haqa/plugin/module_test_support.h"

namespace haqa {
namespace {

/// A graph with tensors in memory of its own, and in buffers of packed weights.
class Graph {
 public:
  Graph()
      : packed_(ggml_init({64 * ggml_tensor_overhead(), nullptr, true})),
        plain_(ggml_init({64 * ggml_tensor_overhead(), nullptr, true})),
        nodes_(ggml_init({64 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true})),
        device_(ggml_backend_dev_init(module_device(), nullptr)),
        processor_(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr)) {
    ggml_backend_t backends[] = {device_.get(), processor_.get()};
    scheduler_.reset(ggml_backend_sched_new(backends, nullptr, 2, GGML_DEFAULT_GRAPH_SIZE, false, false));
  }

  ggml_tensor* weights(ggml_type type, int64_t k, int64_t m) { return ggml_new_tensor_2d(packed_.get(), type, k, m); }
  ggml_tensor* input(int64_t n0, int64_t n1 = 1, int64_t n2 = 1, ggml_type type = GGML_TYPE_F32) {
    return ggml_new_tensor_3d(plain_.get(), type, n0, n1, n2);
  }
  ggml_context* nodes() { return nodes_.get(); }

  /// Once all tensors are named.
  void allocate() {
    packed_buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(packed_.get(), packed_buffers()));
    ggml_backend_buffer_set_usage(packed_buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    plain_buffer_.reset(ggml_backend_alloc_ctx_tensors(plain_.get(), processor_.get()));
  }
  ggml_backend_buffer_t packed_buffer() { return packed_buffer_.get(); }

  /// Numbers that any of these types can hold closely; returns them as they are held.
  static std::vector<float> set(ggml_tensor* t, float frequency) {
    std::vector<float> values(static_cast<size_t>(ggml_nelements(t)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(frequency * static_cast<float>(i));
    std::vector<uint8_t> bytes(ggml_nbytes(t));
    ggml_quantize_chunk(t->type, values.data(), bytes.data(), 0, ggml_nrows(t), t->ne[0], nullptr);
    ggml_backend_tensor_set(t, bytes.data(), 0, bytes.size());
    if (t->type != GGML_TYPE_F32)
      ggml_get_type_traits(t->type)->to_float(bytes.data(), values.data(), ggml_nelements(t));
    return values;
  }

  std::vector<float> compute(ggml_tensor* out) {
    ggml_cgraph* graph = ggml_new_graph(nodes_.get());
    ggml_build_forward_expand(graph, out);
    EXPECT_EQ(ggml_backend_sched_graph_compute(scheduler_.get(), graph), GGML_STATUS_SUCCESS);
    std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
    ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
    return result;
  }
  int splits() const { return ggml_backend_sched_get_n_splits(scheduler_.get()); }
  bool is_on_device(ggml_tensor* node) const {
    return ggml_backend_sched_get_tensor_backend(scheduler_.get(), node) == device_.get();
  }

 private:
  ggml_context_ptr packed_, plain_, nodes_;
  ggml_backend_ptr device_, processor_;
  ggml_backend_buffer_ptr packed_buffer_, plain_buffer_;
  ggml_backend_sched_ptr scheduler_;
};

double product(const std::vector<float>& w, size_t row, const std::vector<float>& x, size_t column, size_t k) {
  double sum = 0;
  for (size_t i = 0; i < k; ++i) sum += double(w[row * k + i]) * x[column * k + i];
  return sum;
}

/// Rows of weights by themselves, and weights as another matrix: their bytes are to be read as they were.
TEST(Graphs, ViewsOfPackedWeightsAreThoseOfTheOriginalBytes) {
  Graph g;
  ggml_tensor *w = g.weights(GGML_TYPE_Q8_0, 64, 48), *x = g.input(64, 3);
  ggml_tensor* rows = ggml_view_2d(g.nodes(), w, 64, 16, w->nb[1], 8 * w->nb[1]);
  ggml_tensor* reshaped = ggml_reshape_3d(g.nodes(), w, 64, 24, 2);
  ggml_tensor* second = ggml_view_2d(g.nodes(), reshaped, 64, 24, reshaped->nb[1], reshaped->nb[2]);
  ggml_tensor* out = ggml_concat(g.nodes(), ggml_mul_mat(g.nodes(), rows, x), ggml_mul_mat(g.nodes(), second, x), 0);
  g.allocate();
  const std::vector<float> weights = Graph::set(w, 0.7f), values = Graph::set(x, 0.3f);
  const std::vector<float> got = g.compute(out);
  for (size_t j = 0; j < 3; ++j)
    for (size_t i = 0; i < 40; ++i)
      ASSERT_NEAR(got[j * 40 + i], product(weights, 8 + i, values, j, 64), 0.3) << i << ", " << j;
}

/// As llama.cpp has adapters: beside the weights, in single precision, which no kernel packs.
TEST(Graphs, AnAdapterBesidePackedWeightsIsOneSplit) {
  Graph g;
  ggml_tensor *w = g.weights(GGML_TYPE_Q8_0, 64, 48), *a = g.weights(GGML_TYPE_F32, 64, 4),
              *b = g.weights(GGML_TYPE_F32, 4, 48), *x = g.input(64, 3);
  ggml_tensor* low = ggml_mul_mat(g.nodes(), b, ggml_mul_mat(g.nodes(), a, x));
  ggml_tensor* out = ggml_add(g.nodes(), ggml_mul_mat(g.nodes(), w, x), low);
  g.allocate();
  const std::vector<float> weights = Graph::set(w, 0.7f), av = Graph::set(a, 0.9f), bv = Graph::set(b, 0.4f),
                           xv = Graph::set(x, 0.3f);
  const std::vector<float> got = g.compute(out);
  EXPECT_EQ(g.splits(), 1);
  EXPECT_TRUE(g.is_on_device(low));
  for (size_t j = 0; j < 3; ++j)
    for (size_t i = 0; i < 48; ++i) {
      double sum = product(weights, i, xv, j, 64);
      for (size_t r = 0; r < 4; ++r) sum += double(bv[i * 4 + r]) * product(av, r, xv, j, 64);
      ASSERT_NEAR(got[j * 48 + i], sum, 0.3) << i << ", " << j;
    }
}

/// Experts are no matrix that a kernel packs: llama.cpp's code computes them, between products of ours.
TEST(Graphs, MixturesOfExpertsFallBack) {
  Graph g;
  ggml_tensor *w = g.weights(GGML_TYPE_Q8_0, 64, 64), *x = g.input(64, 1, 3),
              *experts = g.input(64, 32, 4, GGML_TYPE_Q8_0), *chosen = g.input(2, 3, 1, GGML_TYPE_I32);
  ggml_tensor* first = ggml_mul_mat(g.nodes(), w, x);
  ggml_tensor* out = ggml_mul_mat_id(g.nodes(), experts, first, chosen);
  g.allocate();
  const std::vector<float> weights = Graph::set(w, 0.7f), values = Graph::set(x, 0.3f), ev = Graph::set(experts, 0.05f);
  const std::vector<int32_t> ids = {3, 0, 1, 2, 2, 1};
  ggml_backend_tensor_set(chosen, ids.data(), 0, ids.size() * 4);
  const std::vector<float> got = g.compute(out);
  EXPECT_TRUE(g.is_on_device(first));
  for (size_t token = 0; token < 3; ++token) {
    std::vector<float> hidden(64);
    for (size_t i = 0; i < 64; ++i) hidden[i] = static_cast<float>(product(weights, i, values, token, 64));
    for (size_t use = 0; use < 2; ++use)
      for (size_t i = 0; i < 32; ++i) {
        const auto row = static_cast<size_t>(ids[token * 2 + use]) * 32 + i;
        ASSERT_NEAR(got[(token * 2 + use) * 32 + i], product(ev, row, hidden, 0, 64), 1.5)
            << token << " " << use << " " << i;
      }
  }
}

/// ggml lays the result of a norm, and of its product, where its input was.
TEST(Graphs, NormsInPlaceByManyThreads) {
  constexpr size_t kWidth = 16384;
  const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(module_device()), "ggml_backend_set_n_threads"));
  const ggml_backend_ptr backend(ggml_backend_dev_init(module_device(), nullptr));
  set_threads(backend.get(), 4);
  const ggml_context_ptr context(ggml_init({16 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
  ggml_tensor *x = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, kWidth),
              *w = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, kWidth);
  const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(context.get(), backend.get()));
  ggml_tensor* norm = ggml_rms_norm_inplace(context.get(), x, 1e-5f);
  ggml_tensor* out = ggml_mul_inplace(context.get(), norm, w);
  for (ggml_tensor* t : {norm, out}) t->data = x->data, t->buffer = x->buffer;
  ggml_cgraph* graph = ggml_new_graph(context.get());
  ggml_build_forward_expand(graph, out);
  for (int round = 0; round < 50; ++round) {
    const std::vector<float> values = Graph::set(x, 0.3f + static_cast<float>(round)), weights = Graph::set(w, 0.2f);
    double sum = 0;
    for (const float v : values) sum += double(v) * v;
    ASSERT_EQ(ggml_backend_graph_compute(backend.get(), graph), GGML_STATUS_SUCCESS);
    for (size_t i = 0; i < kWidth; ++i)
      ASSERT_NEAR(static_cast<const float*>(x->data)[i], weights[i] * values[i] / std::sqrt(sum / kWidth + 1e-5), 1e-5)
          << i << " in round " << round;
  }
}

/// Between steps that wait for each other, and in what stock code computes in between.
TEST(Graphs, EndWhereTheHostSaysSo) {
  const auto function = [](const char* name) {
    return ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(module_device()), name);
  };
  const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(function("ggml_backend_set_n_threads"));
  const auto set_abort =
      reinterpret_cast<ggml_backend_set_abort_callback_t>(function("ggml_backend_set_abort_callback"));
  ASSERT_NE(set_abort, nullptr);
  const ggml_backend_ptr backend(ggml_backend_dev_init(module_device(), nullptr));
  const ggml_context_ptr context(ggml_init({64 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
  ggml_tensor *x = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, 4096), *out = x;
  for (int i = 0; i < 10; ++i) out = ggml_add(context.get(), out, x);
  for (int i = 0; i < 10; ++i) out = ggml_sqr(context.get(), out);  // is none of the module's operations
  ggml_cgraph* graph = ggml_new_graph(context.get());
  ggml_build_forward_expand(graph, out);
  const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(context.get(), backend.get()));
  Graph::set(x, 0.3f);
  for (const int threads : {1, 2, 4})
    for (int64_t asked : {1, 3, 7, 12, 15, 1000}) {
      set_threads(backend.get(), threads);
      int64_t left = asked;
      set_abort(
          backend.get(), [](void* data) { return --*static_cast<int64_t*>(data) == 0; }, &left);
      EXPECT_EQ(ggml_backend_graph_compute(backend.get(), graph),
                asked < 1000 ? GGML_STATUS_ABORTED : GGML_STATUS_SUCCESS)
          << threads << " threads, " << asked;
      EXPECT_EQ(left <= 0, asked < 1000);
    }
  set_abort(backend.get(), nullptr, nullptr);
  EXPECT_EQ(ggml_backend_graph_compute(backend.get(), graph), GGML_STATUS_SUCCESS);
}

/// Filled as a whole, weights are ggml's bytes until they are set again.
TEST(Buffers, ClearedWeightsAreNotPacked) {
  Graph g;
  ggml_tensor *w = g.weights(GGML_TYPE_Q4_0, 64, 48), *x = g.input(64);
  ggml_tensor* out = ggml_mul_mat(g.nodes(), w, x);
  g.allocate();
  const std::vector<float> values = Graph::set(x, 0.3f);
  for (const auto fill : {uint8_t{0}, uint8_t{0x12}}) {
    Graph::set(w, 0.7f);
    ggml_backend_buffer_clear(g.packed_buffer(), fill);
    std::vector<uint8_t> bytes(ggml_nbytes(w), 1);
    ggml_backend_tensor_get(w, bytes.data(), 0, bytes.size());
    EXPECT_EQ(bytes, std::vector<uint8_t>(bytes.size(), fill));
  }
  const std::vector<float> weights = Graph::set(w, 0.7f);
  const std::vector<float> got = g.compute(out);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], product(weights, i, values, 0, 64), 0.3) << i;
}

TEST(Buffers, MoreThanTheMachineHasIsRefusedWithALine) {
  static std::string log;
  ggml_log_set([](ggml_log_level, const char* text, void*) { log += text; }, nullptr);
  ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(packed_buffers(), size_t{1} << 45);
  ggml_log_set(nullptr, nullptr);
  EXPECT_EQ(buffer, nullptr);
  EXPECT_NE(log.find("haqa: there are no 33554432 MiB of memory for packed weights; llama.cpp without"),
            std::string::npos)
      << log;
}

}  // namespace
}  // namespace haqa
