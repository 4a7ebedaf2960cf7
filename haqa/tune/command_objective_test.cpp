#include "haqa/tune/command_objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/sampler/registry.h"
#include "haqa/study/pruner.h"
#include "haqa/worker/process_test_support.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

SearchSpace space() {
  return SearchSpace({real_parameter("x", 0, 1, 0.5, ""), categorical_parameter("kind", {"a", "b"}, "a", "")});
}
const Configuration kHalf = {{"x", 0.5}, {"kind", "a"}};

CommandOptions options(const std::string& command, const std::string& metric = "value=(\\S+)") {
  CommandOptions o;
  o.command = command;
  o.metrics.emplace_back(metric, Direction::maximize);
  return o;
}

Outcome evaluate(const CommandOptions& o, const Report& report = {}) {
  return CommandObjective(space(), o).evaluate(kHalf, report);
}

TEST(CommandObjective, ValueAndConfiguration) {
  CommandOptions o = options("echo value={x}");
  EXPECT_EQ(evaluate(o).value, 0.5);
  o = options("echo \"$HAQA_CONFIGURATION\" $EXTRA; cat {file}", "json:x");
  o.environment = {{"EXTRA", "{\"x\": 7}"}};
  EXPECT_EQ(evaluate(o).value, 0.5);
  o = options("printf %s \"$EXTRA\"", "json:x");
  o.environment = {{"EXTRA", "{\"x\": 7}"}};
  EXPECT_EQ(evaluate(o).value, 7);
  o = options("echo '{{\"x\": {x}}}' > {folder}/out.json", "file:{folder}/out.json:x");
  EXPECT_EQ(evaluate(o).value, 0.5);
  o = options("echo a=1 b=2", "a=(\\d)");
  o.metrics.emplace_back("b:minimize=b=(\\d)", std::nullopt);
  const Outcome two = evaluate(o);
  EXPECT_EQ(two.value, 1);
  EXPECT_THAT(two.more_values, ElementsAre(2));
  o.metrics.emplace_back("c=(\\d)", Direction::maximize);
  EXPECT_EQ(evaluate(o).value, std::nullopt) << "one of them is missing";
}

TEST(CommandObjective, WhatGoesWrongIsTheTrialsOutcome) {
  const struct {
    std::string command;
    FailReason reason;
    std::string message, output;
  } cases[] = {
      {"true", FailReason::wrong_result, "it printed nothing", ""},
      {"echo value=nan", FailReason::wrong_result, "value is nan, not a finite number", "value=nan"},
      {"echo loss=1", FailReason::wrong_result, "nothing matches", "loss=1"},
      {"echo value=1; exit 3", FailReason::crashed, "exit status 3: value=1", "value=1"},
      {"echo a; echo error: no such data >&2; exit 1", FailReason::crashed, "exit status 1: error: no such data",
       "a\nerror"},
      {"exit 4", FailReason::crashed, "exit status 4; it printed nothing", ""},
      {"kill -SEGV $$", FailReason::crashed, "ended by SIGSEGV (Segmentation fault)", ""},
      {"sh -c 'kill -ABRT $$'; exit $?", FailReason::crashed, "ended by SIGABRT (Aborted)", ""},
      {"kill -KILL $$", FailReason::out_of_memory, "ended by SIGKILL (Killed), most likely for want of memory", ""},
      {"exit 137", FailReason::out_of_memory, "ended by SIGKILL", ""},
      {"echo 'RuntimeError: CUDA out of memory. Tried to allocate 2 GiB' >&2; exit 1", FailReason::out_of_memory,
       "CUDA out of memory", "Tried"},
      {"echo \"terminate called after throwing an instance of 'std::bad_alloc'\" >&2; kill -ABRT $$",
       FailReason::out_of_memory, "SIGABRT", "bad_alloc"},
      {"python3 -c 'raise MemoryError'", FailReason::out_of_memory, "exit status 1: MemoryError", "Traceback"},
      {"/no/such/program", FailReason::crashed, "exit status 127: ", "not found"},
      {"echo '{{\"event\": \"error\", \"message\": \"bad data\"}}'; echo value=1", FailReason::crashed, "bad data", ""},
      {"printf 'value=\\377\\n'", FailReason::wrong_result, "which is no number", "value="},
  };
  for (const auto& c : cases) {
    const Outcome o = evaluate(options(c.command));
    EXPECT_EQ(o.value, std::nullopt) << c.command;
    EXPECT_EQ(o.reason, c.reason) << c.command << ": " << o.message;
    EXPECT_THAT(o.message, HasSubstr(c.message)) << c.command;
    EXPECT_THAT(o.message, Not(HasSubstr("\n"))) << c.command;
    EXPECT_THAT(o.metrics.value("output", ""), HasSubstr(c.output)) << c.command;
  }
}

