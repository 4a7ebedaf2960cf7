// haqa tune as a user runs it.
#include <signal.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

bool noted_one_gone_soon(const fs::path& pid_file) {
  const std::vector<pid_t> pids = numbers_in(pid_file, 1);
  return !pids.empty() && gone_soon(pids.back());
}

class TuneTest : public testing::Test {
 protected:
  Command haqa(std::vector<std::string> arguments) const {
    Command command{{HAQA_BIN_DIR "/haqa", "tune"}};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    if (std::find(arguments.begin(), arguments.end(), "--storage") == arguments.end())
      command.argv.insert(command.argv.end(), {"--storage", "memory"});
    command.timeout_s = 120;
    return command;
  }
  ProcessResult run(std::vector<std::string> arguments) const { return run_process(haqa(std::move(arguments))); }
  Json json_of(std::vector<std::string> arguments, int status = 0) const {
    arguments.insert(arguments.end(), {"--json", "--quiet"});
    const ProcessResult r = run(std::move(arguments));
    EXPECT_EQ(r.code, status) << r.errors;
    return Json::parse(r.output);
  }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name) << content;
    return folder_ / name;
  }
  std::string space() const {
    return write("space.yaml",
                 "x: {type: float, low: -1, high: 1, default: 0.9}\n"
                 "kind: {type: categorical, choices: [plain, \"it's; touch x\"], default: plain}\n");
  }
  const TemporaryFolder folder_;
};

TEST_F(TuneTest, RandomSearchFindsBetterThanTheDefaults) {
  const std::string program =
      write("f.py", "import sys\nx = float(sys.argv[1])\nprint('score=%r' % (1 - x * x), sys.argv[2])\n");
  const std::vector<std::string> arguments = {"--space",     space(),
                                              "--command",   "python3 " + program + " {x} {kind}",
                                              "--metric",    "score=(\\S+)",
                                              "--direction", "maximize",
                                              "--rounds",    "12",
                                              "--sampler",   "random",
                                              "--seed",      "3"};
  const Json result = json_of(arguments);
  EXPECT_EQ(result["trials"].size(), 12u);
  EXPECT_EQ(result["trials"][0]["proposed_by"], "default");
  EXPECT_NEAR(result["trials"][0]["value"], 1 - 0.81, 1e-12);
  EXPECT_GE(result["best"]["value"], 0.8);
  EXPECT_EQ(result["stopped"], "all rounds are done");
  double best = -1;
  std::set<Json> kinds;
  for (const Json& t : result["trials"]) {
    const double x = t["configuration"]["x"];
    EXPECT_NEAR(t["value"], 1 - x * x, 1e-12);
    best = std::max(best, t["value"].get<double>());
    kinds.insert(t["configuration"]["kind"]);
  }
  EXPECT_EQ(result["best"]["value"], best);
  EXPECT_EQ(kinds.size(), 2u);
  EXPECT_FALSE(fs::exists("x")) << "a value was run as a command";
  EXPECT_EQ(json_of(arguments)["best"], result["best"]) << "the same seed";
  // The command that it names repeats it.
  const ProcessResult again = run_process({{"/bin/sh", "-c", result["best"]["command"]}});
  EXPECT_THAT(again.output, HasSubstr("score=" + result["best"]["value"].dump()));
}

