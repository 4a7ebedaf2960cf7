// The commands that look back at trials: haqa importance and haqa compare.
#include <atomic>
#include <cmath>

#include "haqa/http/fake_server.h"
#include "haqa/report/run_log.h"
#include "haqa/study/comparison_run.h"
#include "tests/program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

/// A line a trial: a decides, b does nothing.
std::string trial_lines(int n) {
  std::string lines;
  for (int i = 0; i < n; ++i) {
    Trial t;
    t.number = i;
    t.configuration = {{"a", (i * 37 % n) / 10.0}, {"b", (i * 11 % n) / 10.0}};
    t.value = t.configuration["a"].get<double>();
    lines += to_line(to_json(t)) + "\n";
  }
  return lines;
}

TEST_F(ProgramTest, ImportanceReadsTrialsOfAFile) {
  const ProcessResult r =
      run({"importance", write("trials.jsonl", trial_lines(40)), "--json", "--output", path("study")});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json json = Json::parse(r.output);
  EXPECT_EQ(json["parameters"][0]["name"], "a");
  EXPECT_GT(json["parameters"][0]["share"], 0.9);
  EXPECT_FALSE(json["parameters"][1]["stands_out"]);
  for (const char* name : {"study.html", "trials.csv", "importance.csv"})
    EXPECT_TRUE(fs::exists(folder_ / "study" / name)) << name;
  EXPECT_THAT(run({"importance", write("few.jsonl", trial_lines(3))}).output, HasSubstr("too few"));
}

TEST_F(ProgramTest, ImportanceReadsARunsLog) {
  {
    RunLog log = RunLog::create(folder_ / "run");
    for (int i = 0; i < 12; ++i) {
      Trial t;
      t.number = log.start({});
      t.configuration = {{"threads", i % 4 + 1}};
      t.value = i % 4;
      log.finish(t);
    }
  }
  for (const std::string& source : {path("run"), path("run/log.jsonl")}) {
    const ProcessResult r = run({"importance", source});
    ASSERT_TRUE(r.ok()) << r.errors;
    EXPECT_THAT(r.output, HasSubstr("100.0 %"));
    EXPECT_THAT(r.output, HasSubstr("a hint only"));
  }
}

TEST_F(ProgramTest, ImportanceNamesWhatIsWrong) {
  const ProcessResult damaged = run({"importance", write("bad.jsonl", trial_lines(2) + "{}\n")});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_THAT(damaged.errors, HasSubstr("bad.jsonl:3: is no trial"));
  EXPECT_EQ(run({"importance", write("empty.jsonl", "")}).code, 2);
  EXPECT_EQ(run({"importance", path("none")}).code, 2);
}

std::string comparison_lines() {
  std::string lines = R"({"comparison":{"value_name":"ms","direction":"minimize"}})"
                      "\n";
  for (int seed = 0; seed < 8; ++seed)
    for (const auto& [method, value] : {std::pair("random", 5.0 + seed), {"good", 4.0 + seed}}) {
      Trial t;
      t.configuration = {{"x", 1}};
      t.value = value;
      lines += to_line({{"method", method}, {"seed", seed}, {"trial", to_json(t)}}) + "\n";
    }
  return lines;
}

TEST_F(ProgramTest, CompareShowsAFile) {
  const std::string file = write("c.jsonl", comparison_lines());
  const ProcessResult r = run({"compare", file, "--output", path("out")});
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(r.output, HasSubstr("8–0–0"));
  EXPECT_THAT(r.output, HasSubstr("random (reference)"));
  for (const char* name : {"compare.html", "summary.csv", "curves.csv"})
    EXPECT_TRUE(fs::exists(folder_ / "out" / name)) << name;
  const Json json = Json::parse(run({"compare", file, "--json", "--reference", "good"}).output);
  EXPECT_EQ(json["methods"][1]["versus"]["losses"], 8);
  EXPECT_DOUBLE_EQ(json["methods"][1]["versus"]["p"], 2 / 256.0);
  const ProcessResult none = run({"compare", file, "--reference", "nobody"});
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.errors, HasSubstr("choose one of random, good"));
}