// 1.4 MB without a line's end, and JSON in the same line.
TEST(CommandObjective, ABarOfProgressIsReadToItsEnd) {
  const std::string bar =
      "awk 'BEGIN {{ for (i = 0; i < 60000; i++) printf \"\\rstep %d value=%d.0 ....\", i, 60000 - i }}'";
  EXPECT_EQ(evaluate(options(bar)).value, 1);
  EXPECT_EQ(evaluate(options(bar + "; echo")).value, 1);
  EXPECT_EQ(evaluate(options(bar + "; echo '{{\"loss\": 0.25}}'", "json:loss")).value, 0.25);
  EXPECT_EQ(evaluate(options("awk 'BEGIN {{ for (i = 0; i < 300000; i++) printf \"%d \", i }}'; echo value=3")).value,
            3)
      << "of one line its last MiB";
}

TEST(CommandObjective, KeepsTheLastLines) {
  const Outcome o = evaluate(options("seq 100; exit 1"));
  EXPECT_EQ(o.metrics["output"], "91\n92\n93\n94\n95\n96\n97\n98\n99\n100\n");
}

// It ignores SIGTERM, and so does what it starts.
TEST(CommandObjective, ATimeOutLeavesNothingRunning) {
  const TemporaryFolder folder;
  const std::string pids = folder / "pids";
  CommandOptions o = options("trap '' TERM INT HUP; echo $$ >> " + pids +
                             "; for i in 1 2 3; do (trap '' TERM; echo value=1; exec sh -c 'echo $$ >> " + pids +
                             "; sleep 100; sleep 100') & done; wait; sleep 100");
  o.timeout_s = 3;
  const auto started = std::chrono::steady_clock::now();
  const Outcome outcome = evaluate(o);
  EXPECT_LE(std::chrono::steady_clock::now() - started, std::chrono::seconds(60));
  EXPECT_EQ(outcome.reason, FailReason::timed_out);
  EXPECT_THAT(outcome.message, HasSubstr("timed out"));
  const std::vector<pid_t> family = numbers_in(pids, 4);
  EXPECT_EQ(family.size(), 4u);
  for (const pid_t pid : family) EXPECT_TRUE(gone_soon(pid));
}

TEST(CommandObjective, MuchOutputDoesNotFillTheMemory) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps 256 MB of what was freed";
#endif
  // In a process of its own, whose peak of memory it is: 200 MB in lines, in one line, and on standard error.
  for (const char* command : {"yes 0123456789012345678901234567890123456789 | head -c 200000000; echo; echo value=3",
                              "head -c 200000000 /dev/zero | tr '\\0' x; echo; echo value=3",
                              "head -c 200000000 /dev/zero | tr '\\0' '{{'; echo; echo value=3",
                              "head -c 200000000 /dev/zero | tr '\\0' x >&2; echo value=3"}) {
    const pid_t pid = fork();
    if (pid == 0) {
      rusage before = {}, after = {};
      getrusage(RUSAGE_SELF, &before);
      const bool right = evaluate(options(command)).value == 3.0;
      getrusage(RUSAGE_SELF, &after);
      _exit(!right ? 1 : after.ru_maxrss - before.ru_maxrss > 30000 ? 2 : 0);  // KiB
    }
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 0) << command;
  }
}

TEST(CommandObjective, ReportsOnItsWayAndIsStopped) {
  const std::string lines =
      "echo '{{\"event\": \"intermediate\", \"step\": 1, \"value\": 0.25}}'; "
      "echo '{{\"event\": \"intermediate\", \"step\": 1, \"value\": 9}}'; "  // again: left out
      "echo '{{\"event\": \"intermediate\", \"step\": 4, \"value\": 0.5}}'; "
      "echo '{{\"event\": \"intermediate\", \"value\": 0.75}}'; "  // the next step
      "echo '{{\"event\": \"intermediate\", \"step\": 7, \"value\": \"high\"}}'; ";
  std::vector<Intermediate> seen;
  const auto keep = [&](int step, double value) {
    seen.push_back({step, value});
    return step < 5;
  };
  const TemporaryFolder folder;
  const std::string pid_file = folder / "pid";
  const auto started = std::chrono::steady_clock::now();
  const Outcome o =
      evaluate(options("sleep 100 & echo $! > " + pid_file + "; " + lines + "sleep 100; echo value=1"), keep);
  EXPECT_LE(std::chrono::steady_clock::now() - started, std::chrono::seconds(60));
  EXPECT_EQ(o.value, std::nullopt);
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[1].step, 4);
  EXPECT_EQ(seen[1].value, 0.5);
  EXPECT_EQ(seen[2].step, 5);
  EXPECT_TRUE(gone_soon(std::stoi(read_file(pid_file))));
  seen.clear();
  EXPECT_EQ(evaluate(options(lines + "echo value=1"), [&](int, double) { return true; }).value, 1);
}