TEST_F(TuneTest, TheCommandThatItNamesRepeatsATrial) {
  const std::string choices = write(
      "choices.yaml", "text: {type: categorical, choices: [\"it's a \\\\n\\nb\"], default: \"it's a \\\\n\\nb\"}\n");
  const std::string serve = write("serve.py",
                                  "import json, os, sys\nfor line in sys.stdin:\n"
                                  "  text = json.loads(line)['configuration']['text']\n"
                                  "  print(json.dumps({'event': 'result', 'value': len(text), 'text': text + "
                                  "os.environ['MORE']}), flush=True)\n");
  const std::string show = "python3 " + write("show.py",
                                              "import json, os, sys\nprint(json.dumps({'value': 1, 'text': "
                                              "json.load(open(sys.argv[1]))['text'] + os.environ['MORE']}))\n");
  const std::pair<std::string, std::vector<std::string>> cases[] = {
      {show + " {file}", {}}, {show + " {folder}/configuration.json", {}}, {"python3 " + serve, {"--worker"}}};
  for (const auto& [command, more] : cases) {
    std::vector<std::string> arguments = {"--space",     choices,    "--command", command, "--metric", "json:value",
                                          "--direction", "maximize", "--rounds",  "1",     "--env",    "MORE= it's $x"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const std::string best = json_of(arguments)["best"]["command"];
    const ProcessResult again =
        run_process({{"/bin/sh", "-c", "cd \"$0\" && { " + best + "; }", folder_.path().string()}});
    ASSERT_TRUE(again.ok()) << best << again.errors;
    EXPECT_EQ(Json::parse(again.output)["text"], "it's a \\n\nb it's $x") << best;
  }
}

TEST_F(TuneTest, SaysWhatItDoesAndWhatCameOut) {
  const ProcessResult r = run({"--space", space(), "--command", "echo v={x}", "--metric", "v=(.*)", "--direction",
                               "minimize", "--rounds", "3"});
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(r.errors,
              AllOf(HasSubstr("round 1: v 0.9, best 0.9: the defaults [default]"), HasSubstr("round 3 of 3, "),
                    HasSubstr(" left"), HasSubstr("must read $HAQA_CONFIGURATION: kind")));
  EXPECT_THAT(r.output, AllOf(HasSubstr("Best: v "), HasSubstr("the defaults: 0.9"), HasSubstr("Command: "),
                              HasSubstr("echo v="), HasSubstr("Stopped: all rounds are done.")));
}

// Every kind of failure as a value of one parameter; the study goes on through all of them.
TEST_F(TuneTest, FailingTrialsAreKeptWithTheirReasons) {
  const std::map<std::string, std::pair<std::string, std::string>> expected = {
      {"nan", {"wrong_result", "not a finite number"}},
      {"silent", {"wrong_result", "it printed nothing"}},
      {"missing", {"wrong_result", "nothing matches"}},
      {"status", {"crashed", "exit status 3: error: no data"}},
      {"signal", {"crashed", "SIGSEGV"}},
      {"hang", {"timed_out", "timed out"}},
      {"memory", {"out_of_memory", "CUDA out of memory"}},
  };
  std::string choices = "good";
  for (const auto& [name, reason] : expected) choices += ", " + name;
  const std::string program = write("f.sh",
                                    "case $1 in good) echo v=1;; nan) echo v=nan;; silent) ;; missing) echo w=1;;\n"
                                    "status) echo error: no data >&2; exit 3;; signal) kill -SEGV $$;;\n"
                                    "hang) trap '' TERM; sleep 1000 & echo $! > " +
                                        (folder_ / "pid").string() +
                                        "; wait; sleep 1000;;\n"
                                        "memory) echo CUDA out of memory >&2; exit 1;; esac\n");
  const Json result =
      json_of({"--space", write("kinds.yaml", "kind: {type: categorical, choices: [" + choices + "]}\n"), "--command",
               "sh " + program + " {kind}", "--metric", "v=(.*)", "--direction", "maximize", "--rounds", "8",
               "--sampler", "random", "--timeout", "4"});
  EXPECT_EQ(result["best"]["value"], 1);
  std::set<std::string> seen;
  for (const Json& t : result["trials"]) {
    const std::string kind = t["configuration"]["kind"];
    seen.insert(kind);
    if (kind == "good") continue;
    EXPECT_EQ(t["state"], "failed") << kind;
    EXPECT_EQ(t["reason"], expected.at(kind).first) << kind;
    EXPECT_THAT(t["message"].get<std::string>(), HasSubstr(expected.at(kind).second));
  }
  EXPECT_EQ(seen.size(), 8u) << "random search tries each once";
  EXPECT_TRUE(noted_one_gone_soon(folder_ / "pid")) << "what the program started goes with it";
}

TEST_F(TuneTest, WhereNothingWorksItSaysSo) {
  const ProcessResult r = run(
      {"--space", space(), "--command", "exit 3", "--metric", "json:v", "--direction", "maximize", "--rounds", "2"});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, HasSubstr("no round gave a value; the last: exit status 3; it printed nothing"));
}