// Forty rounds of one method beside five of another are cut to five.
TEST_F(ProgramTest, CompareSaysWhatItLeavesOut) {
  std::string lines = comparison_lines();
  for (int round = 1; round < 4; ++round) {
    Trial t;
    t.number = round;
    t.configuration = {{"x", 1}};
    t.value = 0;
    lines += to_line({{"method", "good"}, {"seed", 0}, {"trial", to_json(t)}}) + "\n";
  }
  const ProcessResult r = run({"compare", write("c.jsonl", lines), "--output", path("out")});
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_THAT(r.output, HasSubstr("Methods over 8 seeds, 1 rounds"));
  EXPECT_THAT(r.output, HasSubstr("3 trials are left out"));
  EXPECT_THAT(read_file(folder_ / "out" / "compare.html"), HasSubstr("3 trials are left out"));
}

/// Of two parameters, the best one at a = 3, b = true; one result is invalid and one missing.
std::string sweep() {
  Json results = Json::array();
  for (int a = 1; a <= 4; ++a)
    for (const bool b : {false, true}) {
      if (a == 4 && b) continue;
      const bool bad = a == 2 && b;
      results.push_back({{"configuration", {{"a", a}, {"b", b}}},
                         {"times", Json::object()},
                         {"invalidity", bad ? "compile" : "correct"},
                         {"correctness", 1},
                         {"measurements", {{{"name", "time"}, {"value", 10.0 - a - b}, {"unit", "ms"}}}},
                         {"objectives", {"time"}}});
    }
  return Json{{"schema_version", "1.0.0"}, {"results", results}}.dump();
}

TEST_F(ProgramTest, CompareReplaysASweep) {
  const std::string file = write("results.t4.json", sweep());
  const std::vector<std::string> arguments = {"compare",   "--sweep", file,      "--methods", "random,exhaustive,tpe",
                                              "--rounds",  "12",      "--seeds", "2",         "--output",
                                              path("cmp"), "--json"};
  const ProcessResult r = run(arguments);
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json json = Json::parse(r.output);
  EXPECT_EQ(json["direction"], "minimize");
  EXPECT_EQ(json["methods"].size(), 3u);
  for (const Json& m : json["methods"]) {
    EXPECT_EQ(m["mean"], 6) << "all eight combinations were tried";
    EXPECT_EQ(m["evaluations"], 16) << "as far as the shortest run came: the exhaustive one's";
  }
  const std::string kept = read_file(folder_ / "cmp" / "results.jsonl");
  EXPECT_THAT(kept, HasSubstr("the sweep holds no result of this configuration"));
  EXPECT_TRUE(run(arguments).ok()) << "it goes on, and all is there";
  EXPECT_EQ(read_file(folder_ / "cmp" / "results.jsonl"), kept);

  const auto errors = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"compare", "--sweep"});
    const ProcessResult failed = run(more);
    EXPECT_EQ(failed.code, 2) << failed.errors;
    return failed.errors;
  };
  const std::string wide = write("wide.yaml", "a: {type: float, low: 1, high: 4}\nb: {type: bool}\n");
  EXPECT_THAT(errors({file, "--space", wide, "--methods", "exhaustive"}), HasSubstr("'a' has infinitely many values"));
  const std::string other = write("other.yaml", "c: {type: int, low: 1, high: 4}\n");
  EXPECT_THAT(errors({file, "--space", other}), HasSubstr("none of the 7 results"));
  EXPECT_THAT(errors({file, "--command", "true"}), HasSubstr("--sweep is the objective"));
  std::string rate = sweep();
  for (size_t at; (at = rate.find("\"time\"")) != std::string::npos;) rate.replace(at, 6, "\"GB/s\"");
  EXPECT_THAT(errors({write("rate.json", rate)}), HasSubstr("give --direction"));
}

