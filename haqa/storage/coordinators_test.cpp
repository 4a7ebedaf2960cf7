// Several processes on one database: killed ones, and two at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <functional>
#include <set>

#include "haqa/base/descriptor.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/storage/coordinator.h"
#include "haqa/storage/storage_test_support.h"
#include "haqa/worker/process_test_support.h"

namespace haqa {
namespace {

using testing::HasSubstr;

Track track() {
  Track t;
  t.space = SearchSpace({integer_parameter("x", 0, 1000000, 5, ""), boolean_parameter("b", true, "")});
  return t;
}

/// A process that tells this one whole numbers; killed at the end.
class Child {
 public:
  explicit Child(const std::function<void(const std::function<void(int)>& tell)>& work) {
    int ends[2];
    if (pipe(ends) != 0) throw Error("no pipe");
    told_ = Descriptor(ends[0]);
    pid_ = fork();
    if (pid_ != 0) {
      close(ends[1]);
      return;
    }
    try {
      work([&](int number) { (void)!write(ends[1], &number, sizeof number); });
      _exit(0);
    } catch (const std::exception& e) {
      fprintf(stderr, "child: %s\n", e.what());
      _exit(1);
    }
  }
  ~Child() { kill_now(); }
  void kill_now() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    wait();
  }
  /// Its exit status; -1 where a signal ended it.
  int wait() {
    if (pid_ <= 0) return status_;
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  /// The next number; nullopt where it has ended.
  std::optional<int> next() {
    int number = 0;
    return read(told_.get(), &number, sizeof number) == sizeof number ? std::optional(number) : std::nullopt;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int status_ = -1;
  Descriptor told_;
};

/// Value and metrics follow from the number, so that a torn trial is seen.
Trial finished(Trial t) {
  t.state = TrialState::complete;
  t.value = t.number * 1.5;
  t.metrics = {{"n", t.number}, {"text", std::string(3000, 'x')}};
  return t;
}

bool is_running(const Trial& t) {
  return t.state == TrialState::running;
}

/// Starts and finishes trials; tells the number of each that finish() has taken.
void go_on(const std::string& url, int trials, const std::function<void(int)>& tell) {
  const auto storage = open_storage(url, "study", track());
  for (int i = 0; i < trials; ++i) {
    const Proposal p{{{"x", i}, {"b", i % 2 == 0}}, "test", "why", {}};
    Trial t = running_trial(storage->start(p), p);
    t.intermediate = {{0, 0.5}, {1, 0.25}};
    for (const Intermediate& value : t.intermediate) storage->report(t.number, value);
    storage->finish(finished(t));
    tell(t.number);
  }
}

class Coordinators : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!database_.skipped.empty()) GTEST_SKIP() << database_.skipped;
  }
  TestDatabase database_{GetParam()};
};

TEST_P(Coordinators, KilledAtAnyMomentLoseNoFinishedTrial) {
  std::set<int> taken;
  std::mt19937_64 random(11);
  int interrupted = 0;
  for (int round = 0; round < 25; ++round) {
    Child child([&](const auto& tell) { go_on(database_.url, 1000, tell); });
    // The first is killed while it makes the tables.
    if (round > 1)
      if (const auto number = child.next()) taken.insert(*number);
    usleep(static_cast<useconds_t>(std::uniform_int_distribution<int>(0, 300000)(random)));
    child.kill_now();
    while (const auto number = child.next()) taken.insert(*number);

    // A server may still be busy with the last words of the dead, which come after we have looked for what it left.
    std::vector<Trial> trials;
    ASSERT_TRUE(comes_true([&] {
      trials = open_storage(database_.url, "study", track())->trials();
      return std::none_of(trials.begin(), trials.end(), is_running);
    }));
    for (size_t i = 0; i < trials.size(); ++i) {
      const Trial& t = trials[i];
      ASSERT_EQ(t.number, static_cast<int>(i));
      ASSERT_TRUE(t.configuration.contains("x") && t.configuration.contains("b"));
      if (t.state == TrialState::complete) {
        ASSERT_EQ(t.value, t.number * 1.5);
        ASSERT_EQ(t.metrics, finished(t).metrics);
        ASSERT_EQ(t.intermediate.size(), 2u);
        continue;
      }
      // Whatever has not ended belongs to a child that is dead.
      ASSERT_EQ(t.state, TrialState::failed);
      ASSERT_EQ(t.reason, FailReason::interrupted);
      ASSERT_THAT(t.message, HasSubstr("its coordinator, process "));
      ASSERT_FALSE(taken.contains(t.number));
    }
    for (const int number : taken) {
      ASSERT_LT(number, static_cast<int>(trials.size()));
      ASSERT_EQ(trials[static_cast<size_t>(number)].state, TrialState::complete) << number;
    }
    interrupted =
        static_cast<int>(std::count_if(trials.begin(), trials.end(), [](const Trial& t) { return !t.value; }));
  }
  std::printf("%zu trials taken, %d interrupted\n", taken.size(), interrupted);
  EXPECT_GT(taken.size(), 20u);
  EXPECT_GT(interrupted, 3);  // else the kills came between trials, and showed nothing
}

TEST_P(Coordinators, TwoAtOnceShareTheNumbers) {
  std::vector<int> all;
  {
    Child one([&](const auto& tell) { go_on(database_.url, 50, tell); });  // both make the tables and the study
    Child other([&](const auto& tell) { go_on(database_.url, 50, tell); });
    for (Child* child : {&one, &other}) {
      while (const auto number = child->next()) all.push_back(*number);
      EXPECT_EQ(child->wait(), 0);
    }
  }
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(all[i], i);
  const std::vector<Trial> trials = open_storage(database_.url, "study", track())->trials();
  ASSERT_EQ(trials.size(), 100u);
  int first_twice = 0;
  for (const Trial& t : trials) {
    EXPECT_EQ(t.state, TrialState::complete);
    EXPECT_EQ(t.value, t.number * 1.5);
    first_twice += t.configuration["x"] == 0;
  }
  EXPECT_EQ(first_twice, 2);  // one of each
}

