#include "haqa/model/quant_rules.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <regex>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/model/model_test_support.h"

namespace haqa {
namespace {

TEST(BitWidths, NamesAndTypes) {
  EXPECT_EQ(all_bit_widths().size(), 3u);
  for (const BitWidth width : all_bit_widths()) {
    EXPECT_EQ(bit_width_from(to_string(width)), width);
    for (const std::string_view type : gguf_types(width)) EXPECT_EQ(bit_width_of(type), width) << type;
  }
  EXPECT_EQ(gguf_types(BitWidth::int4).front(), "Q4_0");
  for (const char* bad : {"", "int5", "INT4", "Q4_0"}) EXPECT_THROW(bit_width_from(bad), UsageError) << bad;
  for (const char* bad : {"", "q4_0", "Q5_0", "F32", "int4"}) EXPECT_THROW(bit_width_of(bad), UsageError) << bad;
}

/// What llama.cpp's own quantizer decides in a dry run: each tensor's type.
std::map<std::string, std::string> reference_types(const std::filesystem::path& file, std::string_view gguf_type) {
  const std::string command =
      fmt::format("'{}' --dry-run '{}' '{}.out' {} 2>&1", (llama_bin_folder() / "llama-quantize").string(),
                  file.string(), file.string(), gguf_type);
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) output += static_cast<char>(c);
  EXPECT_EQ(pclose(pipe), 0) << output;
  // "[   1/  29] output.weight - [256, 320, 1, 1], type = f16, size = 0.16 MiB -> 0.06 MiB (q6_K)"; warnings between.
  const std::regex line(
      R"(\] +(\S+) +- \[[^\]]*\], type = +(\w+), [^\[]*?size = [^(\[]*?(?:MiB -> [^(]*\((\w+)\)|MiB\n))");
  std::map<std::string, std::string> types;
  for (std::sregex_iterator it(output.begin(), output.end(), line), end; it != end; ++it) {
    std::string type = (*it)[3].matched ? (*it)[3] : (*it)[2];
    for (char& c : type) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    types[(*it)[1]] = type;
  }
  return types;
}

struct Case {
  const char* name;
  TestShape shape;
};

class QuantizerAgreement : public ::testing::TestWithParam<Case> {};

TEST_P(QuantizerAgreement, SameTypeForEachTensor) {
  TemporaryFolder folder;
  const ModelInfo model = test_model(GetParam().shape);
  write_model(model, folder / "model.gguf");
  for (const BitWidth width : all_bit_widths())
    for (const std::string_view type : gguf_types(width)) {
      const auto want = reference_types(folder / "model.gguf", type);
      ASSERT_EQ(want.size(), model.tensors.size()) << type;
      uint64_t bytes = 0;
      for (const TensorInfo& tensor : model.tensors) {
        ASSERT_TRUE(want.contains(tensor.name)) << tensor.name;
        EXPECT_EQ(quantized_type(model, tensor, type), want.at(tensor.name)) << type << " " << tensor.name;
        bytes += tensor_bytes(tensor.shape, want.at(tensor.name));
      }
      EXPECT_EQ(quantized_bytes(model, type), bytes) << type;
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, QuantizerAgreement,
    ::testing::Values(
        Case{"grouped_query", {.n_layer = 9, .n_embd = 512, .n_head = 8, .n_head_kv = 2, .n_ff = 768}},
        Case{"multi_head", {.n_layer = 32, .n_embd = 256, .n_head = 4, .n_head_kv = 4, .n_ff = 512}},
        Case{"tied", {.n_layer = 17, .n_embd = 256, .n_head = 4, .n_head_kv = 1, .n_ff = 256, .tied_output = true}},
        Case{"widths_of_128", {.n_layer = 26, .n_embd = 384, .n_head = 6, .n_head_kv = 6, .n_ff = 1056}},
        Case{"tied_width_of_32",
             {.n_layer = 2, .n_embd = 288, .n_head = 6, .n_head_kv = 3, .n_ff = 512, .tied_output = true}},
        Case{"widths_of_16", {.n_layer = 4, .n_embd = 176, .n_head = 4, .n_head_kv = 4, .n_ff = 400}},
        Case{"one_layer", {.n_layer = 1}},
        Case{"like_70b", {.n_layer = 80, .n_embd = 256, .n_head = 8, .n_head_kv = 1, .n_ff = 256}},
        Case{"gpt2",
             {.architecture = "gpt2",
              .n_layer = 12,
              .n_embd = 256,
              .n_head = 4,
              .n_head_kv = 4,
              .n_ff = 1024,
              .tied_output = true}}),
    [](const auto& test) { return test.param.name; });

TEST(QuantRules, BytesOfAWrittenFile) {
  TemporaryFolder folder;
  const ModelInfo model = test_model({.n_layer = 9, .n_embd = 384, .n_head = 6, .n_head_kv = 2, .n_ff = 768});
  write_model(model, folder / "model.gguf");
  for (const char* type : {"BF16", "Q8_0", "Q4_0", "Q4_K_S", "Q4_K_M", "IQ4_NL"}) {
    const auto out = folder / type;
    const std::string command =
        fmt::format("'{}' '{}' '{}' {} 2 >/dev/null 2>&1", (llama_bin_folder() / "llama-quantize").string(),
                    (folder / "model.gguf").string(), out.string(), type);
    ASSERT_EQ(std::system(command.c_str()), 0) << type;
    const ModelInfo written = read_model(out);
    EXPECT_EQ(written.weights_bytes(), quantized_bytes(model, type)) << type;
    EXPECT_EQ(written.main_type(), type_name(ggml_type_named(quantized(model, type).main_type()))) << type;
  }
}

TEST(QuantRules, RefusesUnknownTypes) {
  const ModelInfo model = test_model({});
  for (const char* bad : {"", "Q4_K", "Q2_K", "f16"})
    EXPECT_THROW(quantized_type(model, model.tensors.front(), bad), UsageError) << bad;
  EXPECT_EQ(quantized_bytes(ModelInfo(), "Q4_0"), 0u);
}

TEST(TensorBytes, BlocksByHand) {
  EXPECT_EQ(tensor_bytes({32, 3}, "Q4_0"), 3u * 18);  // 16 bytes of halves and one F16
  EXPECT_EQ(tensor_bytes({64, 3}, "Q8_0"), 3u * 2 * 34);
  EXPECT_EQ(tensor_bytes({256}, "Q4_K"), 144u);
  EXPECT_EQ(tensor_bytes({7, 5}, "F16"), 70u);
  EXPECT_THROW(tensor_bytes({31}, "Q4_0"), UsageError);
  EXPECT_THROW(tensor_bytes({}, "F16"), UsageError);
  EXPECT_THROW(tensor_bytes({32}, "Q4_2"), UsageError);
}

TEST(LayerOf, Names) {
  EXPECT_EQ(layer_of("blk.12.attn_q.weight"), 12);
  EXPECT_EQ(layer_of("output.weight"), -1);
  EXPECT_EQ(layer_of(""), -1);
}

}  // namespace
}  // namespace haqa