std::vector<std::string> on_a_command(const std::string& space) {
  return {"--space", space, "--command", "echo v={x}", "--metric", "v=(.*)", "--direction", "minimize"};
}

TEST_F(ProgramTest, CompareRunsMethodsOnACommandAndGoesOn) {
  const std::string space = write("space.yaml", "x: {type: float, low: 0, high: 1, default: 0.9}\n");
  std::vector<std::string> arguments = on_a_command(space);
  arguments.insert(arguments.begin(), "compare");
  arguments.insert(arguments.end(), {"--methods", "default,random,expert,agent", "--seeds", "2", "--rounds", "3",
                                     "--output", path("out"), "--json"});
  const ProcessResult first = run(arguments);
  ASSERT_TRUE(first.ok()) << first.errors;
  const Json json = Json::parse(first.output);
  EXPECT_EQ(json["methods"].size(), 4u);
  EXPECT_EQ(json["blocks"], 2);
  EXPECT_EQ(json["reference"], "random");
  for (const Json& m : json["methods"])
    if (m["method"] == "default") {
      EXPECT_DOUBLE_EQ(m["mean"], 0.9);
    }
  for (const char* name : {"results.jsonl", "compare.html", "curves.csv", "summary.csv", "agent-1/transcript.jsonl"})
    EXPECT_TRUE(fs::exists(folder_ / "out" / name)) << name;
  const std::string kept = read_file(folder_ / "out" / "results.jsonl");
  EXPECT_EQ(Json::parse(run(arguments).output)["methods"], json["methods"]);
  EXPECT_EQ(read_file(folder_ / "out" / "results.jsonl"), kept) << "nothing was measured again";
  arguments[4] = "echo v={x} again";  // another command
  EXPECT_THAT(run(arguments).errors, HasSubstr("name another file"));
  EXPECT_THAT(run({"compare"}).errors, HasSubstr("name a comparison's file, or --space"));
}

TEST_F(ProgramTest, CompareKeepsAgentsApart) {
  const FakeServer server([&](const FakeServer::Request& r, const FakeServer::Connection& c) {
    if (r.head.starts_with("GET"))
      c.send(FakeServer::reply(200, R"({"data":[{"id":"m"}]})"));
    else
      c.send(FakeServer::chat("Thought: less.\nAction: {\"x\": 0.25}"));
  });
  std::vector<std::string> arguments = on_a_command(write("space.yaml", "x: {type: float, low: 0, high: 1}\n"));
  arguments.insert(arguments.begin(), "compare");
  arguments.insert(arguments.end(), {"--seeds", "1", "--rounds", "2", "--output", path("out"), "--json"});
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), arguments.begin(), arguments.end());
    return run(more);
  };
  EXPECT_TRUE(with({"--methods", "random"}).ok());
  EXPECT_TRUE(with({"--methods", "random,agent", "--agent", "expert"}).ok()) << "a method may come later";
  const ProcessResult other =
      with({"--methods", "random,agent", "--agent", "openai", "--agent-model", "m", "--base-url", server.url()});
  EXPECT_EQ(other.code, 1) << other.output;
  EXPECT_THAT(other.errors, HasSubstr("\"provider\":\"expert\""));
  EXPECT_TRUE(with({"--methods", "random,agent", "--agent", "expert"}).ok());
}

