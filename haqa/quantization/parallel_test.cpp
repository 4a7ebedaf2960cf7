#include "haqa/quantization/parallel.h"

#include <gtest/gtest.h>

#include <mutex>

namespace haqa {
namespace {

TEST(ParallelFor, PartsCoverAllOnceAndBeginAtGrains) {
  for (const int64_t n : {0, 1, 63, 64, 65, 1000})
    for (const int64_t grain : {1, 7, 64, 2000})
      for (const int threads : {-1, 0, 1, 2, 3, 16}) {
        std::mutex mutex;
        std::vector<std::pair<int64_t, int64_t>> parts;
        parallel_for(n, grain, threads, [&](int64_t begin, int64_t end) {
          const std::lock_guard lock(mutex);
          parts.emplace_back(begin, end);
        });
        std::sort(parts.begin(), parts.end());
        EXPECT_LE(parts.size(), static_cast<size_t>(std::max(threads, 1)));
        int64_t at = 0;
        for (const auto& [begin, end] : parts) {
          EXPECT_EQ(begin, at);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end == n || end - begin >= grain);
          at = end;
        }
        EXPECT_EQ(at, n);
        EXPECT_EQ(parts.size() > 1, threads > 1 && n > grain) << n << ' ' << grain;
      }
}

}  // namespace
}  // namespace haqa
