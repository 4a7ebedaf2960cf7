// haqa tune on studies that are kept: killed and gone on with, shared by processes and with Optuna.
#include <signal.h>

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/storage/storage.h"
#include "tests/program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

class TuneStorageTest : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name) << content;
    return folder_ / name;
  }
  /// 1 - x * x, printed after the shell's commands `first`.
  Command tune(std::vector<std::string> more, const std::string& first = ":") const {
    Command command{{HAQA_BIN_DIR "/haqa", "tune", "--space",
                     write("space.yaml", "x: {type: float, low: -1, high: 1, default: 0.9}\n"), "--command",
                     first + "; awk -v x={x} 'BEGIN {{print \"v=\" 1 - x * x}}'", "--metric", "v=(.*)", "--direction",
                     "maximize"}};
    for (const auto& [name, value] : {std::pair<std::string, std::string>("--storage", url_), {"--sampler", "random"}})
      if (std::find(more.begin(), more.end(), name) == more.end()) more.insert(more.end(), {name, value});
    command.argv.insert(command.argv.end(), more.begin(), more.end());
    command.environment = {{"HAQA_CACHE", (folder_ / "cache").string()}, {"OPENAI_API_KEY", ""}};
    command.timeout_s = 120;
    return command;
  }
  std::vector<Trial> trials(const std::string& study) const { return read_study(url_, study).trials; }
  int finished(const std::string& study) const {
    try {
      const std::vector<Trial> all = trials(study);
      return static_cast<int>(
          std::count_if(all.begin(), all.end(), [](const Trial& t) { return t.state == TrialState::complete; }));
    } catch (const Error&) {
      return 0;  // not there yet
    }
  }

  const TemporaryFolder folder_;
  const std::string url_ = "sqlite:///" + (folder_ / "studies.db").string();
};

TEST_F(TuneStorageTest, WhateverItsNameAStudysFolderIsWithinRuns) {
  fs::create_directory(folder_ / "victim");
  fs::create_directory(folder_ / "work");
  write("victim/transcript.jsonl", "another's\n");
  for (const char* name : {"../../victim", "a/b/c", "..", "plain-1.0"}) {
    Command command = tune({"--study", name, "--sampler", "agent", "--rounds", "1"});
    command.argv.insert(command.argv.begin(),
                        {"/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", (folder_ / "work").string()});
    const ProcessResult r = run_process(command);
    EXPECT_TRUE(r.ok()) << r.errors;
    EXPECT_EQ(trials(name).size(), 1u) << "its name stays";
  }
  EXPECT_EQ(read_file(folder_ / "victim" / "transcript.jsonl"), "another's\n");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "victim"), {}), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "work"), {}), 1);
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "work" / "runs"))
    if (entry.is_directory()) names.push_back(fs::relative(entry, folder_ / "work" / "runs"));
  EXPECT_THAT(names, testing::UnorderedElementsAre(testing::StartsWith("_._.._victim-"), testing::StartsWith("a_b_c-"),
                                                   testing::StartsWith("_.-"), "plain-1.0"));
}

TEST_F(TuneStorageTest, AnotherSpaceUnderTheSameName) {
  const auto run = [&](const std::string& space, const std::string& echo, const char* rounds) {
    return run_process({{HAQA_BIN_DIR "/haqa", "tune", "--space", write("other.yaml", space), "--command", echo,
                         "--metric", "v=(\\S+)", "--direction", "minimize", "--storage", url_, "--study", "same",
                         "--sampler", "random", "--rounds", rounds}});
  };
  ASSERT_TRUE(run("x: {type: float, low: -5, high: 5, default: 4}\n", "echo v={x}", "4").ok());
  const std::string y = "y: {type: float, low: 0, high: 1}\n";
  const ProcessResult none_shared = run(y, "echo v={y}", "6");
  EXPECT_EQ(none_shared.code, 1);
  EXPECT_THAT(none_shared.errors, HasSubstr("has no parameter of this search space but x; take another study name"));
  // All values of x beyond: only what this command ran counts, beginning with the defaults.
  const ProcessResult beyond = run("x: {type: float, low: 100, high: 200, default: 150}\n", "echo v={x}", "6");
  EXPECT_THAT(beyond.errors, HasSubstr("4 of its trials ran in another search space"));
  EXPECT_THAT(beyond.output, AllOf(HasSubstr("Best: v 1"), HasSubstr("the defaults: 150")));
  // What lacks y is filled in, which is no trial of x = 4 and y = 0.5.
  const ProcessResult filled = run("x: {type: float, low: -5, high: 5, default: 4}\n" + y, "echo v=1{x} {y}", "6");
  EXPECT_EQ(filled.code, 1);
  EXPECT_THAT(filled.errors, HasSubstr("it ran in another search space; give more --rounds"));
  EXPECT_EQ(filled.output, "");
}

