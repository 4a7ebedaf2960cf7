#include <ggml-alloc.h>
#include <ggml-cpp.h>
#include <ggml.h>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "haqa/plugin/module_test_support.h"

namespace haqa {
namespace {

struct Case {
  ggml_type type;
  int64_t k, m, n, ne2 = 1;
  int threads = 2;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return std::string(ggml_type_name(c.type)) + "_" + std::to_string(c.k) + "_" + std::to_string(c.m) + "_" +
         std::to_string(c.n) + "_" + std::to_string(c.ne2) + "_" + std::to_string(c.threads);
}

std::vector<float> random_floats(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(random);
  return values;
}

/// A product with weights in a buffer of packed weights.
class Product {
 public:
  explicit Product(const Case& c) : case_(c) {
    const ggml_init_params params = {.mem_size = ggml_tensor_overhead() * 8, .mem_buffer = nullptr, .no_alloc = true};
    weights_context_.reset(ggml_init(params));
    context_.reset(ggml_init({ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true}));
    weights = ggml_new_tensor_2d(weights_context_.get(), c.type, c.k, c.m);
    x = ggml_new_tensor_3d(context_.get(), GGML_TYPE_F32, c.k, c.n, c.ne2);
    out = ggml_mul_mat(context_.get(), weights, x);
    weights_buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(weights_context_.get(), packed_buffers()));
    ggml_backend_buffer_set_usage(weights_buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    backend_.reset(ggml_backend_dev_init(module_device(), nullptr));
    buffer_.reset(ggml_backend_alloc_ctx_tensors(context_.get(), backend_.get()));
    const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(module_device()), "ggml_backend_set_n_threads"));
    set_threads(backend_.get(), c.threads);
  }

  std::vector<uint8_t> random_weights(uint64_t seed) const {
    std::vector<float> values = random_floats(case_.k * case_.m, seed);
    for (float& v : values) v *= 0.05f;
    std::vector<uint8_t> bytes(ggml_nbytes(weights));
    ggml_quantize_chunk(case_.type, values.data(), bytes.data(), 0, case_.m, case_.k, nullptr);
    return bytes;
  }

  /// As float32 numbers that the weights stand for, in row order.
  std::vector<float> dequantized(const std::vector<uint8_t>& bytes) const {
    std::vector<float> values(static_cast<size_t>(case_.k * case_.m));
    ggml_get_type_traits(case_.type)->to_float(bytes.data(), values.data(), case_.k * case_.m);
    return values;
  }

  std::vector<float> compute(const std::vector<float>& activations) {
    ggml_backend_tensor_set(x, activations.data(), 0, ggml_nbytes(x));
    ggml_cgraph* graph = ggml_new_graph(context_.get());
    ggml_build_forward_expand(graph, out);
    EXPECT_EQ(ggml_backend_graph_compute(backend_.get(), graph), GGML_STATUS_SUCCESS);
    std::vector<float> result(static_cast<size_t>(ggml_nelements(out)));
    ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
    return result;
  }

  /// With part of the activations, of these dimensions and strides after the first.
  std::vector<float> compute_view(const std::vector<float>& activations, const int64_t (&ne)[3],
                                  std::array<size_t, 3> nb) {
    ggml_tensor* part = ggml_view_4d(context_.get(), x, case_.k, ne[0], ne[1], ne[2], nb[0], nb[1], nb[2], 0);
    out = ggml_mul_mat(context_.get(), weights, part);
    const ggml_backend_buffer_ptr room(
        ggml_backend_buft_alloc_buffer(ggml_backend_get_default_buffer_type(backend_.get()), ggml_nbytes(out)));
    ggml_backend_tensor_alloc(room.get(), out, ggml_backend_buffer_get_base(room.get()));
    return compute(activations);
  }

  ggml_tensor *weights, *x, *out;

 private:
  Case case_;
  ggml_context_ptr weights_context_, context_;
  ggml_backend_ptr backend_;
  ggml_backend_buffer_ptr weights_buffer_, buffer_;
};

class Products : public testing::TestWithParam<Case> {};

/// Activations in 8 bits are off by half a hundredth of their size, so that sums of products are by as much of the root
/// of the sum of their squares, and seven times that among so many.
TEST_P(Products, AreThoseOfDoublePrecision) {
  const Case& c = GetParam();
  Product product(c);
  ASSERT_TRUE(ggml_backend_dev_supports_op(module_device(), product.out));
  const std::vector<uint8_t> bytes = product.random_weights(1);
  ggml_backend_tensor_set(product.weights, bytes.data(), 0, bytes.size());
  EXPECT_NE(std::memcmp(product.weights->data, bytes.data(), bytes.size()), 0) << "it is not packed: nothing is tested";
  const std::vector<float> x = random_floats(ggml_nelements(product.x), 2), w = product.dequantized(bytes);
  const std::vector<float> got = product.compute(x);
  const double tolerance = ggml_is_quantized(c.type) ? 3.5e-2 : 2e-6;
  for (int64_t j = 0; j < c.n * c.ne2; ++j)
    for (int64_t i = 0; i < c.m; ++i) {
      double sum = 0, size = 0;
      for (int64_t p = 0; p < c.k; ++p) {
        const double term = double(w[static_cast<size_t>(i * c.k + p)]) * x[static_cast<size_t>(j * c.k + p)];
        sum += term, size += term * term;
      }
      ASSERT_NEAR(got[static_cast<size_t>(j * c.m + i)], sum, tolerance * std::sqrt(size) + 1e-6) << i << ", " << j;
    }
}

