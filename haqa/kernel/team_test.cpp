#include "haqa/kernel/team.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "kernels/kernel.h"

namespace haqa {
namespace {

haqa_launch launch_of(Team& team, int thread) {
  haqa_launch launch = {};
  launch.thread = thread;
  launch.threads = team.threads();
  launch.team = &team.shared();
  launch.barrier = Team::barrier;
  launch.take = Team::take;
  return launch;
}

TEST(TeamTest, EveryThreadWorksOnce) {
  for (const int threads : {1, 2, 3, 5}) {
    Team team(threads);
    for (int round = 0; round < 50; ++round) {
      std::mutex mutex;
      std::multiset<int> seen;
      team.run([&](int thread) {
        const std::lock_guard lock(mutex);
        seen.insert(thread);
      });
      EXPECT_EQ(seen.size(), static_cast<size_t>(threads));
      EXPECT_EQ(std::set<int>(seen.begin(), seen.end()).size(), seen.size());
    }
  }
}

TEST(TeamTest, ABarrierHoldsAllBack) {
  Team team(3);
  std::atomic<int> before{0};
  std::atomic<bool> early{false};
  team.run([&](int) {
    for (int i = 1; i <= 200; ++i) {
      ++before;
      Team::barrier(&team.shared());
      if (before < 3 * i) early = true;
      Team::barrier(&team.shared());
    }
  });
  EXPECT_FALSE(early);
}

TEST(TeamTest, RowsAreSharedOutOnceByEverySchedule) {
  for (const int threads : {1, 2, 3, 7}) {
    Team team(threads);
    for (const int schedule : {haqa_static, haqa_dynamic, haqa_chunks})
      for (const int64_t rows : {0, 1, 2, 3, 31, 32, 100})
        for (const int64_t step : {1, 4, 32, 256}) {
          std::vector<std::atomic<int>> times(static_cast<size_t>(rows));
          team.run([&](int thread) {
            const haqa_launch launch = launch_of(team, thread);
            haqa_share(&launch, rows, step, schedule, [&](int64_t first, int64_t end) {
              for (int64_t i = first; i < end; ++i) ++times.at(static_cast<size_t>(i));
            });
            Team::finish_launch(launch.team);
          });
          for (const std::atomic<int>& t : times)
            EXPECT_EQ(t, 1) << threads << " threads, schedule " << schedule << ", " << rows << " rows by " << step;
        }
  }
}

}  // namespace
}  // namespace haqa
