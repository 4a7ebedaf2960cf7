#include "haqa/base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace haqa {
namespace {

TEST(ParallelFor, DoesEachOnce) {
  for (const size_t count : {0, 1, 2, 1000}) {
    std::vector<std::atomic<int>> done(count);
    std::vector<double> shares;
    parallel_for(
        count, [&](size_t i) { ++done[i]; }, [&](double share) { shares.push_back(share); });
    for (const auto& times : done) EXPECT_EQ(times, 1);
    ASSERT_FALSE(shares.empty());
    EXPECT_EQ(shares.back(), 1.0);
    for (size_t i = 1; i < shares.size(); ++i) EXPECT_LE(shares[i - 1], shares[i]);
  }
}

TEST(ParallelFor, ThrowsWhatTheWorkThrowsAndBeginsNoMore) {
  std::atomic<int> begun = 0;
  const auto work = [&](size_t i) {
    ++begun;
    if (i == 3) throw std::runtime_error("three");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  EXPECT_THROW(parallel_for(100000, work), std::runtime_error);
  EXPECT_LT(begun, 10000);
}

TEST(ParallelFor, ThrowsWhatTheProgressThrows) {
  const auto stop = [](double) { throw std::runtime_error("stop"); };
  EXPECT_THROW(parallel_for(
                   10, [](size_t) {}, stop),
               std::runtime_error);
}

}  // namespace
}  // namespace haqa