TEST(CommandObjective, APrunedTrialIsKeptAsSuch) {
  // After the defaults, whatever is lower at step 1 is hopeless.
  const std::string program =
      "echo '{{\"event\": \"intermediate\", \"step\": 1, \"value\": {x}}}'; sleep 0.2; echo value={x}";
  CommandObjective objective(space(), options(program));
  Track track{"track", space(), Direction::maximize, "value", "", {}};
  const auto sampler = make_sampler("random", 1);
  MemoryStorage storage;
  const MedianPruner pruner(1);
  StudyOptions study;
  study.budget.rounds = 12;
  study.pruner = &pruner;
  run_study(std::array{StudyTrack{track, *sampler, objective, storage}}, study);
  int pruned = 0, complete = 0;
  for (const Trial& t : storage.trials()) {
    (t.state == TrialState::pruned ? pruned : complete) += 1;
    EXPECT_NE(t.state, TrialState::failed) << t.message;
    EXPECT_EQ(t.value, t.configuration["x"].get<double>());
  }
  EXPECT_GE(pruned, 1);
  EXPECT_GE(complete, 2);
}

TEST(CommandObjective, RefusesOptionsThatDoNotGoTogether) {
  CommandOptions o = options("./serve {x}");
  o.serves = true;
  EXPECT_THROW(CommandObjective(space(), o), UsageError);
  o = options("./train", "file:out.json:x");
  EXPECT_NO_THROW(CommandObjective(space(), o));
  o.workers = 2;
  EXPECT_THROW(CommandObjective(space(), o), UsageError);
  o.metrics.clear();
  EXPECT_THROW(CommandObjective(space(), o), UsageError);
}

/// A program that stays: a Python script of these lines, run for each request.
class Serving : public testing::Test {
 protected:
  CommandOptions serving(const std::string& body, double timeout_s = 20) {
    std::ofstream(folder_ / "serve.py") << "import json, os, sys, time\n"
                                           "def say(**m): print(json.dumps(m), flush=True)\n"
                                           "n = 0\n"
                                           "for line in sys.stdin:\n"
                                           "    n += 1\n"
                                           "    x = json.loads(line)['configuration']['x']\n" +
                                               body;
    CommandOptions o = options("exec python3 " + (folder_ / "serve.py").string(), "json:value");
    o.serves = true;
    o.timeout_s = timeout_s;
    return o;
  }
  static Configuration at(double x) { return {{"x", x}, {"kind", "a"}}; }
  const TemporaryFolder folder_;
};

TEST_F(Serving, OneProgramAnswersManyTrials) {
  CommandObjective objective(space(), serving("    print('noise')\n    say(event='result', value=x, n=n)\n"));
  for (int i = 1; i <= 5; ++i) EXPECT_EQ(objective.evaluate(at(0.1 * i)).value, 0.1 * i);
  CommandOptions counting = serving("    say(event='result', value=n)\n");
  CommandObjective counter(space(), counting);
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(counter.evaluate(at(0)).value, i) << "the same program";
}

TEST_F(Serving, HearsOfTheTrialsFolder) {
  CommandOptions o = serving(
      "    folder = json.loads(line)['folder']\n"
      "    assert json.load(open(folder + '/configuration.json')) == json.loads(line)['configuration']\n"
      "    json.dump({'value': x}, open(folder + '/out.json', 'w'))\n"
      "    say(event='result')\n");
  o.metrics = options("", "file:{folder}/out.json:value").metrics;
  o.workers = 2;
  CommandObjective objective(space(), o);
  for (int i = 1; i <= 3; ++i) {
    const Outcome outcome = objective.evaluate(at(0.1 * i));
    EXPECT_EQ(outcome.value, 0.1 * i) << outcome.message;
  }
}

TEST_F(Serving, StaysWhereTrialsRunInThreadsOfTheirOwn) {
  CommandObjective objective(space(), serving("    say(event='result', value=n)\n"));
  for (int i = 1; i <= 3; ++i) {
    Outcome o;
    in_thread_that_ends([&] { o = objective.evaluate(at(0)); });
    EXPECT_EQ(o.value, i) << o.message;
  }
}

