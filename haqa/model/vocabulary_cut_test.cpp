#include "haqa/model/vocabulary_cut.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llama.h>

#include <functional>
#include <memory>

#include "haqa/base/error.h"
#include "haqa/model/make_model.h"
#include "haqa/model/model_test_support.h"

namespace haqa {
namespace {

using ::testing::HasSubstr;

constexpr int kOthers = 259 + 2129;  // LLaMA-2's control and byte pieces and its single characters

std::filesystem::path model_with(int merges, const TemporaryFolder& folder) {
  const auto file = folder / fmt::format("{}.gguf", merges);
  make_model({.name = "mini", .n_layer = 1, .n_embd = 32, .n_head = 1, .n_head_kv = 1, .n_ff = 32, .merges = merges},
             default_vocabulary(), 1, file);
  return file;
}

/// llama.cpp's tokenizer of a file.
class Vocabulary {
 public:
  explicit Vocabulary(const std::filesystem::path& file) : model_(nullptr, llama_model_free) {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    model_.reset(llama_model_load_from_file(file.c_str(), params));
  }
  const llama_vocab* vocab() const { return llama_model_get_vocab(model_.get()); }
  int size() const { return llama_vocab_n_tokens(vocab()); }
  std::vector<llama_token> encode(const std::string& text) const {
    std::vector<llama_token> tokens(text.size() + 8);
    const int n = llama_tokenize(vocab(), text.data(), static_cast<int>(text.size()), tokens.data(),
                                 static_cast<int>(tokens.size()), false, false);
    tokens.resize(static_cast<size_t>(std::max(0, n)));
    return tokens;
  }
  std::string decode(const std::vector<llama_token>& tokens) const {
    std::string text(tokens.size() * 64 + 8, ' ');
    const int n = llama_detokenize(vocab(), tokens.data(), static_cast<int>(tokens.size()), text.data(),
                                   static_cast<int>(text.size()), false, false);
    text.resize(static_cast<size_t>(std::max(0, n)));
    return text;
  }

 private:
  std::unique_ptr<llama_model, decltype(&llama_model_free)> model_;
};

const std::string kTexts[] = {"Does a dax live in a cave?\nAnswer: yes",
                              "Below is an instruction that describes a task.\n\n### Response:\n",
                              "  indented\n\tby tabs",
                              "Größe, naïve, 你好, Привет, 🦙 and \x01",
                              "1234567890",
                              "a",
                              ""};

TEST(VocabularyCut, LlamaCppWritesEveryTextWithThePiecesThatStay) {
  const TemporaryFolder folder;
  const Vocabulary whole(default_vocabulary());
  for (const int merges : {1, 300, 1024}) {
    const Vocabulary cut(model_with(merges, folder));
    ASSERT_EQ(cut.size(), kOthers + merges);
    for (const std::string& text : kTexts) {
      const auto tokens = cut.encode(text);
      EXPECT_EQ(cut.decode(tokens), text) << merges;
      EXPECT_GE(tokens.size(), whole.encode(text).size()) << text;
      for (const llama_token token : tokens) {
        ASSERT_LT(token, cut.size());
        // Of the merges only the first may be there: their scores are 0, -1, -2, ... in the order of merging.
        const std::string piece = llama_vocab_get_text(cut.vocab(), token);
        if (token >= 259 && token < 259 + merges) {
          EXPECT_GT(llama_vocab_get_score(cut.vocab(), token), -merges - 3) << piece;
        }
      }
    }
  }
}

TEST(VocabularyCut, CutNowhereItEncodesAsBefore) {
  const TemporaryFolder folder;
  const Vocabulary whole(default_vocabulary());
  for (const int merges : {29612, 1'000'000}) {
    const Vocabulary same(model_with(merges, folder));
    EXPECT_EQ(same.size(), 32000);
    for (const std::string& text : kTexts) EXPECT_EQ(same.encode(text), whole.encode(text));
  }
}

/// A header with a vocabulary of six pieces: two of them merged, and a special one behind them.
GgufPtr small_header() {
  GgufPtr header(gguf_init_empty());
  const char* texts[] = {"<unk>", "ab", "abab", "a", "b", "<pad>"};
  const float scores[] = {0, -1, -2, -3, -4, 0};
  const int32_t types[] = {2, 1, 1, 1, 1, 3};
  gguf_set_val_str(header.get(), "tokenizer.ggml.model", "llama");
  gguf_set_arr_str(header.get(), "tokenizer.ggml.tokens", texts, 6);
  gguf_set_arr_data(header.get(), "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, 6);
  gguf_set_arr_data(header.get(), "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, 6);
  gguf_set_val_u32(header.get(), "tokenizer.ggml.padding_token_id", 5);
  gguf_set_val_u32(header.get(), "tokenizer.ggml.eot_token_id", 2);
  return header;
}

TEST(VocabularyCut, NumbersOfSpecialTokensFollow) {
  const GgufPtr header = small_header();
  cut_vocabulary(header.get(), 1, "x.gguf");
  const int64_t tokens = gguf_find_key(header.get(), "tokenizer.ggml.tokens");
  ASSERT_EQ(gguf_get_arr_n(header.get(), tokens), 5u);
  EXPECT_STREQ(gguf_get_arr_str(header.get(), tokens, 1), "ab");
  EXPECT_STREQ(gguf_get_arr_str(header.get(), tokens, 4), "<pad>");
  const auto* scores =
      static_cast<const float*>(gguf_get_arr_data(header.get(), gguf_find_key(header.get(), "tokenizer.ggml.scores")));
  EXPECT_EQ(scores[2], -3);
  EXPECT_EQ(gguf_get_val_u32(header.get(), gguf_find_key(header.get(), "tokenizer.ggml.padding_token_id")), 4u);
  EXPECT_LT(gguf_find_key(header.get(), "tokenizer.ggml.eot_token_id"), 0) << "its piece is cut off";
}

TEST(VocabularyCut, OtherKindsAreRefused) {
  const auto message = [](const std::function<void(gguf_context*)>& change) {
    const GgufPtr header = small_header();
    change(header.get());
    try {
      cut_vocabulary(header.get(), 1, "x.gguf");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message([](gguf_context* h) { gguf_set_val_str(h, "tokenizer.ggml.model", "gpt2"); }),
              HasSubstr("x.gguf: its vocabulary is of the kind 'gpt2', which cannot be cut"));
  EXPECT_THAT(message([](gguf_context* h) { gguf_remove_key(h, "tokenizer.ggml.model"); }), HasSubstr("cannot be cut"));
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"})
    EXPECT_THAT(message([key](gguf_context* h) { gguf_set_val_str(h, key, "text"); }), HasSubstr("name another"))
        << key;
  const TemporaryFolder folder;
  const auto gpt2 = default_vocabulary().parent_path() / "ggml-vocab-gpt-2.gguf";
  EXPECT_THROW(make_model({.name = "mini", .merges = 100}, gpt2, 1, folder / "x.gguf"), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "x.gguf"));
}

}  // namespace
}  // namespace haqa
