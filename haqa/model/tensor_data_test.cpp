#include "haqa/model/tensor_data.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/model_test_support.h"

namespace haqa {
namespace {

/// A file with one matrix of 512 x 3 numbers of the given type, made of `values`.
void write_matrix(const std::filesystem::path& file, ggml_type type, const std::vector<float>& values) {
  const GgufPtr g(gguf_init_empty());
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init({.mem_size = 1 << 20, .mem_buffer = nullptr, .no_alloc = false}), ggml_free);
  ggml_tensor* tensor = ggml_new_tensor_2d(context.get(), type, 512, 3);
  ggml_set_name(tensor, "m");
  ggml_quantize_chunk(type, values.data(), tensor->data, 0, 3, 512, nullptr);
  gguf_add_tensor(g.get(), tensor);
  gguf_write_to_file(g.get(), file.c_str(), /*only_meta=*/false);
}

TEST(TensorData, ReadsEachTypeWithinItsPrecision) {
  const TemporaryFolder folder;
  std::vector<float> values(512 * 3);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  struct Case {
    ggml_type type;
    float tolerance;
  };
  for (const Case& c :
       {Case{GGML_TYPE_F32, 0}, Case{GGML_TYPE_F16, 5e-4f}, Case{GGML_TYPE_BF16, 4e-3f}, Case{GGML_TYPE_Q8_0, 5e-3f},
        Case{GGML_TYPE_Q6_K, 0.05f}, Case{GGML_TYPE_Q4_0, 0.15f}, Case{GGML_TYPE_Q4_K, 0.15f}}) {
    SCOPED_TRACE(type_name(c.type));
    write_matrix(folder / "m.gguf", c.type, values);
    const TensorData data(folder / "m.gguf");
    EXPECT_TRUE(data.contains("m"));
    EXPECT_EQ(data.bytes("m").size(), 3 * ggml_row_size(c.type, 512));
    const std::vector<float> all = data.floats("m");
    ASSERT_EQ(all.size(), values.size());
    for (size_t i = 0; i < all.size(); ++i) ASSERT_NEAR(all[i], values[i], c.tolerance) << i;
    std::vector<float> row(512);
    data.read_rows("m", 2, 1, row);
    EXPECT_TRUE(std::equal(row.begin(), row.end(), all.begin() + 1024));
  }
}

TEST(TensorData, NamesWhatIsNotThere) {
  const TemporaryFolder folder;
  write_matrix(folder / "m.gguf", GGML_TYPE_F32, std::vector<float>(512 * 3));
  const TensorData data(folder / "m.gguf");
  EXPECT_FALSE(data.contains("n"));
  EXPECT_THROW(data.bytes("n"), Error);
  std::vector<float> row(512);
  EXPECT_THROW(data.read_rows("m", 3, 1, row), Error);
  EXPECT_THROW(data.read_rows("m", -1, 1, row), Error);
  EXPECT_THROW(data.read_rows("m", 0, 2, row), Error);
}

TEST(TensorData, RefusesATruncatedFile) {
  const TemporaryFolder folder;
  write_matrix(folder / "m.gguf", GGML_TYPE_F32, std::vector<float>(512 * 3));
  std::filesystem::resize_file(folder / "m.gguf", std::filesystem::file_size(folder / "m.gguf") - 64);
  EXPECT_THROW(TensorData(folder / "m.gguf"), Error);
}

}  // namespace
}  // namespace haqa
