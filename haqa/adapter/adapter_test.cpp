#include "haqa/adapter/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "haqa/adapter/adapter_test_support.h"
#include "haqa/adapter/gguf_adapter.h"
#include "haqa/adapter/one_rank.h"
#include "haqa/adapter/peft.h"
#include "haqa/adapter/safetensors.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/model/gguf_writer.h"
#include "haqa/model/model_test_support.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <typename Work>
std::string fault(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

const ModelInfo kModel = test_model({});

TEST(CheckMatches, SaysWhatDoesNotFit) {
  const LoraAdapter good = random_adapter(kModel, {"blk.0.attn_q.weight", "blk.2.ffn_down.weight"}, 4, 8);
  EXPECT_NO_THROW(check_matches(good, kModel));
  struct Case {
    std::function<void(LoraAdapter&)> change;
    std::string says;
  };
  const std::vector<Case> cases = {
      {[](LoraAdapter& a) { a.pairs.clear(); }, "adapts no tensor"},
      {[](LoraAdapter& a) { a.rank = 0; }, "has rank 0"},
      {[](LoraAdapter& a) { a.alpha = std::numeric_limits<float>::quiet_NaN(); }, "alpha nan"},
      {[](LoraAdapter& a) { a.alpha = 0; }, "alpha 0"},
      {[](LoraAdapter& a) { a = random_adapter(kModel, {"blk.0.attn_q.weight"}, 257, 8); },
       "its rank, 257, is above the width of test, 256"},
      {[](LoraAdapter& a) { a.pairs[1].tensor = a.pairs[0].tensor; }, "adapts \"blk.0.attn_q.weight\" twice"},
      {[](LoraAdapter& a) { a.pairs[0].tensor = "blk.3.attn_q.weight"; },
       "\"blk.3.attn_q.weight\", which test does not have; it is an adapter for another model"},
      {[](LoraAdapter& a) { a.pairs[0].tensor = "token_embd.weight"; }, "token embedding"},
      {[](LoraAdapter& a) { a.pairs[0].tensor = "blk.0.attn_norm.weight"; }, "is no matrix"},
      {[](LoraAdapter& a) { a.pairs[0].tensor = "blk.0.attn_k.weight"; },
       "a matrix of 256 x 256 where test has \"blk.0.attn_k.weight\" of 128 x 256; it is an adapter for another model"},
      {[](LoraAdapter& a) { a.pairs[1].a.pop_back(); }, "another model"},
      {[](LoraAdapter& a) { a.pairs[1].b[3] = std::numeric_limits<float>::infinity(); }, "infinite or undefined"},
      {[](LoraAdapter& a) { a.pairs[0].a[0] = std::numeric_limits<float>::quiet_NaN(); }, "infinite or undefined"},
  };
  for (const Case& c : cases) {
    LoraAdapter adapter = good;
    c.change(adapter);
    EXPECT_THAT(fault([&] { check_matches(adapter, kModel); }), HasSubstr(c.says));
  }
  EXPECT_NO_THROW(check_matches(random_adapter(kModel, {"blk.0.attn_q.weight"}, 256, 8), kModel));
}

/// 2 · [1 2] · [3; 4]ᵀ and 3 · ... under one rank, by hand.
TEST(OneRank, FillsUpAndScales) {
  const LoraAdapter adapter =
      with_one_rank({{{"x", {1, 2}, {3, 4, 5}}, 1, 2.0}, {{"y", {1, 0, 0, 1}, {1, 2}}, 2, 3.0}}, 2, "file");
  EXPECT_EQ(adapter.rank, 2);
  EXPECT_EQ(adapter.alpha, 4.0f);  // so that alpha / rank is the first one's factor
  EXPECT_THAT(adapter.pairs[0].a, ElementsAre(1, 2, 0, 0));
  EXPECT_THAT(adapter.pairs[0].b, ElementsAre(3, 0, 4, 0, 5, 0));
  EXPECT_THAT(adapter.pairs[1].a, ElementsAre(1, 0, 0, 1));
  EXPECT_THAT(adapter.pairs[1].b, ElementsAre(1.5f, 3));
  EXPECT_THROW(with_one_rank({}, 2, "file"), Error);
  EXPECT_THROW(with_one_rank({{{"x", {1, 2}, {3}}, 2, 1.0}}, 1, "file"), Error);
  EXPECT_THROW(with_one_rank({{{"x", {1}, {3}}, 1, 1.0}, {{"y", std::vector<float>(65), {}}, 65, 1.0}}, 99, "f"),
               Error);
}

class AdapterFiles : public testing::Test {
 protected:
  AdapterFiles() { write_model(kModel, folder_ / "model.gguf"); }
  std::string fault_of(const std::filesystem::path& file) const {
    return fault([&] { read_adapter(file, kModel); });
  }
  const TemporaryFolder folder_;
  const LoraAdapter adapter_ = random_adapter(kModel, all_matrices(kModel), 4, 6.5f);
};

void expect_same(const LoraAdapter& a, const LoraAdapter& b, float tolerance) {
  EXPECT_EQ(a.rank, b.rank);
  EXPECT_EQ(a.alpha, b.alpha);
  ASSERT_EQ(a.pairs.size(), b.pairs.size());
  for (const LoraPair& pair : a.pairs) {
    const auto same = [&](const LoraPair& other) { return other.tensor == pair.tensor; };
    const auto other = std::find_if(b.pairs.begin(), b.pairs.end(), same);
    ASSERT_NE(other, b.pairs.end()) << pair.tensor;
    expect_near(pair.a, other->a, tolerance);
    expect_near(pair.b, other->b, tolerance);
  }
}

TEST_F(AdapterFiles, ReadBackTheSame) {
  write_gguf(adapter_, kModel, folder_ / "a.gguf");
  expect_same(read_adapter(folder_ / "a.gguf", kModel), adapter_, 0);
  write_gguf(adapter_, kModel, folder_ / "h.gguf", "F16");
  expect_same(read_adapter(folder_ / "h.gguf", kModel), adapter_, 5e-4f);
  EXPECT_THROW(write_gguf(adapter_, kModel, folder_ / "q.gguf", "Q8_0"), UsageError);
  write_peft(adapter_, kModel, folder_ / "peft");
  expect_same(read_adapter(folder_ / "peft", kModel), adapter_, 0);
  const Json config = read_json(folder_ / "peft/adapter_config.json");
  EXPECT_EQ(config["target_modules"].size(), 7u);
  EXPECT_EQ(config["lora_alpha"], 6.5);
}

/// Row i of B is filled with i. Hugging Face's rows as the converter would take them: of each head (64 rows wide) the
/// even ones first, then the odd ones.
TEST_F(AdapterFiles, RowsOfQueriesAndKeysChangeTheirOrderForPeft) {
  LoraAdapter adapter = random_adapter(kModel, {"blk.0.attn_k.weight", "blk.0.attn_v.weight"}, 1, 1);
  for (LoraPair& pair : adapter.pairs)
    for (size_t i = 0; i < pair.b.size(); ++i) pair.b[i] = static_cast<float>(i);
  write_peft(adapter, kModel, folder_ / "peft");
  const SafetensorsFile file(folder_ / "peft/adapter_model.safetensors");
  const std::vector<float> k = file.floats("base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight");
  const std::vector<float> v = file.floats("base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight");
  EXPECT_EQ(v, adapter.pairs[1].b);
  ASSERT_EQ(k.size(), 128u);
  std::vector<float> want;
  for (const int head : {0, 64})
    for (const int odd : {0, 1})
      for (int i = 0; i < 64; i += 2) want.push_back(static_cast<float>(head + i + odd));
  EXPECT_EQ(k, want);
  EXPECT_THAT(read_json(folder_ / "peft/adapter_config.json")["target_modules"],
              ElementsAre("model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.v_proj"));
}

TEST_F(AdapterFiles, RefusesOtherGgufs) {
  EXPECT_THAT(fault_of(folder_ / "none.gguf"), HasSubstr("no such file"));
  EXPECT_THAT(fault_of(folder_ / "model.gguf"), HasSubstr("holds no LoRA adapter but 'model'"));
  ModelInfo other = test_model({.n_embd = 512});
  write_gguf(random_adapter(other, all_matrices(other), 4, 8), other, folder_ / "wide.gguf");
  EXPECT_THAT(fault_of(folder_ / "wide.gguf"), HasSubstr("an adapter for another model"));
  other = test_model({.architecture = "gpt2"});
  write_gguf(random_adapter(other, {"blk.0.attn_qkv.weight"}, 4, 8), other, folder_ / "gpt2.gguf");
  EXPECT_THAT(fault_of(folder_ / "gpt2.gguf"), HasSubstr("an adapter for architecture 'gpt2'"));
  EXPECT_EQ(read_adapter(folder_ / "gpt2.gguf", other).pairs.size(), 1u);
  write_gguf(adapter_, kModel, folder_ / "cut.gguf");
  std::filesystem::resize_file(folder_ / "cut.gguf", std::filesystem::file_size(folder_ / "cut.gguf") - 5000);
  EXPECT_THAT(fault_of(folder_ / "cut.gguf"), HasSubstr("is truncated"));
}

/// GGUF allows dimensions of zero.
TEST_F(AdapterFiles, RefusesMatricesWithoutNumbers) {
  using Shape = std::vector<int64_t>;
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{
           {{0, 4}, {4, 256}}, {{256, 0}, {0, 256}}, {{256, 4}, {4, 0}}, {{256, 4}, {0, 256}}, {{0, 0}, {0, 0}}}) {
    GgufPtr header(gguf_init_empty());
    gguf_set_val_str(header.get(), "general.architecture", "llama");
    gguf_set_val_str(header.get(), "general.type", "adapter");
    gguf_set_val_str(header.get(), "adapter.type", "lora");
    add_tensors(header.get(), {{"blk.0.attn_q.weight.lora_a", "F32", a}, {"blk.0.attn_q.weight.lora_b", "F32", b}});
    GgufWriter(std::move(header), folder_ / "zero.gguf", "the adapter").commit();
    EXPECT_THAT(fault_of(folder_ / "zero.gguf"), HasSubstr("zero.gguf: "));
  }
}

