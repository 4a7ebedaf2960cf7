#include "haqa/report/run_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "haqa/base/error.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class RunLogTest : public testing::Test {
 protected:
  RunLogTest() {
    std::string name = (fs::temp_directory_path() / "haqa-log-XXXXXX").string();
    folder_ = fs::path(mkdtemp(name.data())) / "run";
  }
  ~RunLogTest() override { fs::remove_all(folder_.parent_path()); }
  fs::path folder_;
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
    t.configuration = Json::object();
    t.value = 1.5;
    log.add_trial(t);
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

TEST_F(RunLogTest, WorkThatThrowsIsNotRecorded) {
  RunLog log = RunLog::create(folder_);
  EXPECT_THROW(log.once("x", []() -> Json { throw Error("no"); }), Error);
  EXPECT_EQ(log.once("x", [] { return Json("yes"); }), "yes");
}

TEST_F(RunLogTest, RefusesWhatWouldDoHarm) {
  EXPECT_THROW(RunLog::resume(folder_), Error);
  {
    RunLog log = RunLog::create(folder_);
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
  EXPECT_THROW(read_summary(folder_), Error);
}

}  // namespace
}  // namespace haqa