TEST_F(Serving, OneThatEndsFailsItsTrialAndIsStartedAnew) {
  const struct {
    std::string body;
    FailReason reason;
    std::string message;
  } cases[] = {
      {"    sys.exit('error: no data') if x > 0.9 else say(event='result', value=n)\n", FailReason::crashed,
       "exit status 1: error: no data"},
      {"    sys.exit(0) if x > 0.9 else say(event='result', value=n)\n", FailReason::crashed, "before its result"},
      {"    os.kill(os.getpid(), 11) if x > 0.9 else say(event='result', value=n)\n", FailReason::crashed, "SIGSEGV"},
      {"    time.sleep(100 if x > 0.9 else 0); say(event='result', value=n)\n", FailReason::timed_out, "timed out"},
  };
  for (const auto& c : cases) {
    CommandObjective objective(space(), serving(c.body, c.reason == FailReason::timed_out ? 4 : 60));
    EXPECT_EQ(objective.evaluate(at(0)).value, 1);
    EXPECT_EQ(objective.evaluate(at(0)).value, 2);
    const Outcome o = objective.evaluate(at(1));
    EXPECT_EQ(o.reason, c.reason) << c.message;
    EXPECT_THAT(o.message, HasSubstr(c.message));
    EXPECT_EQ(objective.evaluate(at(0)).value, 1) << "anew after: " << c.message;
  }
}

TEST_F(Serving, ErrorsAndBadResultsFailTheTrialAlone) {
  CommandObjective objective(space(), serving("    if x > 0.9: say(event='error', message='CUDA out of memory')\n"
                                              "    elif x > 0.8: say(event='error', message='bad x')\n"
                                              "    elif x > 0.7: say(event='result', value=float('nan'))\n"
                                              "    elif x > 0.6: say(event='result')\n"
                                              "    else: say(event='result', value=n)\n"));
  EXPECT_EQ(objective.evaluate(at(0.95)).reason, FailReason::out_of_memory);
  EXPECT_EQ(objective.evaluate(at(0.85)).message, "bad x");
  EXPECT_THAT(objective.evaluate(at(0.75)).message, HasSubstr("not a finite number"));
  EXPECT_THAT(objective.evaluate(at(0.65)).message, HasSubstr("has \"value\""));
  EXPECT_EQ(objective.evaluate(at(0)).value, 5) << "the same program";
}

TEST_F(Serving, OneThatEndsAfterEachAnswerIsNoFailure) {
  CommandObjective objective(space(), serving("    say(event='result', value=x)\n    sys.exit(0)\n"));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(objective.evaluate(at(0.5)).value, 0.5);
}

TEST_F(Serving, IsStoppedWhereHopeless) {
  CommandObjective objective(space(), serving("    say(event='intermediate', step=1, value=x)\n"
                                              "    time.sleep(100 if x > 0.5 else 0)\n"
                                              "    say(event='result', value=n)\n"));
  const auto hopeless = [](int, double value) { return value <= 0.5; };
  EXPECT_EQ(objective.evaluate(at(0), hopeless).value, 1);
  const auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(objective.evaluate(at(1), hopeless).value, std::nullopt);
  EXPECT_LE(std::chrono::steady_clock::now() - started, std::chrono::seconds(60));
  EXPECT_EQ(objective.evaluate(at(0), hopeless).value, 1) << "anew";
}

// Several workers: each has a program of its own, and no more are started.
TEST_F(Serving, WorkersAskAtOnce) {
  CommandOptions o = serving("    time.sleep(0.05); say(event='result', value=os.getpid())\n");
  o.workers = 3;
  CommandObjective objective(space(), o);
  const Track track{"track", space(), Direction::maximize, "value", "", {}};
  const auto sampler = make_sampler("random", 1);
  MemoryStorage storage;
  StudyOptions study;
  study.budget.rounds = 30;
  study.workers = 3;
  run_study(std::array{StudyTrack{track, *sampler, objective, storage}}, study);
  std::set<double> programs;
  for (const Trial& t : storage.trials()) {
    ASSERT_EQ(t.state, TrialState::complete) << t.message;
    programs.insert(*t.value);
  }
  EXPECT_EQ(programs.size(), 3u);
}

TEST_F(Serving, EndsWithTheObjective) {
  pid_t pid = 0;
  {
    CommandObjective objective(space(), serving("    say(event='result', value=os.getpid())\n"));
    pid = static_cast<pid_t>(*objective.evaluate(at(0)).value);
    EXPECT_TRUE(alive(pid));
  }
  EXPECT_TRUE(gone_soon(pid));
}

}  // namespace
}  // namespace haqa
