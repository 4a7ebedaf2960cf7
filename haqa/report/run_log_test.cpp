#include "haqa/report/run_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class RunLogTest : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_ / "run";
};

TEST_F(RunLogTest, GoesOnWhereItStopped) {
  int worked = 0;
  const auto work = [&] { return Json(++worked); };
  {
    RunLog log = RunLog::create(folder_);
    EXPECT_FALSE(log.has_results());
    EXPECT_EQ(log.once("hardware", work), 1);
    EXPECT_FALSE(log.has_results()) << "a profile alone is quickly had again";
    EXPECT_EQ(log.once("hardware", work), 1);
    EXPECT_EQ(log.once("other", work), 2);
    EXPECT_TRUE(log.has_results());
    Trial t;
    t.number = 0;
    t.configuration = {{"threads", 2}};
    t.value = 1.5;
    log.finish(t);
    log.add_event("agent", {{"kind", "duplicate"}});
  }
  std::ofstream(folder_ / "log.jsonl", std::ios::app) << "{\"event\":\"step\",\"step\":\"cut o";
  RunLog log = RunLog::resume(folder_);
  EXPECT_EQ(log.once("other", work), 2);
  EXPECT_EQ(log.once("new", work), 3);
  ASSERT_EQ(log.trials().size(), 1u);
  EXPECT_EQ(log.trials()[0].value, 1.5);
  EXPECT_EQ(log.events("agent").at(0)["kind"], "duplicate");
}

TEST_F(RunLogTest, KeepsTheTrialsOfTracksApart) {
  const auto trial = [](int number, double value) {
    Trial t;
    t.number = number;
    t.configuration = {{"x", number}};
    t.value = value;
    return t;
  };
  {
    RunLog log = RunLog::create(folder_);
    TrackLog& beside = log.beside(kFinetuneTrack);
    EXPECT_FALSE(log.has_results()) << "a track without a trial is nothing to lose";
    EXPECT_EQ(beside.start({}), 0);
    beside.finish(trial(0, 0.5));
    EXPECT_TRUE(log.has_results());
    log.finish(trial(0, 1));
    EXPECT_EQ(beside.start({}), 1);
    beside.finish(trial(1, 0.75));
    EXPECT_EQ(log.finished().size(), 1u);
  }
  const Json unfinished = read_summary(folder_);
  EXPECT_EQ(unfinished["trials"].size(), 1u);
  EXPECT_EQ(unfinished["finetune"]["trials"].size(), 2u);
  RunLog log = RunLog::resume(folder_);
  ASSERT_EQ(log.beside(kFinetuneTrack).trials().size(), 2u);
  EXPECT_EQ(log.beside(kFinetuneTrack).trials()[1].value, 0.75);
  EXPECT_EQ(log.trials().size(), 1u);
  EXPECT_TRUE(log.beside("other").trials().empty());
}

TEST_F(RunLogTest, WorkThatThrowsIsNotRecorded) {
  RunLog log = RunLog::create(folder_);
  EXPECT_THROW(log.once("x", []() -> Json { throw Error("no"); }), Error);
  EXPECT_EQ(log.once("x", [] { return Json("yes"); }), "yes");
}

