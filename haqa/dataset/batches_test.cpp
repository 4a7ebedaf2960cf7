#include "haqa/dataset/batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::ElementsAre;

constexpr Grouping kGroupings[] = {Grouping::shuffled, Grouping::by_length, Grouping::packed};

/// Tokens that tell where they belong: 1000 times the example's number from 1, and the place in it.
TokenExample example_of(size_t number, size_t length, std::mt19937_64& random) {
  TokenExample example;
  for (size_t i = 0; i < length; ++i) {
    example.tokens.push_back(static_cast<int32_t>(1000 * (number + 1) + i));
    example.counts.push_back(i > 0 && random() % 3 > 0);
  }
  return example;
}

std::vector<TokenExample> examples_of(const std::vector<size_t>& lengths, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::vector<TokenExample> examples;
  for (const size_t length : lengths) examples.push_back(example_of(examples.size(), length, random));
  return examples;
}

std::vector<size_t> random_lengths(size_t n, size_t longest, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<size_t> lengths(n);
  for (size_t& length : lengths) length = 1 + random() % longest;
  return lengths;
}

std::vector<size_t> all_of(const EpochPlan& plan) {
  std::vector<size_t> all;
  for (const auto& batch : plan)
    for (const RowPlan& row : batch) all.insert(all.end(), row.begin(), row.end());
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
            ASSERT_LE(batch.size(), rows);
            smaller += batch.size() < rows;
            for (const RowPlan& row : batch) {
              size_t length = 0;
              for (const size_t i : row) length += examples[i].tokens.size();
              ASSERT_LE(length, 64u);
              ASSERT_TRUE(grouping == Grouping::packed || row.size() == 1);
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

TEST(Batches, OfOneLengthWasteLittle) {
  const auto examples = examples_of(random_lengths(4000, 500, 3));
  const auto share = [&](Grouping grouping) {
    const BatchOptions options{grouping, 8, 512, 1};
    return statistics_of(examples, plan_epoch(examples, options, 1), 1).padding_share();
  };
  // Of 8 lengths drawn uniformly from 1 to 500 the longest is 8/9 of 500 on average, and the mean is 1/2 of it.
  EXPECT_NEAR(share(Grouping::shuffled), 1 - 250.5 / (1 + 499 * 8.0 / 9), 0.02);
  EXPECT_LT(share(Grouping::by_length), 0.02);
  EXPECT_LT(share(Grouping::packed), 0.01);
}

TEST(Batches, StartWithTheLargest) {
  const auto examples = examples_of(random_lengths(500, 64, 9));
  for (const Grouping grouping : {Grouping::by_length, Grouping::packed}) {
    const EpochPlan plan = plan_epoch(examples, {grouping, 4, 64, 4}, 0);
    const size_t first = lay_out(examples, plan[0], 0, 1).tokens.size();
    for (const auto& batch : plan) EXPECT_LE(lay_out(examples, batch, 0, 1).tokens.size(), first);
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
    const EpochPlan plan = plan_epoch(examples, {Grouping::packed, 8, kLength, 1}, 0);
    const BatchStatistics found = statistics_of(examples, plan);
    EXPECT_EQ(found.used, kRows * kLength);
    EXPECT_GE(found.rows, kRows);
    if (pieces == 2) {
      EXPECT_EQ(found.rows, kRows) << "each finds the one piece that it was cut from";
    }
    EXPECT_LE(found.rows, 1.01 * kRows);
  }
}

TEST(Batches, PackLengthsAsInstructionsHaveThem) {
  auto lengths = random_lengths(20000, 130, 6);
  for (size_t& length : lengths) length += 59;
  const auto examples = examples_of(lengths);
  const EpochPlan plan = plan_epoch(examples, {Grouping::packed, 8, 512, 1}, 1);
  EXPECT_LT(statistics_of(examples, plan, 512).padding_share(), 0.002);
}

TEST(Batches, LieAsDocumented) {
  const std::vector<TokenExample> examples{{{10, 11, 12}, {0, 0, 1}}, {{20, 21}, {0, 1}}, {{30}, {0}}};
  const std::vector<RowPlan> rows{{1, 0}, {2}};
  const Batch batch = lay_out(examples, rows, 9, 4);
  constexpr int64_t x = kNoTarget;
  EXPECT_EQ(batch.rows, 2u);
  EXPECT_EQ(batch.length, 8u);
  EXPECT_THAT(batch.tokens, ElementsAre(20, 21, 10, 11, 12, 9, 9, 9, 30, 9, 9, 9, 9, 9, 9, 9));
  EXPECT_THAT(batch.targets, ElementsAre(21, x, x, 12, x, x, x, x, x, x, x, x, x, x, x, x));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(batch.segments, ElementsAre(0, 0, 1, 1, 1, -1, -1, -1, 0, -1, -1, -1, -1, -1, -1, -1));
  EXPECT_EQ(batch.used, 6u);
  EXPECT_EQ(batch.counted, 2u);
}

// Each example is found again in its row, token by token, and every target follows its token within one example.
TEST(Batches, LoseAndMixNothing) {
  for (const Grouping grouping : kGroupings) {
    const auto examples = examples_of(random_lengths(300, 40, 8), 8);
    const EpochPlan plan = plan_epoch(examples, {grouping, 5, 100, 2}, 2);
    size_t used = 0, counted = 0, slots = 0, wanted_used = 0, wanted_counted = 0;
    for (const TokenExample& e : examples) {
      wanted_used += e.tokens.size();
      wanted_counted += static_cast<size_t>(std::count(e.counts.begin(), e.counts.end(), 1));
    }
    for (const auto& rows : plan) {
      const Batch batch = lay_out(examples, rows, -7);
      used += batch.used;
      counted += batch.counted;
      slots += batch.tokens.size();
      ASSERT_EQ(batch.length % 8, 0u);
      for (size_t at = 0; at < batch.tokens.size(); ++at) {
        if (batch.segments[at] < 0) {
          ASSERT_EQ(batch.tokens[at], -7);
          ASSERT_EQ(batch.targets[at], kNoTarget);
          continue;
        }
        const RowPlan& row = rows[at / batch.length];
        const size_t number = row.at(static_cast<size_t>(batch.segments[at]));
        ASSERT_EQ(batch.tokens[at], 1000 * (static_cast<int>(number) + 1) + batch.positions[at]);
        if (batch.targets[at] == kNoTarget) continue;
        ASSERT_EQ(batch.targets[at], batch.tokens[at] + 1);
        ASSERT_EQ(batch.segments[at + 1], batch.segments[at]);
        ASSERT_EQ(batch.tokens[at + 1], batch.targets[at]);
        ASSERT_EQ(examples[number].counts.at(static_cast<size_t>(batch.positions[at]) + 1), 1);
      }
    }
    EXPECT_EQ(used, wanted_used);
    EXPECT_EQ(counted, wanted_counted);
    const BatchStatistics found = statistics_of(examples, plan);
    EXPECT_EQ(found.used, used);
    EXPECT_EQ(found.slots, slots);
    EXPECT_EQ(found.batches, plan.size());
    EXPECT_DOUBLE_EQ(found.padding_share(), 1 - static_cast<double>(used) / static_cast<double>(slots));
  }
}

TEST(Batches, RefuseWhatDoesNotFit) {
  const auto examples = examples_of({5, 65});
  EXPECT_THROW(plan_epoch(examples, {Grouping::packed, 4, 64, 1}, 0), UsageError);
  EXPECT_NO_THROW(plan_epoch(examples, {Grouping::by_length, 4, 64, 1}, 0));
  EXPECT_THROW(plan_epoch(examples, {Grouping::shuffled, 0, 64, 1}, 0), UsageError);
  EXPECT_EQ(statistics_of({}, {}).padding_share(), 0);
}

}  // namespace
}  // namespace haqa