TEST_F(TuneStorageTest, OnlyUtf8EntersADatabase) {
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--study", "caf\xe9"}, {"--metric", "\xe9v:minimize=v=(.*)"}, {"--study=\xff"}}) {
    const ProcessResult r = run_process(tune(more));
    EXPECT_EQ(r.code, 2) << more.back();
    EXPECT_THAT(r.errors, HasSubstr("is no UTF-8"));
  }
  EXPECT_FALSE(fs::exists(folder_ / "studies.db"));
  // A file may be called as it is; the study named after it is not.
  Command command = tune({"--rounds", "1", "--json"});
  command.argv[3] = write("caf\xe9.yaml", "x: {type: float, low: -1, high: 1}\n");
  const ProcessResult r = run_process(command);
  EXPECT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(Json::parse(r.output)["study"].get<std::string>(), testing::StartsWith("caf\uFFFD-"));
}

// As Optuna's column does; each of these has two bytes.
TEST_F(TuneStorageTest, ANamesLengthCountsCharacters) {
  const auto named = [](int characters) {
    std::string name;
    for (int i = 0; i < characters; ++i) name += "\u00e9";
    return name;
  };
  EXPECT_TRUE(run_process(tune({"--rounds", "1", "--study", named(512)})).ok());
  const ProcessResult r = run_process(tune({"--rounds", "1", "--study", named(513)}));
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.errors, HasSubstr("1 to 512 characters"));
}

TEST_F(TuneStorageTest, KilledItGoesOn) {
  // The fourth trial does not end.
  const std::string begun = (folder_ / "begun").string();
  const std::string hangs = "echo $$ >> " + begun + "; [ $(wc -l < " + begun + ") -lt 4 ] || sleep 1000";
  std::vector<Trial> before;
  {
    BackgroundProcess first(tune({"--study", "s", "--rounds", "8"}, hangs), folder_ / "log");
    const std::vector<pid_t> pids = numbers_in(begun, 4);
    ASSERT_EQ(pids.size(), 4u) << read_file(folder_ / "log");
    first.signal(SIGKILL);
    ASSERT_TRUE(wait_until([&] { return !first.running(); }));
    EXPECT_TRUE(gone_soon(pids.back()));
    before = trials("s");
  }
  ASSERT_EQ(finished("s"), 3);
  const ProcessResult second = run_process(tune({"--study", "s", "--rounds", "8"}));
  ASSERT_TRUE(second.ok()) << second.errors;
  EXPECT_THAT(second.errors, HasSubstr("going on with study s: "));
  const std::vector<Trial> after = trials("s");
  for (const Trial& t : before)
    if (t.state == TrialState::complete) {
      EXPECT_EQ(to_json(after[static_cast<size_t>(t.number)]), to_json(t)) << "a finished trial changed";
    }
  size_t lost = 0;
  for (const Trial& t : after) {
    if (t.state == TrialState::complete) continue;
    ++lost;
    EXPECT_EQ(t.reason, FailReason::interrupted);
  }
  EXPECT_EQ(lost, 1u) << "only the one that ran when it was killed";
  ASSERT_EQ(after.size(), 8u + lost) << "its round is made up for";
  const ProcessResult third = run_process(tune({"--study", "s", "--rounds", "8", "--json", "--quiet"}));
  EXPECT_EQ(Json::parse(third.output)["trials"].size(), after.size());
  EXPECT_EQ(trials("s").size(), after.size()) << "nothing is left to do";
}

