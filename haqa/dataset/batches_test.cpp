#include "haqa/dataset/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "haqa/base/error.h"

namespace haqa {
namespace {

constexpr Grouping kGroupings[] = {Grouping::shuffled, Grouping::by_length, Grouping::packed};

std::vector<TokenExample> examples_of(const std::vector<size_t>& lengths) {
  std::vector<TokenExample> examples;
  for (const size_t length : lengths)
    examples.push_back({std::vector<int32_t>(length), std::vector<uint8_t>(length, 1)});
  return examples;
}

size_t tokens_of(const std::vector<TokenExample>& examples, const std::vector<size_t>& batch) {
  size_t tokens = 0;
  for (const size_t i : batch) tokens += examples[i].tokens.size();
  return tokens;
}

std::vector<size_t> random_lengths(size_t n, size_t longest, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<size_t> lengths(n);
  for (size_t& length : lengths) length = 1 + random() % longest;
  return lengths;
}

std::vector<size_t> all_of(const EpochPlan& plan) {
  std::vector<size_t> all;
  for (const auto& batch : plan) all.insert(all.end(), batch.begin(), batch.end());
  return all;
}

TEST(Batches, HoldEveryExampleOnce) {
  for (const Grouping grouping : kGroupings)
    for (const size_t n : {0, 1, 2, 7, 8, 9, 300, 1000})
      for (const size_t rows : {1, 3, 8})
        for (const uint64_t epoch : {0, 1, 5}) {
          const auto examples = examples_of(random_lengths(n, 64, n + rows));
          const BatchOptions options{grouping, rows, 64, 4};
          const EpochPlan plan = plan_epoch(examples, options, epoch);
          std::vector<size_t> all = all_of(plan), wanted(n);
          std::sort(all.begin(), all.end());
          std::iota(wanted.begin(), wanted.end(), size_t{0});
          ASSERT_EQ(all, wanted);
          size_t smaller = 0;
          for (const auto& batch : plan) {
            ASSERT_FALSE(batch.empty());
            if (grouping == Grouping::packed) {
              ASSERT_LE(tokens_of(examples, batch), rows * 64);
            } else {
              ASSERT_LE(batch.size(), rows);
              smaller += batch.size() < rows;
            }
          }
          ASSERT_LE(smaller, 1u);
        }
}

TEST(Batches, AreAFunctionOfSeedAndEpochAlone) {
  const auto examples = examples_of(random_lengths(200, 64, 3));
  for (const Grouping grouping : kGroupings) {
    const BatchOptions options{grouping, 4, 64, 4}, other_seed{grouping, 4, 64, 5};
    EXPECT_EQ(plan_epoch(examples, options, 3), plan_epoch(examples, options, 3));
    EXPECT_NE(plan_epoch(examples, options, 3), plan_epoch(examples, options, 4));
    EXPECT_NE(plan_epoch(examples, options, 3), plan_epoch(examples, other_seed, 3));
  }
}

// What a trainer that fills a batch up to its longest example would compute in vain.
TEST(Batches, AreOfNearlyOneLength) {
  const auto examples = examples_of(random_lengths(4000, 500, 3));
  const auto padding = [&](Grouping grouping) {
    size_t used = 0, slots = 0;
    for (const auto& batch : plan_epoch(examples, {grouping, 8, 512, 1}, 1)) {
      size_t longest = 0;
      for (const size_t i : batch) longest = std::max(longest, examples[i].tokens.size());
      used += tokens_of(examples, batch);
      slots += batch.size() * longest;
    }
    return 1 - static_cast<double>(used) / static_cast<double>(slots);
  };
  // Of 8 lengths drawn uniformly from 1 to 500 the longest is 8/9 of 500 on average, and the mean is 1/2 of it.
  EXPECT_NEAR(padding(Grouping::shuffled), 1 - 250.5 / (1 + 499 * 8.0 / 9), 0.02);
  EXPECT_LT(padding(Grouping::by_length), 0.02);
}

TEST(Batches, StartWithTheLargest) {
  const auto examples = examples_of(random_lengths(500, 64, 9));
  for (const Grouping grouping : {Grouping::by_length, Grouping::packed}) {
    const EpochPlan plan = plan_epoch(examples, {grouping, 4, 64, 4}, 0);
    for (const auto& batch : plan) EXPECT_LE(tokens_of(examples, batch), tokens_of(examples, plan[0]));
  }
}

// Rows cut into pieces can be put together again without a gap: the fewest rows are known.
TEST(Batches, PackNearlyAsTightAsCanBe) {
  std::mt19937_64 random(5);
  for (const size_t pieces : {2, 3, 5}) {
    std::vector<size_t> lengths;
    constexpr size_t kRows = 200, kLength = 256;
    for (size_t r = 0; r < kRows; ++r) {
      size_t left = kLength;
      for (size_t p = 1; p < pieces && left > 1; ++p) {
        lengths.push_back(1 + random() % (left - 1));
        left -= lengths.back();
      }
      lengths.push_back(left);
    }
    const auto examples = examples_of(lengths);
    const EpochPlan plan = plan_epoch(examples, {Grouping::packed, 1, kLength, 1}, 0);  // a row a batch
    for (const auto& row : plan) EXPECT_LE(tokens_of(examples, row), kLength);
    EXPECT_GE(plan.size(), kRows);
    if (pieces == 2) {
      EXPECT_EQ(plan.size(), kRows) << "each finds the one piece that it was cut from";
    }
    EXPECT_LE(plan.size(), 1.01 * kRows);
  }
}

TEST(Batches, PackLengthsAsInstructionsHaveThem) {
  auto lengths = random_lengths(20000, 130, 6);
  for (size_t& length : lengths) length += 59;
  const auto examples = examples_of(lengths);
  const size_t all = std::accumulate(lengths.begin(), lengths.end(), size_t{0});
  const size_t rows = plan_epoch(examples, {Grouping::packed, 1, 512, 1}, 1).size();
  EXPECT_GT(static_cast<double>(all) / static_cast<double>(512 * rows), 0.998);
}

TEST(Batches, RefuseWhatDoesNotFit) {
  const auto examples = examples_of({5, 65});
  EXPECT_THROW(plan_epoch(examples, {Grouping::packed, 4, 64, 1}, 0), UsageError);
  EXPECT_NO_THROW(plan_epoch(examples, {Grouping::by_length, 4, 64, 1}, 0));
  EXPECT_THROW(plan_epoch(examples, {Grouping::shuffled, 0, 64, 1}, 0), UsageError);
  EXPECT_TRUE(plan_epoch({}, {Grouping::packed, 4, 64, 1}, 0).empty());
}

}  // namespace
}  // namespace haqa