TEST_F(ProgramTest, CompareCountsTheAgentsTokens) {
  std::atomic<int> asked = 0;
  const FakeServer server([&](const FakeServer::Request& r, const FakeServer::Connection& c) {
    if (r.head.starts_with("GET"))
      c.send(FakeServer::reply(200, R"({"data":[{"id":"m"}]})"));
    else
      c.send(FakeServer::chat("Thought: less.\nAction: " + Json{{"x", 0.4 / ++asked}}.dump()));
  });
  std::vector<std::string> arguments = on_a_command(write("space.yaml", "x: {type: float, low: 0, high: 1}\n"));
  arguments.insert(arguments.begin(), "compare");
  arguments.insert(arguments.end(), {"--methods", "random,agent,hybrid", "--seeds", "1", "--rounds", "3", "--output",
                                     path("out"), "--json", "--agent", "openai", "--agent-model", "m", "--base-url",
                                     server.url(), "--price-prompt", "1000", "--price-completion", "2000"});
  const ProcessResult r = run(arguments);
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json all = Json::parse(r.output);
  for (const Json& m : all["methods"]) {
    if (m["method"] == "random") {
      EXPECT_TRUE(m["tokens"].is_null());
      continue;
    }
    EXPECT_EQ(m["tokens"], 2 * (12 + 3)) << m["method"];
    EXPECT_NEAR(m["cost_usd"], 2 * (0.012 + 0.006), 1e-12) << m["method"];
  }
  for (const FakeServer::Request& request : server.requests())
    EXPECT_THAT(request.body, Not(HasSubstr("completion_tokens"))) << "its own tokens say nothing to the agent";
}

TEST_F(ProgramTest, CompareRefusesWhatItCannotDoBeforeAnythingRuns) {
  const std::string file = write("c.jsonl", comparison_lines());
  std::vector<std::string> command = on_a_command(write("space.yaml", "x: {type: float, low: 0, high: 1}\n"));
  command.insert(command.begin(), "compare");
  command[4] = "touch " + path("ran") + "; echo v={x}";
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"--methods", "random,random"}, "random is named twice"},
      {{"--methods", "random,tpe", "--reference", "expert"}, "choose one of random, tpe"},
      {{"--methods", "random,nobody"}, "nobody"},
      {{"--methods", "random,agent"}, "agent and hybrid need --output"},
      {{"--methods", "random,hybrid"}, "agent and hybrid need --output"},
      {{"--methods", "random", "--agent", "openai"}, "are for --sampler agent and hybrid"},
      {{"--base-url", "http://127.0.0.1:9/v1"}, "are for --sampler agent and hybrid"},
  };
  for (const auto& [more, expected] : cases) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult r = run(arguments);
    EXPECT_EQ(r.code, 2) << expected;
    EXPECT_THAT(r.errors, HasSubstr(expected));
  }
  EXPECT_FALSE(fs::exists(folder_ / "ran"));
  for (const auto& [name, value] : {std::pair("--space", path("space.yaml")),
                                    {"--methods", "random"},
                                    {"--seeds", "3"},
                                    {"--rounds", "3"},
                                    {"--agent", "openai"},
                                    {"--command", "x"},
                                    {"--timeout", "3"}}) {
    const ProcessResult r = run({"compare", file, name, value});
    EXPECT_EQ(r.code, 2) << name;
    EXPECT_THAT(r.errors, HasSubstr(name));
  }
  EXPECT_TRUE(run({"compare", file, "--quiet", "--reference", "good"}).ok());
}

TEST_F(ProgramTest, ImportanceReadsAStudyOfADatabase) {
  const std::string space = write("space.yaml", "x: {type: float, low: 0, high: 1, default: 0.9}\n"),
                    url = "sqlite:///" + path("s.db");
  std::vector<std::string> tune = on_a_command(space);
  tune.insert(tune.begin(), "tune");
  tune.insert(tune.end(), {"--study", "s", "--storage", url, "--rounds", "10", "--output", path("study")});
  ASSERT_TRUE(run(tune).ok());
  EXPECT_THAT(read_file(folder_ / "study" / "study.html"), HasSubstr("<html"));
  const ProcessResult r = run({"importance", "--study", "s", "--storage", url, "--json", "--output", path("again")});
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_EQ(Json::parse(r.output)["trials"], 10);
  EXPECT_EQ(Json::parse(r.output)["parameters"][0]["name"], "x");
  EXPECT_THAT(read_file(folder_ / "again" / "study.html"), HasSubstr("v: less is better")) << "the database names it";
  EXPECT_THAT(run({"importance", "--study", "none", "--storage", url}).errors, HasSubstr("no study \"none\""));
  EXPECT_EQ(run({"importance"}).code, 2);
}

}  // namespace
}  // namespace haqa
