#include "haqa/train/frozen_matrix.h"

#include <gtest/gtest.h>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"

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
    const torch::Tensor whole = matrix->whole(at::kFloat, at::kCPU);
    EXPECT_LE(((whole - exact).std() / exact.std()).item<double>(), c.error) << c.format;
    const torch::Tensor narrow = matrix->whole(at::kBFloat16, at::kCPU);
    EXPECT_TRUE(narrow.equal(whole.to(at::kBFloat16))) << c.format;
    const torch::Tensor x = torch::randn({40, 768}), y = at::linear(x, whole);
    EXPECT_LT(((matrix->times_transposed(x) - y).std() / y.std()).item<double>(), 0.02) << c.format;
  }
  EXPECT_THROW(base_format_from("int2"), UsageError);
}

}  // namespace
}  // namespace haqa