TEST_F(TuneTest, WrongUsageIsRefusedBeforeAnythingRuns) {
  const std::string witness = "touch " + (folder_ / "ran").string() + "; ";
  int spaces = 0;
  const auto with_space = [&](const std::string& text) {
    return std::vector<std::string>{"--space",     write("bad" + std::to_string(++spaces) + ".yaml", text),
                                    "--command",   witness + "echo {x}",
                                    "--metric",    "(.*)",
                                    "--direction", "maximize"};
  };
  const auto with = [&](const std::string& command, std::vector<std::string> more) {
    std::vector<std::string> all = {"--space", space(), "--command", witness + command};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {with_space("x: {type: float, low: 2, high: 1}\n"), ".yaml:1"},
      {with_space("x: {type: float, low: 0, high: 1, log: true}\n"), ".yaml:1"},
      {with_space("x: {type: float, low: 0, high: 1, default: 2}\n"), ".yaml:1"},
      {with_space("x: {type: float, low: 0, high: 1}\nx: {type: bool}\n"), ".yaml"},
      {with_space("x: {type: float, low: 0, high: 1}\nconstraints: [x > 2]\n"), ".yaml"},
      {with_space("x: {type: categorical, choices: []}\n"), ".yaml:1"},
      {with_space(""), ".yaml"},
      {{"--space", "none.yaml", "--command", "x", "--metric", "(x)", "--direction", "maximize"}, "none.yaml"},
      {with("echo {y}", {"--metric", "(.*)", "--direction", "maximize"}), "{y} is no parameter; there are x, kind"},
      {with("echo {x}", {"--metric", "((", "--direction", "maximize"}), "missing closing parenthesis at position 3"},
      {with("echo {x}", {"--metric", "v=.*", "--direction", "maximize"}), "has 0 groups"},
      {with("echo {x}", {"--metric", "(.*)"}), "--direction maximize, or minimize"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "up"}), "--direction"},
      {with("echo {x}", {}), "--metric"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--sampler", "best"}),
       "use one of expert, agent"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--pruner", "best"}), "choose none, median"},
      {with("echo {x}", {"--metric", "a:maximize=a(.*)", "--metric", "b:minimize=b(.*)", "--pruner", "median"}),
       "--pruner is for one goal"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--env", "A"}), "NAME=VALUE"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--env", "A B=3"}), "letters, digits and _"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--env", "1A=3"}), "letters, digits and _"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--rounds", "0"}), "--rounds"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--timeout", "-1"}), "--timeout"},
      {with("echo {x}", {"--metric", "file:a:b", "--direction", "maximize", "--workers", "2"}), "{folder}"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--worker"}), "leave the placeholders out"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--agent", "openai", "--agent-model", "m"}),
       "are for --sampler agent and hybrid"},
      {with("touch ran; echo {x}",
            {"--metric", "(.*)", "--direction", "maximize", "--sampler", "human:" + write("list.yaml", "- {x: 99}\n")}),
       "list.yaml: entry 1"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--sampler", "sobol", "--stop-early", "0.1"}),
       "needs a sampler that tells what it expects to gain"},
      {with("echo {x}", {"--metric", "(.*)", "--direction", "maximize", "--replay", space(), "--sampler", "tpe"}),
       "are for --sampler agent and hybrid"},
  };
  for (const auto& [arguments, expected] : cases) {
    const ProcessResult r = run(arguments);
    EXPECT_EQ(r.code, expected == "none.yaml" ? r.code : 2) << expected << ": " << r.errors;
    EXPECT_NE(r.code, 0) << expected;
    EXPECT_THAT(r.errors, HasSubstr(expected));
    EXPECT_LE(std::count(r.errors.begin(), r.errors.end(), '\n'), 2) << r.errors;
  }
  EXPECT_FALSE(fs::exists(folder_ / "ran"));
}

TEST_F(TuneTest, AnOutputThatCannotBeWrittenIsRefusedFirst) {
  const ProcessResult r = run({"--space", space(), "--command", "touch " + (folder_ / "ran").string() + "; echo {x}",
                               "--metric", "(.*)", "--direction", "maximize", "--output", space() + "/out"});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, HasSubstr("space.yaml"));
  EXPECT_FALSE(fs::exists(folder_ / "ran"));
}