/// Runs `work` in a process of its own and returns how it ended, as waitpid() tells it.
int in_child(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      work();
    } catch (const Error&) {
      _exit(3);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST_F(RunLogTest, GoesOnAfterKillMinus9) {
  const int status = in_child([&] {
    RunLog log = RunLog::create(folder_);
    log.once("finished", [] { return Json("first"); });
    Trial t;
    t.configuration = {{"threads", 2}};
    t.value = 2;
    log.finish(t);
    log.once("cut off", []() -> Json {
      raise(SIGKILL);
      return "never";
    });
  });
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  RunLog log = RunLog::resume(folder_);
  EXPECT_TRUE(log.has_results());
  ASSERT_EQ(log.trials().size(), 1u);
  EXPECT_EQ(log.once("finished", [] { return Json("again"); }), "first");
  EXPECT_EQ(log.once("cut off", [] { return Json("done now"); }), "done now");
}

TEST_F(RunLogTest, RefusesASecondProcess) {
  {
    RunLog log = RunLog::create(folder_);
    log.add_event("start", Json::object());
    const int status = in_child([&] { RunLog::resume(folder_); });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    log.add_event("still", Json::object());
  }
  EXPECT_EQ(RunLog::resume(folder_).events("still").size(), 1u) << "the refused one changed nothing";
}

TEST_F(RunLogTest, EventsHaveTheSameTimeInMemoryAndOnDisk) {
  std::string time;
  {
    RunLog log = RunLog::create(folder_);
    log.add_event("start", {{"command", "haqa run"}});
    time = log.events("start").at(0).value("time", "");
    EXPECT_THAT(time, testing::MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"));
  }
  EXPECT_EQ(RunLog::resume(folder_).events("start").at(0).value("time", ""), time);
}

TEST_F(RunLogTest, NamesTheDamagedLine) {
  RunLog::create(folder_);
  for (const char* line : {"rubbish", "[]", "{}", R"({"event":1})", R"({"event":"step","step":"x"})",
                           R"({"event":"step","step":1,"result":1})", R"({"event":"trial"})",
                           R"({"event":"trial","trial":{"number":0}})", ""}) {
    std::ofstream(folder_ / "log.jsonl") << "{\"event\":\"start\"}\n" << line << "\n{\"event\":\"end\"}\n";
    try {
      RunLog::resume(folder_);
      ADD_FAILURE() << line;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("log.jsonl:2: is damaged")) << line;
    }
  }
}

TEST_F(RunLogTest, KilledBeforeItBeganItIsBegunAnew) {
  RunLog::create(folder_);
  EXPECT_THROW(RunLog::resume(folder_), Error) << "there is nothing to go on with";
  EXPECT_NO_THROW(RunLog::create(folder_));
  std::ofstream(folder_ / "other") << "of the user";
  EXPECT_THROW(RunLog::create(folder_), Error);
}

TEST_F(RunLogTest, SecondsAddUpOverItsParts) {
  double before = 0;
  {
    RunLog log = RunLog::create(folder_);
    usleep(20'000);
    log.add_event("start", Json::object());
    before = log.seconds();
    EXPECT_NEAR(log.events("start")[0]["seconds"], before, 0.01);
  }
  usleep(50'000);
  const double after = RunLog::resume(folder_).seconds();
  EXPECT_GE(after, 0.02);
  EXPECT_LT(after, before + 0.03) << "the pause between does not count";
}

TEST_F(RunLogTest, AnUnfinishedRunIsReadAsFarAsItCame) {
  RunLog log = RunLog::create(folder_);
  log.add_event("start", {{"task", {{"prompt_tokens", 128}}}});
  log.once("hardware", [] { return Json{{"name", "cpu"}}; });
  log.once("other", [] { return Json(1); });
  Trial t;
  t.configuration = {{"threads", 2}};
  t.value = 1;
  log.finish(t);
  log.add_event("agent", {{"kind", "duplicate"}});
  std::ofstream(folder_ / "log.jsonl", std::ios::app)
      << "{\"event\":1}\n{\"event\":\"step\",\"step\":2}\n[]\n{\"event\":\"tri";
  const Json summary = read_summary(folder_);
  EXPECT_TRUE(summary["unfinished"]);
  EXPECT_EQ(summary["task"]["prompt_tokens"], 128);
  EXPECT_EQ(summary["hardware"]["name"], "cpu");
  EXPECT_EQ(summary["trials"].size(), 1u);
  EXPECT_EQ(summary["agent_events"][0]["kind"], "duplicate");
}

TEST_F(RunLogTest, RefusesWhatWouldDoHarm) {
  EXPECT_THROW(RunLog::resume(folder_), Error);
  {
    RunLog log = RunLog::create(folder_);
    log.add_event("start", Json::object());
    EXPECT_THROW(RunLog::resume(folder_), Error) << "another process works on it";
  }
  EXPECT_THROW(RunLog::create(folder_), Error) << "holds a run already";
  std::ofstream(folder_ / "log.jsonl") << "{\"event\":\"start\"}\nrubbish\n";
  try {
    RunLog::resume(folder_);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("log.jsonl:2"));
  }
  EXPECT_THROW(read_summary(temporary_ / "nothing"), Error);
}

}  // namespace
}  // namespace haqa
