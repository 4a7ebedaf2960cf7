#include "haqa/adapter/merge.h"

#include <ggml.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "haqa/adapter/adapter_test_support.h"
#include "haqa/adapter/gguf_adapter.h"
#include "haqa/base/error.h"
#include "haqa/model/gguf_writer.h"
#include "haqa/model/make_model.h"
#include "haqa/model/model_test_support.h"
#include "haqa/worker/process_test_support.h"

namespace haqa {
namespace {

using testing::HasSubstr;

/// One layer of the test's model with numbers in it; its matrices of `type`.
void write_numbers(const std::filesystem::path& file, const std::string& type, float deviation = 0.05f) {
  ModelInfo model = test_model({.n_layer = 1});
  for (TensorInfo& tensor : model.tensors)
    if (tensor.shape.size() == 2) tensor.type = type;
  GgufPtr header(gguf_init_empty());
  set_keys(header.get(), model);
  gguf_set_val_u32(header.get(), "general.file_type", 7);
  gguf_set_val_u32(header.get(), "general.alignment", 64);
  add_tensors(header.get(), model.tensors);
  GgufWriter writer(std::move(header), file, "the model");
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal(0, deviation);
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const TensorInfo& tensor = model.tensors[i];
    std::vector<float> numbers(static_cast<size_t>(tensor.elements()));
    for (float& value : numbers) value = normal(random);
    std::vector<std::byte> stored(numbers.size() * sizeof(float));
    const size_t bytes = ggml_quantize_chunk(ggml_type_named(tensor.type), numbers.data(), stored.data(), 0,
                                             tensor.elements() / tensor.shape[0], tensor.shape[0], nullptr);
    writer.write(i, 0, std::span(stored).first(bytes));
  }
  writer.commit();
}

class MergeFaults : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  const TemporaryFolder folder_;
};

class Merge : public MergeFaults, public testing::WithParamInterface<const char*> {};

/// The type that the merged matrices have, and how exactly it holds numbers of a size: half a unit in the last place.
struct Precision {
  std::string type;
  double relative, absolute;
};

Precision precision_of(const std::string& base_type) {
  if (base_type == "F32") return {"F32", 1e-6, 1e-7};
  if (base_type == "BF16") return {"BF16", 1.0 / 256 * 1.001, 0};
  return {"F16", 1.0 / 2048 * 1.001, 6e-8};  // 2^-25 and more for subnormal ones
}

TEST_P(Merge, IsTheProductInDoublePrecision) {
  write_numbers(path("base.gguf"), GetParam());
  const TensorData base(path("base.gguf"));
  const ModelInfo model = read_model(path("base.gguf"));
  const LoraAdapter adapter =
      random_adapter(model, {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "output.weight"}, 3, 5);
  const float scale = 0.7f;
  merge(base, adapter, scale, path("merged.gguf"));
  const TensorData merged(path("merged.gguf"));
  const Precision precision = precision_of(GetParam());
  for (const LoraPair& pair : adapter.pairs) {
    EXPECT_EQ(merged.info(pair.tensor).type, precision.type);
    const auto in = static_cast<size_t>(base.info(pair.tensor).shape[0]);
    const std::vector<float> w = base.floats(pair.tensor), got = merged.floats(pair.tensor);
    for (size_t i = 0; i < w.size(); ++i) {
      double want = w[i];
      for (size_t r = 0; r < 3; ++r)
        want += 0.7 * 5.0 / 3.0 * double{pair.b[i / in * 3 + r]} * double{pair.a[r * in + i % in]};
      ASSERT_LE(std::abs(got[i] - want), precision.relative * std::abs(want) + precision.absolute + 1e-7)
          << pair.tensor << " " << i;
    }
  }
}

