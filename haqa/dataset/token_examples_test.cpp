#include "haqa/dataset/token_examples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>

#include "haqa/base/error.h"
#include "haqa/model/make_model.h"
#include "haqa/tokenizer/tokenizer.h"

namespace haqa {
namespace {

using Tokens = std::vector<int32_t>;
using Counts = std::vector<uint8_t>;
using testing::ElementsAre;

/// A byte a token.
Tokens bytes(std::string_view text) {
  return {text.begin(), text.end()};
}

Example answered(const std::string& prompt, const std::string& response) {
  return {{{prompt, false}, {response, true}}};
}

EncodeOptions options_of(size_t length, int threads = 1) {
  return {.bos = 1, .eos = 2, .length = length, .threads = threads};
}

TEST(TokenExamples, CountTheResponseAndItsEndOnly) {
  const Example chat{{{"ab", false}, {"c", true}, {"d", false}, {"ef", true}}}, text{{{"gh", true}}};
  const std::vector<Example> examples{answered("ab", "cd"), chat, text};
  const TokenExamples found = encode_examples(examples, bytes, options_of(20));
  EXPECT_THAT(found.examples,
              ElementsAre(TokenExample{{1, 'a', 'b', 'c', 'd', 2}, {0, 0, 0, 1, 1, 1}},
                          TokenExample{{1, 'a', 'b', 'c', 2, 'd', 'e', 'f', 2}, {0, 0, 0, 1, 1, 0, 1, 1, 1}},
                          TokenExample{{1, 'g', 'h', 2}, {0, 1, 1, 1}}));
  EXPECT_EQ(found.truncated + found.dropped + found.divided, 0u);
  // Without BOS the first token of a text follows nothing.
  const TokenExamples bare = encode_examples(examples, bytes, {.bos = -1, .eos = -1, .length = 20});
  EXPECT_EQ(bare.examples[0], (TokenExample{{'a', 'b', 'c', 'd'}, {0, 0, 1, 1}}));
  EXPECT_EQ(bare.examples[2], (TokenExample{{'g', 'h'}, {0, 1}}));
}

TEST(TokenExamples, LoseTheEndWhereTheyAreTooLong) {
  const std::vector<Example> examples{answered("ab", "cdef"), answered("ab", "c"), answered("abcd", "e")};
  const TokenExamples found = encode_examples(examples, bytes, options_of(5));
  EXPECT_THAT(found.examples, ElementsAre(TokenExample{{1, 'a', 'b', 'c', 'd'}, {0, 0, 0, 1, 1}},
                                          TokenExample{{1, 'a', 'b', 'c', 2}, {0, 0, 0, 1, 1}}));
  EXPECT_EQ(found.truncated, 1u);
  EXPECT_EQ(found.dropped, 1u);
  EXPECT_EQ(describe(found, 5),
            "2 examples; 1 longer than 5 tokens lost their end; 1 had no room for a response and were left out");
  // A second question whose answer is cut off is not worth reading.
  const Example chat{{{"a", false}, {"b", true}, {"cde", false}, {"f", true}}};
  EXPECT_THAT(encode_examples(std::vector{chat}, bytes, options_of(6)).examples,
              ElementsAre(TokenExample{{1, 'a', 'b', 2}, {0, 0, 1, 1}}));
  EXPECT_THROW(encode_examples(std::vector{answered("abcdef", "g")}, bytes, options_of(5)), Error);
  EXPECT_THROW(encode_examples({}, bytes, options_of(5)), Error);
  EXPECT_THROW(encode_examples(examples, bytes, options_of(1)), UsageError);
}

TEST(TokenExamples, OfPlainTextAreDividedWithoutLoss) {
  const Example text{{{"abcdefg", true}}};
  for (size_t length = 2; length < 12; ++length) {
    const TokenExamples found = encode_examples(std::vector{text}, bytes, options_of(length));
    Tokens learned;
    for (const TokenExample& e : found.examples) {
      ASSERT_LE(e.tokens.size(), length);
      ASSERT_GE(e.tokens.size(), 2u);
      ASSERT_EQ(e.tokens.size(), e.counts.size());
      ASSERT_EQ(e.counts[0], 0);
      for (size_t i = 0; i < e.tokens.size(); ++i)
        if (e.counts[i]) learned.push_back(e.tokens[i]);
    }
    EXPECT_EQ(learned, (Tokens{'a', 'b', 'c', 'd', 'e', 'f', 'g', 2})) << length;
    EXPECT_EQ(found.divided, length < 9 ? 1u : 0u);
    EXPECT_EQ(found.truncated + found.dropped, 0u);
  }
}

TEST(TokenExamples, AreTheSameFromSeveralThreads) {
  std::vector<Example> examples;
  for (int i = 0; i < 1000; ++i) examples.push_back(answered(std::to_string(i), std::string(i % 40, 'x') + "y"));
  const TokenExamples one = encode_examples(examples, bytes, options_of(30)),
                      four = encode_examples(examples, bytes, options_of(30, 4));
  EXPECT_EQ(one.examples, four.examples);
  EXPECT_EQ(one.truncated, four.truncated);
  EXPECT_GT(one.truncated, 0u);
  const auto failing = [](std::string_view text) -> Tokens {
    if (text == "777") throw Error("cannot");
    return bytes(text);
  };
  EXPECT_THROW(encode_examples(examples, failing, options_of(30, 4)), Error);
}

// Of vocabularies that put a space first, none known joins line breaks; one might.
TEST(TokenExamples, ContinueWithoutASpaceWhereLineBreaksAreJoined) {
  const auto joining = [](std::string_view text) {
    Tokens tokens{' '};
    for (size_t i = 0; i < text.size(); ++i) {
      const bool pair = text.substr(i, 2) == "\n\n";
      tokens.push_back(pair ? 999 : text[i]);
      i += pair;
    }
    return tokens;
  };
  EXPECT_EQ(encode_continuation(joining, "ab"), (Tokens{'a', 'b'}));
  EXPECT_EQ(encode_continuation(joining, "\na"), (Tokens{'\n', 'a'}));
  EXPECT_EQ(encode_continuation(joining, "\n\na"), (Tokens{999, 'a'}));
  EXPECT_EQ(encode_continuation(joining, ""), Tokens{});
}

/// llama.cpp's own tokens of the whole text are the reference.
class RealVocabulary : public testing::TestWithParam<const char*> {
 protected:
  const Tokenizer tokenizer_{default_vocabulary().parent_path() / GetParam()};
  Encoder encode_ = [this](std::string_view text) { return tokenizer_.encode(text, false); };
};
INSTANTIATE_TEST_SUITE_P(TokenExamples, RealVocabulary,
                         testing::Values("ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-bpe.gguf",
                                         "ggml-vocab-gpt-2.gguf", "ggml-vocab-qwen2.gguf"),
                         [](const auto& each) {
                           std::string name = each.param;
                           std::replace_if(
                               name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

TEST_P(RealVocabulary, SplitsAnExampleAsTheWholeTextIsSplit) {
  const char* responses[] = {"Paris.",
                             " Paris",
                             "  two spaces",
                             "1. One\n2. Two\n\n3. Three",
                             "42",
                             "\u00fcber \U0001F600",
                             "{\"a\": [1, 2]}",
                             "\tx",
                             "def f():\n    return 1\n",
                             "'s",
                             "...",
                             "</s> is text"};
  for (const char* response : responses) {
    const std::string prompt = alpaca_prompt("What is it?", "");
    Tokens expected = encode_(prompt + response);
    const size_t n_prompt = encode_(prompt).size();
    expected.insert(expected.begin(), 1);
    expected.push_back(2);
    const TokenExample found =
        encode_examples(std::vector{answered(prompt, response)}, encode_, options_of(500)).examples[0];
    EXPECT_EQ(found.tokens, expected) << response;
    for (size_t i = 0; i < found.counts.size(); ++i) EXPECT_EQ(found.counts[i], i > n_prompt) << response << i;
  }
}

TEST_P(RealVocabulary, KeepsThePromptsTokensWhereTheWholeTextWouldJoinThem) {
  const std::string prompt = alpaca_prompt("What is it?", "");
  for (const char* response : {"\nParis", "\n\nParis", "\r\n\r\nx", "\n"}) {
    const Tokens before = encode_(prompt);
    const TokenExample found =
        encode_examples(std::vector{answered(prompt, response)}, encode_, options_of(500)).examples[0];
    ASSERT_GT(found.tokens.size(), before.size() + 2);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), found.tokens.begin() + 1));
    // The response alone, behind something that it cannot be joined with.
    Tokens joined = encode_("x" + std::string(response)), x = encode_("x");
    joined.erase(joined.begin(), joined.begin() + static_cast<std::ptrdiff_t>(x.size()));
    joined.push_back(2);
    EXPECT_EQ(Tokens(found.tokens.begin() + 1 + static_cast<std::ptrdiff_t>(before.size()), found.tokens.end()),
              joined);
  }
}

}  // namespace
}  // namespace haqa
