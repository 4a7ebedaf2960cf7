#include "haqa/tasks/request_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using ::testing::HasSubstr;
using Tokens = std::vector<int32_t>;

/// A token a byte, its code; BOS is 1, and "<s>" is spelt out by nobody but BOS. "ab" is one token, 300.
RequestEncoder bytes(int max_length = 100) {
  RequestEncoder encoder;
  encoder.encode = [](std::string_view text, bool add_special) {
    Tokens tokens;
    if (add_special) tokens.push_back(1);
    for (size_t i = 0; i < text.size(); ++i) {
      const bool pair = text.substr(i, 2) == "ab", bos = text.substr(i, 3) == "<s>";
      tokens.push_back(pair ? 300 : bos ? 1 : text[i]);
      i += pair ? 1 : bos ? 2 : 0;
    }
    return tokens;
  };
  encoder.prefix = 1;
  encoder.prefix_text = "<s>";
  encoder.max_length = max_length;
  return encoder;
}

struct Case {
  Request request;
  Tokens input, continuation;
};

// By hand, from lm-eval's rules.
TEST(RequestTokens, FollowLmEvalsRules) {
  const Case cases[] = {
      {{"x", " y"}, {1, 'x', ' '}, {' ', 'y'}},
      {{"x", "y"}, {1, 'x'}, {'y'}},
      {{"x  ", " y"}, {1, 'x', ' ', ' ', ' '}, {' ', ' ', ' ', 'y'}},  // white space moves to the continuation
      {{"x\n", "y"}, {1, 'x', '\n'}, {'\n', 'y'}},
      {{"xa", "b"}, {}, {}},  // "ab" is one token: nothing is left of the answer
      {{"xa", "bc"}, {1, 'x', 300}, {'c'}},
      {{"", " y"}, {1, ' '}, {' ', 'y'}},
      {{"", "<s>y"}, {1}, {'y'}},        // no second BOS
      {{"<s>x", "y"}, {1, 'x'}, {'y'}},  // nor here
      {{"  ", "y"}, {1, ' ', ' '}, {' ', ' ', 'y'}},
  };
  for (const Case& c : cases) {
    if (c.input.empty()) {
      EXPECT_THROW(encode_request(c.request, bytes()), Error);
      continue;
    }
    const RequestTokens got = encode_request(c.request, bytes());
    EXPECT_EQ(got.input, c.input) << c.request.context << "|" << c.request.continuation;
    EXPECT_EQ(got.continuation, c.continuation) << c.request.context << "|" << c.request.continuation;
    EXPECT_FALSE(got.truncated);
  }
}

TEST(RequestTokens, LongInputsLoseTheirBeginning) {
  const Request request{"0123456789", "xyz"};
  const RequestTokens whole = encode_request(request, bytes(13));  // BOS, 10, and all but the last of 3
  EXPECT_EQ(whole.input.size(), 13u);
  EXPECT_FALSE(whole.truncated);
  const RequestTokens cut = encode_request(request, bytes(4));
  EXPECT_EQ(cut.input, (Tokens{'8', '9', 'x', 'y'}));
  EXPECT_EQ(cut.continuation, (Tokens{'x', 'y', 'z'}));
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(encode_request(request, bytes(3)).input, (Tokens{'9', 'x', 'y'}));
  try {
    encode_request(request, bytes(2));
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("an answer of 3 tokens is longer than the 2"));
  }
}

TEST(RequestTokens, ThreadsGiveTheSame) {
  std::vector<Request> requests;
  for (int i = 0; i < 1000; ++i) requests.push_back({"context " + std::to_string(i / 4), " " + std::to_string(i)});
  const auto got = encode_requests(requests, bytes(), 3);
  for (size_t i = 0; i < requests.size(); ++i) {
    const RequestTokens want = encode_request(requests[i], bytes());
    EXPECT_EQ(got[i].input, want.input);
    EXPECT_EQ(got[i].continuation, want.continuation);
  }
  requests[777] = {"xa", "b"};
  EXPECT_THROW(encode_requests(requests, bytes(), 3), Error);
}

}  // namespace
}  // namespace haqa