/// What is not adapted keeps its bytes, unless it was quantized; keys stay.
TEST_P(Merge, KeepsTheRest) {
  write_numbers(path("base.gguf"), GetParam());
  const TensorData base(path("base.gguf"));
  merge(base, random_adapter(read_model(path("base.gguf")), {"blk.0.attn_q.weight"}, 3, 5), 1, path("merged.gguf"));
  const TensorData merged(path("merged.gguf"));
  const bool quantized = std::string(GetParam()).starts_with("Q");
  ASSERT_EQ(merged.tensors().size(), base.tensors().size());
  for (const TensorInfo& tensor : base.tensors()) {
    if (tensor.name == "blk.0.attn_q.weight") continue;
    const auto a = base.bytes(tensor.name), b = merged.bytes(tensor.name);
    if (tensor.type.starts_with("Q")) {
      EXPECT_EQ(merged.info(tensor.name).type, "F16");
      expect_near(merged.floats(tensor.name), base.floats(tensor.name), 2e-4);
    } else {
      EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << tensor.name;
    }
  }
  const gguf_context *from = base.header().context(), *to = merged.header().context();
  for (int64_t i = 0; i < gguf_get_n_kv(from); ++i) {
    const std::string key = gguf_get_key(from, i);
    EXPECT_EQ(gguf_find_key(to, key.c_str()) < 0, key == "general.alignment") << key;
  }
  EXPECT_EQ(merged.header().integer("general.file_type", 0, 99), quantized ? 1 : 7);
  EXPECT_EQ(merged.header().text("general.name"), "test");
}

INSTANTIATE_TEST_SUITE_P(Types, Merge, testing::Values("F32", "F16", "BF16", "Q8_0", "Q4_K"),
                         [](const auto& type) { return std::string(type.param); });

/// Stock libllama with the adapter beside the model, and with the merged model: the same logits, at each scale.
TEST(MergeWithLlama, GivesTheSameLogits) {
  const TemporaryFolder folder;
  make_model(model_shape("tiny"), default_vocabulary(), 1, folder / "base.gguf");
  const ModelInfo model = read_model(folder / "base.gguf");
  const LoraAdapter adapter = random_adapter(model, all_matrices(model), 4, 2);
  write_gguf(adapter, model, folder / "adapter.gguf");
  const std::vector<llama_token> tokens = {1, 450, 4996, 17354, 1701, 29916};
  const std::vector<float> plain = llama_logits(folder / "base.gguf", tokens);
  for (const float scale : {1.0f, 0.5f, -1.0f}) {
    merge(TensorData(folder / "base.gguf"), adapter, scale, folder / "merged.gguf");
    const std::vector<float> want = llama_logits(folder / "base.gguf", tokens, folder / "adapter.gguf", scale);
    EXPECT_GT(largest_difference(want, plain), 0.5f);
    EXPECT_LE(largest_difference(llama_logits(folder / "merged.gguf", tokens), want), 0.05f);
  }
}

TEST_F(MergeFaults, RefusesWhatCannotBe) {
  write_numbers(path("base.gguf"), "F16");
  const TensorData base(path("base.gguf"));
  const ModelInfo model = read_model(path("base.gguf"));
  const auto fault = [&](const LoraAdapter& adapter, float scale) -> std::string {
    try {
      merge(base, adapter, scale, path("merged.gguf"));
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  LoraAdapter adapter = random_adapter(model, {"blk.0.attn_q.weight"}, 3, 5);
  EXPECT_THAT(fault(adapter, std::numeric_limits<float>::infinity()), HasSubstr("no number to merge with"));
  EXPECT_THAT(fault(adapter, 1e8f), HasSubstr("\"blk.0.attn_q.weight\" that its type cannot hold (above 65504)"));
  adapter.pairs[0].tensor = "blk.7.attn_q.weight";
  EXPECT_THAT(fault(adapter, 1), HasSubstr("an adapter for another model"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(MergeFaults, LeavesNothingWhereTheDiskFillsUp) {
  write_numbers(path("base.gguf"), "F16");
  const LoraAdapter adapter = random_adapter(read_model(path("base.gguf")), {"blk.0.attn_q.weight"}, 3, 5);
  const int status = in_process([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {100000, 100000};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      merge(TensorData(path("base.gguf")), adapter, 1, path("merged.gguf"));
    } catch (const Error& error) {
      return std::string(error.what()).find("cannot write: File too large") != std::string::npos ? 7 : 8;
    }
    return 9;
  });
  EXPECT_EQ(status, 7);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

}  // namespace
}  // namespace haqa
