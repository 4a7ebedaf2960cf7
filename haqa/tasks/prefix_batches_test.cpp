#include "haqa/tasks/prefix_batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace haqa {
namespace {

RequestTokens request(std::vector<int32_t> context, std::vector<int32_t> continuation) {
  RequestTokens r;
  r.input = context;
  r.input.insert(r.input.end(), continuation.begin(), continuation.end() - 1);
  r.continuation = std::move(continuation);
  return r;
}

/// The tokens of each sequence of a batch, as llama.cpp reads it.
std::vector<std::vector<int32_t>> sequences(const PrefixBatch& batch) {
  std::vector<std::vector<int32_t>> out(static_cast<size_t>(batch.n_sequences));
  for (const BatchToken& t : batch.tokens)
    for (int32_t s = t.first_sequence; s <= t.last_sequence; ++s) {
      EXPECT_EQ(t.position, static_cast<int32_t>(out[static_cast<size_t>(s)].size()));
      out[static_cast<size_t>(s)].push_back(t.token);
    }
  return out;
}

/// Each request finds, in one batch, its own input before each of its tokens, and nothing is asked for twice.
void check(const std::vector<RequestTokens>& requests, int max_tokens, int max_sequences) {
  std::map<size_t, std::multimap<size_t, int32_t>> answered;  // request -> length of what was read -> token
  for (const PrefixBatch& batch : prefix_batches(requests, max_tokens, max_sequences)) {
    const auto read = sequences(batch);
    ASSERT_LE(batch.n_sequences, max_sequences);
    ASSERT_TRUE(batch.tokens.size() <= static_cast<size_t>(max_tokens) || batch.n_sequences == 1);
    std::vector<bool> asked(batch.tokens.size());
    for (const Wanted& w : batch.wanted) {
      const BatchToken& t = batch.tokens[static_cast<size_t>(w.at)];
      asked[static_cast<size_t>(w.at)] = true;
      const auto& sequence = read[static_cast<size_t>(t.first_sequence)];
      const auto& input = requests[w.request].input;
      const size_t length = static_cast<size_t>(t.position) + 1;
      ASSERT_TRUE(length <= input.size() && std::equal(input.begin(), input.begin() + length, sequence.begin()));
      answered[w.request].emplace(length, w.token);
    }
    for (size_t i = 0; i < asked.size(); ++i) EXPECT_EQ(asked[i], batch.tokens[i].output);
    EXPECT_TRUE(std::is_sorted(batch.wanted.begin(), batch.wanted.end(),
                               [](const Wanted& a, const Wanted& b) { return a.at < b.at; }));
  }
  ASSERT_EQ(answered.size(), requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    const RequestTokens& r = requests[i];
    std::multimap<size_t, int32_t> want;
    for (size_t j = 0; j < r.continuation.size(); ++j)
      want.emplace(r.input.size() - r.continuation.size() + 1 + j, r.continuation[j]);
    EXPECT_EQ(answered[i], want) << i;
  }
}

TEST(PrefixBatches, OneSharedContextStandsOnce) {
  const std::vector<RequestTokens> requests = {request({1, 2, 3}, {7, 8}), request({1, 2, 3}, {9}),
                                               request({1, 2, 3}, {7, 8, 9}), request({1, 2, 3}, {6, 8})};
  const auto batches = prefix_batches(requests, 100, 10);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].tokens.size(), 6u);  // 1 2 3, then 7 8 and 6
  EXPECT_EQ(batches[0].n_sequences, 2);     // 1 2 3 6 and 1 2 3 7 8
  check(requests, 100, 10);
}

TEST(PrefixBatches, NoneAndOne) {
  EXPECT_TRUE(prefix_batches({}, 10, 10).empty());
  check({request({1}, {2})}, 1, 1);
}

TEST(PrefixBatches, RandomRequestsAreAllAnswered) {
  std::mt19937 random(1);
  const auto draw = [&](size_t low, size_t high) { return low + random() % (high - low + 1); };
  for (int round = 0; round < 300; ++round) {
    std::vector<RequestTokens> requests;
    const size_t n = draw(1, 40), alphabet = draw(1, 4);
    for (size_t i = 0; i < n; ++i) {
      std::vector<int32_t> context(draw(1, 8)), continuation(draw(1, 6));
      for (auto* part : {&context, &continuation})
        for (int32_t& token : *part) token = static_cast<int32_t>(draw(0, alphabet));
      requests.push_back(request(context, continuation));
      if (draw(0, 3) == 0)
        requests.back().input.erase(
            requests.back().input.begin(),
            requests.back().input.end() - static_cast<ptrdiff_t>(requests.back().continuation.size()));
    }
    check(requests, static_cast<int>(draw(1, 60)), static_cast<int>(draw(1, 12)));
  }
}

}  // namespace
}  // namespace haqa
