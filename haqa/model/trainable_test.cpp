#include "haqa/model/trainable.h"

#include <gmock/gmock.h>

#include "haqa/base/error.h"
#include "haqa/model/model_test_support.h"

namespace haqa {
namespace {

using testing::HasSubstr;

TEST(CheckTrainable, NamesWhatTheTrainerDoesNotKnow) {
  const TemporaryFolder folder;
  const auto fault = [&](const ModelInfo& model, const std::function<void(gguf_context*)>& change = {}) {
    write_model(model, folder / "m.gguf", change);
    try {
      check_trainable(read_model(folder / "m.gguf"));
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("none");
  };
  const auto scaled = [](const char* how) {
    return [how](gguf_context* g) { gguf_set_val_str(g, "llama.rope.scaling.type", how); };
  };
  const ModelInfo plain = test_model({});
  EXPECT_EQ(fault(plain), "none");
  EXPECT_EQ(fault(plain, scaled("none")), "none");
  EXPECT_EQ(fault(plain, scaled("linear")), "none");
  EXPECT_THAT(fault(plain, scaled("yarn")), HasSubstr("scaled by 'yarn'"));
  EXPECT_THAT(fault(test_model({.architecture = "gpt2"})), HasSubstr("'gpt2' cannot be fine-tuned; llama can"));
  const auto with_tokens = [](int count) {
    return [count](gguf_context* g) {
      std::vector<const char*> tokens(static_cast<size_t>(count), "a");
      gguf_set_arr_str(g, "tokenizer.ggml.tokens", tokens.data(), tokens.size());
    };
  };
  EXPECT_EQ(fault(plain, with_tokens(320)), "none");
  for (const int count : {319, 321})
    EXPECT_THAT(fault(plain, with_tokens(count)),
                HasSubstr(std::to_string(count) + " tokens and its embedding 320 rows; convert the model again"));
  ModelInfo biased = plain;
  biased.tensors.push_back({"blk.0.attn_q.bias", "F32", {256}, 0});
  EXPECT_THAT(fault(biased), HasSubstr("'blk.0.attn_q.bias' belongs to a variant"));
}

}  // namespace
}  // namespace haqa