TEST_F(TuneStorageTest, TwoProcessesShareAStudy) {
  // Neither goes on before the other has begun a trial.
  const auto meets = [&](const std::string& me, const std::string& whom) {
    return "touch " + (folder_ / me).string() + "; until [ -e " + (folder_ / whom).string() + " ]; do sleep 0.05; done";
  };
  {
    BackgroundProcess other(tune({"--study", "s", "--rounds", "10", "--seed", "2"}, meets("b", "a")), folder_ / "log");
    const ProcessResult one = run_process(tune({"--study", "s", "--rounds", "10"}, meets("a", "b")));
    EXPECT_TRUE(one.ok()) << one.errors;
    ASSERT_TRUE(wait_until([&] { return !other.running(); }));
  }
  const std::vector<Trial> all = trials("s");
  EXPECT_GE(all.size(), 10u);
  EXPECT_LE(all.size(), 11u) << "each may begin the last one";
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].number, i);
    EXPECT_EQ(all[i].state, TrialState::complete);
  }
}

TEST_F(TuneStorageTest, TheDefaultIsAFileHere) {
  Command command = tune({"--rounds", "2", "--quiet"});
  const auto at = std::find(command.argv.begin(), command.argv.end(), "--storage");
  command.argv.erase(at, at + 2);
  std::string line = "cd " + folder_.path().string() + " && exec \"$@\"";
  command.argv.insert(command.argv.begin(), {"/bin/sh", "-c", line, "sh"});
  const ProcessResult r = run_process(command);
  ASSERT_TRUE(r.ok()) << r.errors;
  const size_t name = r.output.find("space-");
  ASSERT_NE(name, std::string::npos) << r.output;
  const std::string study = r.output.substr(name, std::string("space-12345678").size());
  EXPECT_THAT(r.output, HasSubstr("Study: " + study));
  EXPECT_EQ(read_study("sqlite:///" + (folder_ / "haqa.db").string(), study).trials.size(), 2u);
}

TEST_F(TuneStorageTest, BeginsWithTheBestOfAnEarlierStudy) {
  ASSERT_TRUE(run_process(tune({"--study", "old", "--rounds", "8"})).ok());
  const std::vector<Trial> old = trials("old");
  const Trial best = *best_trial(old, Direction::maximize);
  for (const std::string& where : {std::string("old"), url_ + "#old"}) {
    const ProcessResult r = run_process(
        tune({"--study", "new-" + std::to_string(where.size()), "--rounds", "5", "--json", "--warm-start", where}));
    ASSERT_TRUE(r.ok()) << r.errors;
    const Json all = Json::parse(r.output)["trials"];
    EXPECT_EQ(all[0]["proposed_by"], "default");
    EXPECT_EQ(all[1]["configuration"], best.configuration);
    for (const int i : {1, 2, 3}) EXPECT_EQ(all[i]["proposed_by"], "warm start: old");
    EXPECT_EQ(all[4]["proposed_by"], "random");
  }
  EXPECT_THAT(run_process(tune({"--warm-start", "none"})).errors, HasSubstr("no study \"none\""));
}

TEST_F(TuneStorageTest, NeverShowsAPassword) {
  ASSERT_TRUE(run_process(tune({"--study", "old", "--rounds", "1"})).ok());
  write("other.yaml", "y: {type: float, low: 0, high: 1}\n");
  for (const char* url : {"?password=SECRET", ""}) {
    Command command = tune({"--warm-start", url_ + url + "#old"});
    *std::find(command.argv.begin(), command.argv.end(), (folder_ / "space.yaml").string()) = folder_ / "other.yaml";
    for (std::string& word : command.argv)
      if (word.find("awk") != std::string::npos) word = "echo v={y}";
    const ProcessResult r = run_process(command);
    EXPECT_EQ(r.code, 1);
    EXPECT_THAT(r.errors, AllOf(HasSubstr("no trial of study \"old\" fits the search space"), Not(HasSubstr("SECRET")),
                                Not(HasSubstr("sqlite:"))));
  }
}