// Where the temporary folder goes away, say: what was measured until then is shown all the same.
TEST_F(TuneTest, AnErrorKeepsWhatIsFinished) {
  const fs::path tmp = folder_ / "tmp", out = folder_ / "out";
  for (const std::string format : {"--json", "--quiet"}) {
    fs::create_directory(tmp);
    Command command =
        haqa({"--space", space(), "--command",
              "echo v={x}; [ -e " + out.string() + " ] || mkdir " + out.string() + " && rm -rf " + tmp.string(),
              "--metric", "v=(.*)", "--direction", "maximize", "--sampler", "random", "--output", out, format});
    command.environment = {{"TMPDIR", tmp}};
    const ProcessResult r = run_process(command);
    EXPECT_EQ(r.code, 1);
    EXPECT_THAT(r.errors, HasSubstr("No such file or directory"));
    EXPECT_TRUE(fs::exists(out / "study.html"));
    if (format == "--json") {
      const Json json = Json::parse(r.output);
      EXPECT_EQ(json["stopped"], "an error");
      EXPECT_EQ(json["trials"].size(), 1u);
      EXPECT_EQ(json["best"]["value"], 0.9);
    } else {
      EXPECT_THAT(r.output, AllOf(HasSubstr("Best: v 0.9 in round 1 of 1"), HasSubstr("Stopped: an error.")));
    }
  }
}

TEST_F(TuneTest, CtrlCKeepsWhatIsFinished) {
  const std::string program =
      write("f.sh", "echo $$ > " + (folder_ / "pid").string() + "; [ -e " + (folder_ / "done").string() +
                        " ] && { trap '' INT; touch " + (folder_ / "hangs").string() + "; sleep 1000; }; touch " +
                        (folder_ / "done").string() + "; echo v=$1\n");
  const fs::path log = folder_ / "log";
  {
    BackgroundProcess tune(haqa({"--space", space(), "--command", "sh " + program + " {x}", "--metric", "v=(.*)",
                                 "--direction", "maximize", "--json"}),
                           log);
    ASSERT_TRUE(wait_until([&] { return fs::exists(folder_ / "hangs") || !tune.running(); }));
    tune.signal(SIGINT);
    ASSERT_TRUE(wait_until([&] { return !tune.running(); }));
  }
  const std::string text = read_file(log);
  EXPECT_THAT(text, HasSubstr("interrupted after 1 of 10 rounds"));
  EXPECT_THAT(text, AllOf(HasSubstr("\"stopped\": \"interrupted\""), HasSubstr("\"value\": 0.9")));
  EXPECT_TRUE(noted_one_gone_soon(folder_ / "pid"));
}

// kill -9, or the second Ctrl-C: what the shell around a trainer started must not disturb the study that goes on.
TEST_F(TuneTest, KilledItLeavesNoTrainerRunning) {
  const std::string pids = (folder_ / "pids").string();
  BackgroundProcess tune(haqa({"--space", space(), "--command",
                               "sleep 1000 & echo $! >> " + pids + "; echo $$ >> " + pids + "; wait; echo {x}",
                               "--metric", "(.*)", "--direction", "maximize", "--workers", "2"}),
                         folder_ / "log");
  ASSERT_EQ(numbers_in(pids, 4).size(), 4u) << read_file(folder_ / "log");
  tune.signal(SIGKILL);
  for (const pid_t pid : numbers_in(pids, 4)) EXPECT_TRUE(gone_soon(pid));
}

TEST_F(TuneTest, TheEndOfTheTerminalLeavesASummaryAndNoFiles) {
  Command command = haqa({"--space", space(), "--command", "kill -HUP $PPID; kill -HUP $PPID; sleep 1000", "--metric",
                          "v=(.*)", "--direction", "maximize"});
  command.argv.insert(command.argv.begin(), {"env", "--default-signal=HUP"});
  fs::create_directory(folder_ / "tmp");
  command.environment = {{"TMPDIR", folder_ / "tmp"}};
  const ProcessResult r = run_process(command);
  EXPECT_EQ(r.code, 130) << r.describe();
  EXPECT_THAT(r.errors, HasSubstr("interrupted after 0 of 10 rounds"));
  EXPECT_TRUE(fs::is_empty(folder_ / "tmp"));
}

