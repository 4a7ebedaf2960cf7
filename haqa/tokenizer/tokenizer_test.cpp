#include "haqa/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"

namespace haqa {
namespace {

using Tokens = std::vector<llama_token>;

// The numbers are those of Meta's own SentencePiece model for LLaMA-2, as published in many examples.
TEST(Tokenizer, EncodesAsSentencePieceDoes) {
  const Tokenizer tokenizer(default_vocabulary());
  EXPECT_EQ(tokenizer.n_vocab(), 32000);
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_TRUE(tokenizer.adds_bos());
  EXPECT_EQ(tokenizer.encode("Hello world", true), (Tokens{1, 15043, 3186}));
  EXPECT_EQ(tokenizer.encode("Hello world", false), (Tokens{15043, 3186}));
  EXPECT_EQ(tokenizer.encode("", false), Tokens{});
}

TEST(Tokenizer, SpecialWordsInATextStayText) {
  const Tokenizer tokenizer(default_vocabulary());
  const Tokens tokens = tokenizer.encode("</s>", false);
  EXPECT_GT(tokens.size(), 1u);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), tokenizer.eos()), 0);
}

TEST(Tokenizer, RefusesWhatIsNoModel) {
  const TemporaryFolder folder;
  write_file(folder.path() / "x.gguf", "GGUFrubbish");
  EXPECT_THROW(Tokenizer(folder.path() / "x.gguf"), Error);
  EXPECT_THROW(Tokenizer(folder.path() / "none.gguf"), Error);
}

}  // namespace
}  // namespace haqa