// What an earlier study found says nothing of what this command is.
TEST_F(TuneStorageTest, PriorsDoNotHeedWhatEarlierStudiesFound) {
  write("trainer.yaml",
        "optimizer: {type: categorical, choices: [sgd, adam], default: sgd}\n"
        "learning_rate: {type: float, low: 1e-5, high: 1, log: true, default: 0.01}\n");
  const auto run = [&](std::vector<std::string> more) {
    Command command = tune(std::move(more));
    *std::find(command.argv.begin(), command.argv.end(), (folder_ / "space.yaml").string()) = folder_ / "trainer.yaml";
    for (std::string& word : command.argv)
      if (word.find("awk") != std::string::npos) word = "echo {optimizer} v={learning_rate}";
    return run_process(command);
  };
  ASSERT_TRUE(run({"--study", "finetune-adam", "--rounds", "4", "--sampler", "random"}).ok());
  const auto proposed = [&](const std::string& study, const std::string& sampler, std::vector<std::string> more) {
    more.insert(more.end(),
                {"--study", study, "--rounds", "6", "--sampler", sampler, "--json", "--output", folder_ / study});
    const ProcessResult r = run(std::move(more));
    EXPECT_TRUE(r.ok()) << r.errors;
    std::string thoughts;
    const Json trials = Json::parse(r.output)["trials"];
    EXPECT_EQ(trials.size(), 6u);
    for (const Json& t : trials) thoughts += t["thought"].get<std::string>() + "\n";
    return thoughts;
  };
  for (const char* sampler : {"expert", "agent", "hybrid"}) {
    const std::string warm = proposed(std::string("warm-") + sampler, sampler, {"--warm-start", "finetune-adam"});
    EXPECT_THAT(warm, Not(AnyOf(HasSubstr("Kingma"), HasSubstr("Devlin")))) << sampler;
  }
}

/// A transcript with the agent's answers, 100 tokens in and 10 out each.
std::string answers(const std::vector<double>& xs) {
  std::string lines;
  for (const double x : xs)
    lines += to_line({{"reply", "Thought: next.\nAction: " + to_line({{"x", x}})},
                      {"prompt_tokens", 100},
                      {"completion_tokens", 10}}) +
             "\n";
  return lines;
}

TEST_F(TuneStorageTest, TheAgentAnswersAndItsTokensAreCounted) {
  const std::string transcript = write("answers.jsonl", answers({0.5, 0.25, 0, 0.125}));
  const auto run = [&](const std::string& rounds) {
    return run_process(tune({"--sampler", "agent", "--replay", transcript, "--study", "s", "--output", folder_ / "out",
                             "--rounds", rounds, "--json", "--max-tokens", "300"}));
  };
  const ProcessResult first = run("2");  // and gone on with: neither asks nor counts anew
  ASSERT_TRUE(first.ok()) << first.errors;
  const ProcessResult r = run("9");
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json json = Json::parse(r.output);
  EXPECT_EQ(json["stopped"], "the tokens are used up");
  std::vector<double> tried;
  for (const Json& t : json["trials"]) tried.push_back(t["configuration"]["x"]);
  EXPECT_EQ(tried, (std::vector<double>{0.9, 0.5, 0.25, 0})) << "three answers take 330 tokens";
  EXPECT_TRUE(fs::exists(folder_ / "out" / "study.html"));
}

std::vector<double> tried(const ProcessResult& r) {
  std::vector<double> xs;
  if (!r.ok()) ADD_FAILURE() << r.errors;
  const Json trials = r.ok() ? Json::parse(r.output)["trials"] : Json::array();
  for (const Json& t : trials) xs.push_back(t["configuration"]["x"]);
  return xs;
}

// A new study has had no answer and spent no token, whatever another of its name did.
TEST_F(TuneStorageTest, ANewStudyAsksAnew) {
  const std::string transcript = write("answers.jsonl", answers({0.5, 0.25}));
  const fs::path out = folder_ / "out";
  const auto run = [&](const std::string& storage, const fs::path& replay) {
    return run_process(tune({"--sampler", "agent", "--replay", replay, "--study", "s", "--output", out, "--rounds", "3",
                             "--json", "--max-tokens", "230", "--storage", storage}));
  };
  const std::vector<double> all = {0.9, 0.5, 0.25};
  EXPECT_EQ(tried(run(url_, transcript)), all);
  write("out/answer-1.md", "of the former study");
  fs::remove(folder_ / "studies.db");
  EXPECT_EQ(tried(run(url_, transcript)), all) << "of a database that was deleted";
  EXPECT_FALSE(fs::exists(out / "answer-1.md"));
  EXPECT_EQ(tried(run("memory", transcript)), all);
  EXPECT_EQ(tried(run("memory", out / "transcript.jsonl")), all) << "its own transcript is moved, too";
  int former = 0;
  for (const auto& entry : fs::directory_iterator(out))
    former += entry.path().filename().string().starts_with("former-");
  EXPECT_EQ(former, 3) << "they are kept";

  const LineFile another(out / "transcript.jsonl");
  const ProcessResult second = run(url_, transcript);
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.errors,
              HasSubstr("another haqa is writing it; wait for that one or choose another folder by --output"));
}