TEST_P(Products, WeightsReadBackAreTheOriginalBytes) {
  Product product(GetParam());
  std::vector<uint8_t> bytes = product.random_weights(3);
  ggml_backend_tensor_set(product.weights, bytes.data(), 0, bytes.size());
  std::vector<uint8_t> back(bytes.size());
  ggml_backend_tensor_get(product.weights, back.data(), 0, back.size());
  EXPECT_EQ(back, bytes);
  // A part, and after a part was overwritten.
  const size_t row = product.weights->nb[1];
  const std::vector<uint8_t> other = product.random_weights(4);
  ggml_backend_tensor_set(product.weights, other.data(), 0, row);
  std::copy_n(other.begin(), row, bytes.begin());
  const size_t last = bytes.size() - row;
  std::vector<uint8_t> part(row);
  ggml_backend_tensor_get(product.weights, part.data(), last, row);
  EXPECT_EQ(part, std::vector<uint8_t>(bytes.begin() + static_cast<std::ptrdiff_t>(last), bytes.end()));
  ggml_backend_tensor_get(product.weights, back.data(), 0, back.size());
  EXPECT_EQ(back, bytes);
}

INSTANTIATE_TEST_SUITE_P(Types, Products,
                         testing::Values(Case{GGML_TYPE_F16, 64, 48, 1}, Case{GGML_TYPE_F16, 96, 33, 3},
                                         Case{GGML_TYPE_F16, 70, 50, 17}, Case{GGML_TYPE_F16, 2048, 256, 1, 1, 1},
                                         Case{GGML_TYPE_F16, 128, 130, 40, 2}, Case{GGML_TYPE_Q8_0, 64, 48, 1},
                                         Case{GGML_TYPE_Q8_0, 2048, 256, 1}, Case{GGML_TYPE_Q8_0, 96, 1, 8},
                                         Case{GGML_TYPE_Q8_0, 160, 77, 33, 3, 7}, Case{GGML_TYPE_Q4_0, 32, 16, 1},
                                         Case{GGML_TYPE_Q4_0, 5632, 64, 1}, Case{GGML_TYPE_Q4_0, 256, 200, 64, 1, 3},
                                         Case{GGML_TYPE_Q4_0, 96, 65, 5, 2}, Case{GGML_TYPE_BF16, 70, 33, 3},
                                         Case{GGML_TYPE_BF16, 256, 130, 20}, Case{GGML_TYPE_Q4_K, 256, 48, 1},
                                         Case{GGML_TYPE_Q4_K, 768, 33, 19}, Case{GGML_TYPE_Q6_K, 256, 48, 1},
                                         Case{GGML_TYPE_Q6_K, 512, 65, 9}, Case{GGML_TYPE_IQ4_NL, 64, 48, 1},
                                         Case{GGML_TYPE_IQ4_NL, 160, 65, 12}),
                         name_of);

/// Columns that lie apart in each of the dimensions in turn.
TEST(Module, TakesActivationsWithGaps) {
  constexpr int64_t kDepth = 64, kRows = 48, kApart = 8, kColumns = 3;
  for (const int dimension : {1, 2, 3}) {
    Product product({GGML_TYPE_F16, kDepth, kRows, kApart * kColumns});
    const std::vector<uint8_t> bytes = product.random_weights(1);
    ggml_backend_tensor_set(product.weights, bytes.data(), 0, bytes.size());
    const std::vector<float> x = random_floats(ggml_nelements(product.x), 2), w = product.dequantized(bytes);
    int64_t ne[] = {1, 1, 1};
    ne[dimension - 1] = kColumns;
    const size_t apart = static_cast<size_t>(kApart) * product.x->nb[1], row = product.x->nb[1];
    const std::vector<float> got = product.compute_view(x, ne,
                                                        {dimension == 1 ? apart : row,
                                                         dimension == 2   ? apart
                                                         : dimension == 1 ? row
                                                                          : apart,
                                                         apart});
    for (int64_t j = 0; j < kColumns; ++j)
      for (int64_t i = 0; i < kRows; ++i) {
        double sum = 0;
        for (int64_t p = 0; p < kDepth; ++p)
          sum += double(w[static_cast<size_t>(i * kDepth + p)]) * x[static_cast<size_t>(j * kApart * kDepth + p)];
        ASSERT_NEAR(got[static_cast<size_t>(j * kRows + i)], sum, 1e-4) << dimension << ": " << i << ", " << j;
      }
  }
}

TEST(Module, TakesNoProductsThatItHasNoKernelFor) {
  const ggml_context_ptr context(ggml_init({ggml_tensor_overhead() * 32, nullptr, true}));
  const auto supports = [&](ggml_type type, int64_t k) {
    ggml_tensor* w = ggml_new_tensor_2d(context.get(), type, k, 64);
    ggml_tensor* out = ggml_mul_mat(context.get(), w, ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, k, 4));
    const ggml_backend_buffer_ptr probe(ggml_backend_buft_alloc_buffer(packed_buffers(), 0));
    w->buffer = probe.get();
    return ggml_backend_dev_supports_op(module_device(), out);
  };
  EXPECT_TRUE(supports(GGML_TYPE_Q8_0, 64));
  EXPECT_FALSE(supports(GGML_TYPE_Q5_1, 64));
  EXPECT_FALSE(supports(GGML_TYPE_IQ2_XXS, 256));
}

}  // namespace
}  // namespace haqa