TEST_F(AdapterFiles, RefusesOtherFoldersOfPeft) {
  const auto change = [&](const Json& changes) {
    write_peft(adapter_, kModel, folder_ / "peft");
    Json config = read_json(folder_ / "peft/adapter_config.json");
    config.update(changes);
    write_file(folder_ / "peft/adapter_config.json", config.dump());
    return fault_of(folder_ / "peft");
  };
  EXPECT_EQ(change({{"modules_to_save", nullptr}, {"use_dora", false}, {"target_parameters", Json::array()}}), "none");
  EXPECT_THAT(change({{"peft_type", "IA3"}}), HasSubstr("no LoRA adapter of PEFT's"));
  EXPECT_THAT(change({{"use_dora", true}}), HasSubstr("\"use_dora\" is set"));
  EXPECT_THAT(change({{"bias", "all"}}), HasSubstr("\"bias\" is set"));
  EXPECT_THAT(change({{"modules_to_save", {"lm_head"}}}), HasSubstr("\"modules_to_save\" is set"));
  EXPECT_THAT(change({{"init_lora_weights", "pissa"}}), HasSubstr("\"init_lora_weights\" is set"));
  EXPECT_THAT(change({{"lora_alpha", "x"}}), HasSubstr("\"lora_alpha\" is no number above zero"));
  EXPECT_THAT(change({{"alpha_pattern", {{"(q|k)_proj", 2}}}}), HasSubstr("\"alpha_pattern\" is set"));
  EXPECT_EQ(change(Json::object()), "none");
  const auto weights = [&](const std::vector<TensorToSave>& tensors) {
    write_safetensors(tensors, folder_ / "peft/adapter_model.safetensors");
    return fault_of(folder_ / "peft");
  };
  const std::vector<float> zeros(256 * 4);
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
  EXPECT_EQ(weights({{q + "A.weight", {4, 256}, zeros}, {q + "B.weight", {256, 4}, zeros}}), "none");
  EXPECT_THAT(weights({{q + "A.weight", {4, 256}, zeros}}), HasSubstr("only one half"));
  EXPECT_THAT(weights({{q + "A.weight", {4, 256}, zeros}, {q + "B.weight", {128, 8}, zeros}}),
              HasSubstr("do not fit each other"));
  EXPECT_THAT(weights({{q + "A.weight", {1024}, zeros}, {q + "B.weight", {256, 4}, zeros}}), HasSubstr("do not fit"));
  EXPECT_THAT(weights({{q + "A.weight", {2, 512}, zeros}, {q + "B.weight", {512, 2}, zeros}}),
              HasSubstr("adapter for another model"));
  EXPECT_THAT(weights({{"base_model.model.x.lora_A.weight", {4, 256}, zeros}}), HasSubstr("a llama does not have"));
  EXPECT_THAT(weights({{"base_model.model.model.norm.weight", {1024}, zeros}}), HasSubstr("beside the pairs"));
  EXPECT_THAT(weights({}), HasSubstr("adapts no tensor"));
  EXPECT_THAT(fault_of(folder_.path()), HasSubstr("holds no adapter_config.json"));
}

}  // namespace
}  // namespace haqa