TEST_F(TuneStorageTest, AnInterruptedTrialRunsNoMore) {
  {
    BackgroundProcess first(tune({"--study", "s"}, "sleep 0.5"), folder_ / "log");
    ASSERT_TRUE(wait_until([&] { return finished("s") >= 1 || !first.running(); }));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    first.signal(SIGINT);
    ASSERT_TRUE(wait_until([&] { return !first.running(); }));
  }
  const std::vector<Trial> all = trials("s");
  EXPECT_EQ(all.back().state, TrialState::failed) << "Optuna sees it as running else";
  EXPECT_EQ(all.back().reason, FailReason::interrupted);
  EXPECT_THAT(read_file(folder_ / "log"),
              HasSubstr("interrupted after " + std::to_string(all.size() - 1) + " of 10 rounds"));
  const ProcessResult second = run_process(tune({"--study", "s", "--rounds", "4"}));
  EXPECT_THAT(second.errors, HasSubstr(std::to_string(all.size() - 1) + " of 4 rounds are there"));
  EXPECT_EQ(trials("s").size(), std::max<size_t>(4, all.size() - 1) + 1);
}

// The first one runs the defaults; where it is lost, a later one does.
TEST_F(TuneStorageTest, TheDefaultsCountWhereTheyAreMeasured) {
  Track track;
  track.direction = Direction::maximize;
  track.space = SearchSpace({real_parameter("x", -1, 1, 0.9, "")});
  {
    const auto storage = open_storage(url_, "s", track);
    Trial lost = running_trial(storage->start({track.space.defaults(), "default", "", {}}), {track.space.defaults()});
    lost.state = TrialState::failed;
    lost.reason = FailReason::interrupted;
    storage->finish(lost);
  }
  const ProcessResult r = run_process(tune({"--study", "s", "--rounds", "2"}));
  EXPECT_THAT(r.output, AllOf(HasSubstr("the defaults: 0.19"), HasSubstr(" of 3; ")));
}

TEST_F(TuneStorageTest, AFullDiskEndsItWithWhatItHas) {
  ASSERT_TRUE(run_process(tune({"--study", "s", "--rounds", "2"})).ok());
  Command command = tune({"--study", "s", "--rounds", "1000"});
  // A limit of what a file may hold stands for the disk's; a block has 512 bytes.
  const std::string blocks = std::to_string(fs::file_size(folder_ / "studies.db") / 512 + 16);
  command.argv.insert(command.argv.begin(), {"/bin/sh", "-c", "ulimit -f " + blocks + "; exec \"$@\"", "sh"});
  const ProcessResult r = run_process(command);
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, HasSubstr("make room on the disk"));
  EXPECT_THAT(r.output, AllOf(HasSubstr("Best: v "), HasSubstr("Stopped: an error.")));
  const size_t before = trials("s").size();
  EXPECT_GE(before, 2u);
  const ProcessResult more = run_process(tune({"--study", "s", "--rounds", std::to_string(before + 2)}));
  EXPECT_TRUE(more.ok()) << more.errors;
  EXPECT_GE(trials("s").size(), before + 2);
}

TEST_F(TuneStorageTest, AnAgentThatCannotAnswerShowsBeforeTheFirstTrial) {
  const ProcessResult r =
      run_process(tune({"--sampler", "agent", "--agent", "openai", "--agent-model", "m", "--base-url",
                        "http://127.0.0.1:9/v1", "--study", "s", "--output", folder_ / "out"}));
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, HasSubstr("cannot be reached"));
  EXPECT_FALSE(fs::exists(folder_ / "studies.db")) << "no study was begun";
  EXPECT_EQ(run_process(tune({"--max-tokens", "5"})).code, 2) << "no agent, no tokens";
}

TEST_F(TuneStorageTest, RefusesAStudyOfOtherGoals) {
  ASSERT_TRUE(run_process(tune({"--study", "s", "--rounds", "1"})).ok());
  Command other = tune({"--study", "s"});
  *std::find(other.argv.begin(), other.argv.end(), "maximize") = "minimize";
  const ProcessResult r = run_process(other);
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, HasSubstr("take another name"));
  const ProcessResult unknown = run_process(tune({"--storage", "mysql://x"}));
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.errors, HasSubstr("use sqlite:///"));
}

}  // namespace
}  // namespace haqa