TEST_F(TuneTest, CtrlCHasItsOwnStatusAndLeavesNoFiles) {
  // The first of three workers sends it.
  Command command = haqa({"--space", space(), "--command",
                          "mkdir " + (folder_ / "once").string() + " && sleep 1 && kill -INT $PPID; sleep 100",
                          "--metric", "v=(.*)", "--direction", "maximize", "--workers", "3"});
  fs::create_directory(folder_ / "tmp");
  command.environment = {{"TMPDIR", folder_ / "tmp"}};
  const ProcessResult r = run_process(command);
  EXPECT_EQ(r.end, ProcessEnd::exited);
  EXPECT_EQ(r.code, 130) << r.errors;
  EXPECT_THAT(r.errors, HasSubstr("interrupted after 0 of 10 rounds"));
  EXPECT_TRUE(fs::is_empty(folder_ / "tmp"));
}

// None ends before all have begun.
TEST_F(TuneTest, WorkersRunTrialsAtOnce) {
  const std::string begun = (folder_ / "begun").string();
  fs::create_directory(begun);
  const Json result =
      json_of({"--space", space(), "--command",
               "touch " + begun + "/$$; until [ $(ls " + begun + " | wc -l) -eq 8 ]; do sleep 0.05; done; echo v={x}",
               "--metric", "v=(.*)", "--direction", "maximize", "--rounds", "8", "--workers", "8", "--sampler",
               "random", "--timeout", "60"});
  EXPECT_EQ(result["trials"].size(), 8u);
  for (const Json& t : result["trials"]) EXPECT_EQ(t["state"], "complete");
}

TEST_F(TuneTest, SeveralGoals) {
  const Json result =
      json_of({"--space", space(), "--command", "echo a={x} b=-{x}", "--metric", "gain:maximize=a=(\\S+)", "--metric",
               "cost:minimize=b=-(\\S+)", "--rounds", "4", "--sampler", "random"});
  EXPECT_EQ(result["goals"][0], (Json{{"name", "gain"}, {"direction", "maximize"}}));
  EXPECT_EQ(result["goals"][1], (Json{{"name", "cost"}, {"direction", "minimize"}}));
  EXPECT_EQ(result["best"]["more_values"].size(), 1u);
}

std::string python_of(const fs::path& document) {
  const std::string text = read_file(document), fence = "```python\n";
  const size_t begin = text.find(fence) + fence.size();
  return text.substr(begin, text.find("```", begin) - begin);
}

TEST_F(TuneTest, TheProtocolsExampleInTheDocsWorks) {
  const std::string program = write("serve.py", python_of(HAQA_SOURCE_DIR "/docs/tune.md"));
  const Json result =
      json_of({"--space", space(), "--command", "python3 " + program, "--worker", "--workers", "2", "--metric",
               "json:value", "--direction", "maximize", "--rounds", "8", "--sampler", "random", "--timeout", "20"});
  int failed = 0;
  for (const Json& t : result["trials"]) {
    const double x = t["configuration"]["x"];
    failed += x < 0;
    if (x < 0) {
      EXPECT_EQ(t["message"], "x is negative");
    } else {
      EXPECT_NEAR(t["value"], 4950 * 3 * x, 1e-9);
      EXPECT_EQ(t["intermediate"].size(), 3u);
    }
  }
  EXPECT_GT(failed, 0);
  EXPECT_LT(failed, 7);
}

TEST_F(TuneTest, TheExampleFindsASmallerLoss) {
  const std::string example = HAQA_SOURCE_DIR "/examples/tune/";
  const Json result =
      json_of({"--space", example + "space.yaml", "--command",
               example + "train.py --optimizer {optimizer} --learning-rate {learning_rate} "
                         "--momentum={momentum} --batch-size {batch_size}",
               "--metric", "loss=(\\S+)", "--direction", "minimize", "--rounds", "15", "--pruner", "median"});
  ASSERT_FALSE(result["best"].is_null());
  EXPECT_LT(result["best"]["value"], result["trials"][0]["value"].get<double>() / 5);
  int pruned = 0;
  for (const Json& t : result["trials"]) pruned += t["state"] == "pruned";
  EXPECT_GE(pruned, 1);
}

TEST_F(TuneTest, EndsWhereItsTimeIsUp) {
  const Json result = json_of({"--space", space(), "--command", "sleep 0.3; echo v={x}", "--metric", "v=(.*)",
                               "--direction", "maximize", "--rounds", "1000", "--max-seconds", "1"});
  EXPECT_EQ(result["stopped"], "the time is used up");
  EXPECT_GE(result["trials"].size(), 1u);
  EXPECT_LE(result["trials"].size(), 5u);
}

}  // namespace
}  // namespace haqa