TEST_P(Coordinators, LeaveWhatLivesRunning) {
  Child child([&](const auto& tell) {
    const auto storage = open_storage(database_.url, "study", track());
    tell(storage->start({track().space.defaults(), "test", "", {}}));
    pause();
  });
  ASSERT_EQ(child.next(), 0);
  const auto mine = open_storage(database_.url, "study", track());
  mine->start({track().space.defaults(), "test", "", {}});
  for (const Trial& t : open_storage(database_.url, "study", track())->trials())
    EXPECT_EQ(t.state, TrialState::running);
  child.kill_now();
  const std::vector<Trial> trials = open_storage(database_.url, "study", track())->trials();
  EXPECT_EQ(trials[0].state, TrialState::failed);
  EXPECT_EQ(trials[1].state, TrialState::running);
  EXPECT_EQ(mine->trials()[0].state, TrialState::failed);
}

INSTANTIATE_TEST_SUITE_P(Every, Coordinators, testing::Values("sqlite", "postgres"),
                         [](const auto& kind) { return std::string(kind.param); });

TEST(Coordinator, IsGoneOnlyWhereThatIsCertain) {
  const Json me = this_coordinator();
  const auto with = [&](const char* key, const Json& value) {
    Json changed = me;
    changed[key] = value;
    return changed;
  };
  EXPECT_FALSE(is_gone(me));
  EXPECT_TRUE(is_gone(with("start", "1")));                        // its number was given to another
  EXPECT_EQ(is_gone(with("boot", "other")), me["machine"] != "");  // before the machine started anew
  EXPECT_TRUE(is_gone(with("pid", 0x7ffffffe)));
  EXPECT_FALSE(is_gone(with("host", "elsewhere")));
  EXPECT_FALSE(is_gone(with("pid_space", "pid:[1]")));
  EXPECT_FALSE(is_gone(with("boot", ""))) << "where nothing is known of the machine";
  Json twin = with("boot", "other");  // a machine of the same name, whose first space of process ids has our number
  twin["machine"] = "0123456789abcdef0123456789abcdef";
  EXPECT_FALSE(is_gone(twin));
  twin.erase("machine");  // as it was written before
  EXPECT_FALSE(is_gone(twin));
  for (const Json& foreign : {Json(), Json(3), Json::object(), Json({{"pid", "1"}})}) EXPECT_FALSE(is_gone(foreign));

  const TemporaryFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    write_file(folder / "child", this_coordinator().dump());
    _exit(0);
  }
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);  // dead, and nobody has taken note
  EXPECT_TRUE(is_gone(read_json(folder / "child")));
  waitpid(child, nullptr, 0);
}

// By /etc/machine-id: without one, or before it was made, nobody knows whether it was this machine before it started
// anew. Source: machine-id(5).
TEST(Coordinator, KnowsItsMachineByItsId) {
  const std::string id = "0123456789abcdef0123456789abcdef", other = "fedcba9876543210fedcba9876543210";
  const Json me = this_coordinator();
  /// Whether one of the machine `theirs` is gone, before this one, of the machine `ours`, was started.
  const auto gone = [&](const std::string& ours, const std::string& theirs) {
    const TemporaryFolder root;
    std::filesystem::create_directories(root / "proc/self/ns");
    std::filesystem::create_directories(root / "proc/sys/kernel/random");
    std::filesystem::create_directories(root / "etc");
    std::filesystem::create_symlink(me["pid_space"].get<std::string>(), root / "proc/self/ns/pid");
    write_file(root / "proc/sys/kernel/random/boot_id", "a later boot\n");
    if (!ours.empty()) write_file(root / "etc/machine-id", ours + "\n");
    return in_process([&] {
      if (chroot(root.path().c_str()) != 0) return 77;
      Json before = me;
      before["machine"] = theirs;
      return is_gone(before) ? 43 : 42;
    });
  };
  if (gone(id, id) == 77) GTEST_SKIP() << "only root may change the root folder";
  EXPECT_EQ(gone(id, id), 43);
  EXPECT_EQ(gone(id, other), 42);
  EXPECT_EQ(gone("", ""), 42);
  EXPECT_EQ(gone("", id), 42);
  EXPECT_EQ(gone("uninitialized", "uninitialized"), 42);
}

// As under hidepid: /proc tells where we are, but shows no process.
TEST(Coordinator, IsNotGoneWhereItsProcessIsHidden) {
  const TemporaryFolder root;
  const Json me = this_coordinator();
  std::filesystem::create_directories(root / "proc/self/ns");
  std::filesystem::create_directories(root / "proc/sys/kernel/random");
  std::filesystem::create_symlink(me["pid_space"].get<std::string>(), root / "proc/self/ns/pid");
  write_file(root / "proc/sys/kernel/random/boot_id", me["boot"].get<std::string>() + "\n");
  std::filesystem::permissions(root.path(), std::filesystem::perms(0755));
  const auto look = [&] {
    // As another user: nobody.
    if (chroot(root.path().c_str()) != 0 || setgid(65534) != 0 || setuid(65534) != 0) return 77;
    Json other = me;
    other["pid"] = 0x7ffffffe;
    return is_gone(me) ? 1 : !is_gone(other) ? 2 : 42;
  };
  const int result = in_process(look);
  if (result == 77) GTEST_SKIP() << "only root may change the root folder";
  EXPECT_EQ(result, 42);
}

}  // namespace
}  // namespace haqa
