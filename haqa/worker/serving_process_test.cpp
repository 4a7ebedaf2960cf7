#include "haqa/worker/serving_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/worker/piped_process.h"
#include "haqa/worker/process_test_support.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// The lines of an answer, up to "end".
std::vector<std::string> ask(ServingProcess& program, const std::string& request) {
  std::vector<std::string> lines;
  const auto ended = program.ask(request, [&](std::string_view line) {
    lines.emplace_back(line);
    return line == "end";
  });
  if (ended) lines.push_back(ended->describe());
  return lines;
}

// "exit" ends it without an answer, "last" after it; $n counts the requests of one process.
constexpr const char* kServe =
    "n=0; while read -r line; do n=$((n+1)); case $line in exit) echo error: asked to >&2; exit 3;; hang) sleep 100;; "
    "esac; echo $n $line; echo end; if [ \"$line\" = last ]; then exit 0; fi; done";

TEST(ServingProcess, AnswersAndIsStartedAnewWhereItEnded) {
  ServingProcess program(shell(kServe));
  EXPECT_THAT(ask(program, "a"), ElementsAre("1 a", "end"));
  EXPECT_THAT(ask(program, "b"), ElementsAre("2 b", "end"));
  EXPECT_THAT(ask(program, std::string(100000, 'c')), ElementsAre("3 " + std::string(100000, 'c'), "end"));
  EXPECT_THAT(ask(program, "exit"), ElementsAre("exit status 3: error: asked to"));
  EXPECT_THAT(ask(program, "last"), ElementsAre("1 last", "end"));
  EXPECT_THAT(ask(program, "a"), ElementsAre("1 a", "end")) << "it ended with its answer, and no request failed";
}

TEST(ServingProcess, EachRequestHasItsTime) {
  Command c = shell(kServe);
  c.timeout_s = 2;
  ServingProcess program(c);
  EXPECT_THAT(ask(program, "a"), ElementsAre("1 a", "end"));
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  EXPECT_THAT(ask(program, "b"), ElementsAre("2 b", "end")) << "idle time is not counted";
  EXPECT_THAT(ask(program, "hang"), ElementsAre(HasSubstr("no result after")));
  EXPECT_THAT(ask(program, "a"), ElementsAre("1 a", "end"));
}

TEST(ServingProcess, WhatComesAfterAnAnswerIsNoPartOfTheNext) {
  const TemporaryFolder folder;
  const std::string said = folder / "said";
  ServingProcess program(
      shell("while read -r line; do echo $line; echo end; echo stale; echo end; echo 1 >> " + said + "; done"));
  for (size_t i = 1; i <= 3; ++i) {
    EXPECT_THAT(ask(program, std::to_string(i)), ElementsAre(std::to_string(i), "end"));
    ASSERT_EQ(numbers_in(said, i).size(), i);
  }
}

TEST(ServingProcess, WhatItSaidAtItsStartIsPartOfTheFirst) {
  const Command command = shell("echo starting; echo no such data >&2; exit 3");
  PipedProcess program(command, true);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // until it has said all
  std::vector<std::string> lines;
  const bool answered = false;
  const auto ended = program.exchange(
      "a\n", [&](std::string_view line) { lines.emplace_back(line); }, answered);
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->describe(), "exit status 3: no such data");
  EXPECT_THAT(lines, ElementsAre("starting"));
}

// The first request is answered; `rest` is what comes then. Each start is noted.
class ThatEnds : public testing::Test {
 protected:
  ServingProcess program(const std::string& rest) const {
    return ServingProcess(shell("echo $$ >> " + starts_ + "; read a; echo $a; echo end; " + rest));
  }
  const TemporaryFolder folder_;
  const std::string starts_ = folder_ / "starts";
};

TEST_F(ThatEnds, WithAFailureIsNotAskedAgain) {
  ServingProcess p = program("read b; exit 3");
  EXPECT_THAT(ask(p, "1"), ElementsAre("1", "end"));
  EXPECT_THAT(ask(p, "2"), ElementsAre("exit status 3"));
  EXPECT_EQ(numbers_in(starts_, 1).size(), 1u);
}

TEST_F(ThatEnds, WithNothingWrongIsStartedAnew) {
  ServingProcess p = program("read b; exit 0");
  EXPECT_THAT(ask(p, "1"), ElementsAre("1", "end"));
  EXPECT_THAT(ask(p, "2"), ElementsAre("2", "end"));
  EXPECT_EQ(numbers_in(starts_, 2).size(), 2u);
}

TEST_F(ThatEnds, WhileIdleFailsNoRequest) {
  ServingProcess p = program("exit 3");
  for (size_t i = 1; i <= 3; ++i) {
    EXPECT_THAT(ask(p, std::to_string(i)), ElementsAre(std::to_string(i), "end"));
    ASSERT_TRUE(gone_soon(numbers_in(starts_, i).back()));
  }
}

TEST(ServingProcess, OutlivesTheThreadThatStartedIt) {
  ServingProcess program(shell(kServe));
  for (const char* request : {"1", "2", "3"})
    in_thread_that_ends([&] { EXPECT_THAT(ask(program, "a"), ElementsAre(std::string(request) + " a", "end")); });
}

TEST(ServingProcess, WhatTheListenerThrowsEndsIt) {
  ServingProcess program(shell("while read -r line; do echo $$; sleep 100; done"));
  pid_t pid = 0;
  const auto refuse = [&](std::string_view line) -> bool {
    pid = std::stoi(std::string(line));
    throw std::runtime_error("enough");
  };
  EXPECT_THROW(program.ask("a", refuse), std::runtime_error);
  EXPECT_TRUE(gone_soon(pid));
  EXPECT_THROW(ServingProcess(Command{{"/no/such/program"}}).ask("a", refuse), Error);
}

}  // namespace
}  // namespace haqa
