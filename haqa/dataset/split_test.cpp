#include "haqa/dataset/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::ElementsAre;

// By tests/golden/shuffle.py.
TEST(Split, OrdersAreThoseOfAnotherImplementation) {
  const struct {
    size_t n;
    uint64_t seed, stream;
    std::vector<size_t> order;
  } cases[] = {{10, 0u, 0, {6, 1, 2, 4, 7, 5, 3, 0, 9, 8}},
               {10, 1u, 0, {5, 0, 8, 7, 3, 1, 9, 6, 4, 2}},
               {10, 1u, 1, {4, 3, 6, 5, 8, 7, 2, 0, 1, 9}},
               {12, 18446744073709551615u, 7, {7, 0, 11, 9, 1, 6, 2, 8, 4, 3, 10, 5}},
               {1, 5u, 0, {0}},
               {0, 5u, 0, {}}};
  for (const auto& c : cases) EXPECT_EQ(shuffled_indices(c.n, c.seed, c.stream), c.order);
  EXPECT_THAT(split_by_count(20, 5, 3).validation, ElementsAre(11, 14, 15, 17, 18));
}

TEST(Split, PutsEachExampleIntoOnePart) {
  for (size_t n = 1; n < 60; ++n)
    for (size_t count = 0; count < n; count += 1 + n / 7)
      for (const uint64_t seed : {0u, 1u, 99u}) {
        const Split split = split_by_count(n, count, seed);
        ASSERT_EQ(split.validation.size(), count);
        ASSERT_TRUE(std::is_sorted(split.training.begin(), split.training.end()));
        ASSERT_TRUE(std::is_sorted(split.validation.begin(), split.validation.end()));
        std::set<size_t> all(split.training.begin(), split.training.end());
        all.insert(split.validation.begin(), split.validation.end());
        ASSERT_EQ(split.training.size() + count, n);
        ASSERT_EQ(all.size(), n);
        ASSERT_EQ(*all.rbegin(), n - 1);
      }
}

TEST(Split, DrawsEveryExampleAlike) {
  // 4000 draws of 3 of 10: each index is drawn 1200 times, give or take five standard deviations of 29.
  std::vector<int> drawn(10);
  for (uint64_t seed = 0; seed < 4000; ++seed)
    for (const size_t i : split_by_count(10, 3, seed).validation) ++drawn[i];
  for (const int times : drawn) EXPECT_NEAR(times, 1200, 145);
}

TEST(Split, TakesAShare) {
  EXPECT_EQ(split_by_share(52002, 0.05, 1).validation.size(), 2600u);
  EXPECT_EQ(split_by_share(3, 0.001, 1).validation.size(), 1u);
  EXPECT_EQ(split_by_share(3, 0, 1).validation.size(), 0u);
  EXPECT_EQ(split_by_share(10, 0.25, 1).validation, split_by_count(10, 3, 1).validation);
  for (const double wrong : {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN()})
    EXPECT_THROW(split_by_share(10, wrong, 1), UsageError) << wrong;
  EXPECT_THROW(split_by_share(1, 0.1, 1), UsageError);
  EXPECT_THROW(split_by_count(4, 4, 1), UsageError);
  EXPECT_THROW(split_by_count(0, 0, 1), UsageError);
}

TEST(MixedSeed, TellsApartInTheBitsThatGeneratorsTake) {
  std::set<uint32_t> seen;
  for (uint64_t seed = 0; seed < 20; ++seed)
    for (uint64_t step = 0; step < 20; ++step)
      for (uint64_t place = 0; place < 100; ++place)
        seen.insert(static_cast<uint32_t>(mixed_seed(mixed_seed(seed, step), place)));
  EXPECT_GT(seen.size(), 40000u - 5);  // by chance 0.2 pairs of 40,000 would be alike
}

}  // namespace
}  // namespace haqa
