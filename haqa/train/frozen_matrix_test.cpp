#include "haqa/train/frozen_matrix.h"

#include <gtest/gtest.h>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"
#include "haqa/train/device_matrix.h"

namespace haqa {
namespace {

constexpr const char* kName = "blk.0.ffn_down.weight";

class FrozenMatrixTest : public testing::Test {
 protected:
  FrozenMatrixTest() {
    make_model({.name = "t", .n_layer = 1, .n_embd = 256, .n_head = 4, .n_head_kv = 4, .n_ff = 768},
               default_vocabulary(), 1, folder_ / "m.gguf");
  }
  TemporaryFolder folder_;
};

TEST_F(FrozenMatrixTest, EachFormatIsWithinItsPrecisionAndItsMemory) {
  const TensorData data(folder_ / "m.gguf");
  const std::vector<float> values = data.floats(kName);
  const torch::Tensor exact = torch::from_blob(const_cast<float*>(values.data()), {256, 768});
  struct Case {
    const char* format;
    double error;  // root mean square, of the weights' deviation
    double bits;   // a weight
  };
  // The errors are those of the formats on normal numbers: 0.072 of NF4 (QLoRA, table 2 has their consequence),
  // 1/127 of a row's largest, about 3 deviations, over √12 of INT8.
  for (const Case& c : {Case{"gguf", 1e-9, 16}, Case{"nf4", 0.1, 4.5}, Case{"nf4_double", 0.1, 4.128},
                        Case{"fp4", 0.14, 4.5}, Case{"int8", 0.009, 8.05}}) {
    const auto matrix = frozen_matrix(data, kName, base_format_from(c.format));
    ASSERT_EQ(matrix->rows(), 256);
    ASSERT_EQ(matrix->columns(), 768);
    EXPECT_LE(8.0 * static_cast<double>(matrix->bytes()) / (256 * 768), c.bits) << c.format;
    const torch::Tensor whole = matrix->whole(at::kFloat);
    EXPECT_LE(((whole - exact).std() / exact.std()).item<double>(), c.error) << c.format;
    const torch::Tensor narrow = matrix->whole(at::kBFloat16);
    EXPECT_TRUE(narrow.equal(whole.to(at::kBFloat16))) << c.format;
    const torch::Tensor x = torch::randn({40, 768}), y = at::linear(x, whole);
    SharedInput shared;
    EXPECT_LT(((matrix->times_transposed(x, shared) - y).std() / y.std()).item<double>(), 0.02) << c.format;
  }
  EXPECT_THROW(base_format_from("int2"), UsageError);
}

TEST_F(FrozenMatrixTest, ProductsOfOneInputShareItsCodes) {
  const TensorData data(folder_ / "m.gguf");
  const auto q = frozen_matrix(data, "blk.0.attn_q.weight", BaseFormat::int8);
  const auto gate = frozen_matrix(data, "blk.0.ffn_gate.weight", BaseFormat::int8);
  const torch::Tensor x = torch::randn({40, 256});
  SharedInput shared, other;
  q->times_transposed(x, shared);
  const torch::Tensor expected = gate->times_transposed(x, other);
  EXPECT_TRUE(gate->times_transposed(x, shared).equal(expected));
  EXPECT_TRUE(gate->times_transposed(torch::zeros({40, 256}), shared).equal(expected)) << "x is not read again";
}

// What runs on a GPU, here on the CPU. No whole number of blocks, nor of blocks of blocks, in the second.
TEST_F(FrozenMatrixTest, OperationsOfADeviceMakeTheSameBits) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{512, 96}, {7, 75}}) {
    const torch::Tensor values = torch::randn({rows, columns});
    for (const Format4Bit format : {Format4Bit::nf4, Format4Bit::fp4})
      for (const bool twice : {false, true}) {
        const Quantized4Bit weights =
            quantize_4bit({values.const_data_ptr<float>(), static_cast<size_t>(values.numel())}, format, twice);
        torch::Tensor expected = torch::empty({rows, columns});
        dequantize(weights, 0, std::span(expected.data_ptr<float>(), static_cast<size_t>(expected.numel())));
        const DeviceFourBit matrix(weights, columns, at::kCPU);
        EXPECT_EQ(matrix.rows(), rows);
        EXPECT_EQ(matrix.columns(), columns);
        EXPECT_TRUE(matrix.whole(at::kFloat).view(at::kInt).equal(expected.view(at::kInt)));
        torch::Tensor narrow = torch::empty({rows, columns}, at::kBFloat16);
        dequantize(weights, 0,
                   std::span(reinterpret_cast<uint16_t*>(narrow.data_ptr()), static_cast<size_t>(narrow.numel())));
        EXPECT_TRUE(matrix.whole(at::kBFloat16).view(at::kShort).equal(narrow.view(at::kShort)));
        EXPECT_LT(static_cast<double>(matrix.bytes()), static_cast<double>(weights.bytes()) + 4096);
      }
  }
}

// The device holds no numbers: what is kept there.
TEST_F(FrozenMatrixTest, OnADeviceEachFormatIsKeptThereOrRefused) {
  const TensorData data(folder_ / "m.gguf");
  const auto kept = [&](const char* format) {
    return frozen_matrix_on(at::kMeta, at::kBFloat16, data, kName, base_format_from(format));
  };
  const torch::Tensor whole = kept("gguf")->whole(at::kBFloat16);
  EXPECT_TRUE(whole.is_meta());
  EXPECT_EQ(whole.sizes(), (std::vector<int64_t>{256, 768}));
  EXPECT_EQ(kept("gguf")->bytes(), 2u * 256 * 768);
  for (const char* format : {"nf4", "nf4_double", "fp4"}) {
    EXPECT_EQ(kept(format)->rows(), 256);
    EXPECT_LT(kept(format)->bytes(), 256u * 768 * 5 / 8) << format;
  }
  EXPECT_THROW(kept("int8"), UsageError);
}

}  // namespace
}  // namespace haqa
