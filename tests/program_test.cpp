#include "tests/program.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <thread>

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

int count_lines(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

TEST_F(ProgramTest, MainJobLeavesAVerifiedBundle) {
  const ProcessResult r = run({"run", task("memory_limit: 65MB\n"), "--output", path("run"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["trials"].size(), 3u);
  EXPECT_EQ(summary["trials"][0]["proposed_by"], "default");
  EXPECT_EQ(summary["trials"][0]["value"], 1.0);
  EXPECT_EQ(summary["trials"][1]["proposed_by"], "expert");
  EXPECT_EQ(summary["bit_widths"][0]["bit_width"], "fp16");
  EXPECT_FALSE(summary["bit_widths"][0]["fits"]);
  EXPECT_THAT(summary["bit_widths"][0]["refused"].get<std::string>(), HasSubstr("more than the limit"));
  EXPECT_EQ(summary["decision"]["basis"], "measurement");
  EXPECT_TRUE(summary["verification"].contains("confirmed"));
  for (const char* name : {"log.jsonl", "transcript.jsonl", "summary.json", "report.html", "suggestions.md",
                           "bundle/launch.sh", "bundle/profile.json"})
    EXPECT_TRUE(fs::exists(folder_ / "run" / name)) << name;
  EXPECT_FALSE(fs::exists(folder_ / "run/models"));
  const fs::path bundle = folder_ / "run/bundle" / summary["bundle"]["model"].get<std::string>();
  EXPECT_EQ(fs::file_size(bundle), summary["bundle"]["bytes"].get<uintmax_t>());
  const ProcessResult shown = run({"show", path("run")});
  ASSERT_TRUE(shown.ok());
  EXPECT_THAT(shown.output, HasSubstr(summary["decision"]["gguf_type"].get<std::string>()));
}

TEST_F(ProgramTest, LaunchScriptServesTheModelFromAMovedFolder) {
  ASSERT_TRUE(run({"run", task("", 1), "--output", path("run"), "--quiet"}).ok());
  fs::rename(folder_ / "run/bundle", folder_ / "moved bundle");
  const std::string port = free_port();
  BackgroundProcess server({{path("moved bundle/launch.sh"), "--port", port},
                            {{"LLAMA_SERVER", (llama_bin_folder() / "llama-server").string()}}},
                           folder_ / "server.log");
  const auto healthy = [&] {
    return run_process({{"/bin/bash", "-c",
                         "exec 3<>/dev/tcp/127.0.0.1/" + port +
                             " && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' "
                             ">&3 && grep -q '\"ok\"' <&3"}})
        .ok();
  };
  EXPECT_TRUE(wait_until([&] { return healthy() || !server.running(); }));
  EXPECT_TRUE(server.running()) << read_file(folder_ / "server.log");
}

TEST_F(ProgramTest, KilledRunGoesOnWithoutLosingATrial) {
  const Command command = haqa({"run", task("", 6), "--output", path("run")});
  const fs::path log = folder_ / "run/log.jsonl";
  {
    BackgroundProcess first(command, folder_ / "first.log");
    ASSERT_TRUE(wait_until([&] { return trials_in(log) >= 2 || !first.running(); }));
    ASSERT_TRUE(first.running()) << read_file(folder_ / "first.log");
    first.signal(SIGKILL);
  }
  const std::string before = read_file(log);
  const int kept = trials_in(log);
  const ProcessResult r = run({"run", "--resume", path("run"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["trials"].size(), 6u);
  EXPECT_GE(kept, 2);
  // The old log is a prefix of the new one, but for a line that was cut off by the kill.
  const std::string whole = before.substr(0, before.rfind('\n') + 1);
  EXPECT_EQ(read_file(log).substr(0, whole.size()), whole);
  EXPECT_EQ(run({"run", "--resume", path("run"), "--json"}).output, r.output) << "a finished run is only shown";
}

TEST_F(ProgramTest, CtrlCEndsWithItsOwnStatusAndSaysHowToGoOn) {
  const fs::path errors = folder_ / "errors.txt";
  Command shell{{"/bin/bash", "-c", "exec \"$@\" 2>" + errors.string(), "sh"}};
  const Command command = haqa({"run", task("", 50), "--output", path("run")});
  shell.argv.insert(shell.argv.end(), command.argv.begin(), command.argv.end());
  shell.environment = command.environment;
  std::thread interrupter([&] {
    wait_until([&] { return trials_in(folder_ / "run/log.jsonl") >= 1; });
    run_process({{"pkill", "-INT", "-f", "haqa run .*" + path("run")}});
  });
  const ProcessResult r = run_process(shell);
  interrupter.join();
  EXPECT_EQ(r.end, ProcessEnd::exited);
  EXPECT_EQ(r.code, 130);
  EXPECT_THAT(read_file(errors), HasSubstr("haqa run --resume " + path("run")));
  EXPECT_FALSE(run_process({{"pgrep", "-f", "llama-bench.*" + folder_.string()}}).ok()) << "it goes with haqa";
}

TEST_F(ProgramTest, CtrlCBeforeTheFirstResultKeepsWhatItNames) {
  {
    BackgroundProcess first(haqa({"run", task("", 1), "--output", path("run")}), folder_ / "first.log");
    ASSERT_TRUE(wait_until([&] { return fs::exists(folder_ / "run/task.yaml") || !first.running(); }));
    first.signal(SIGINT);
    ASSERT_TRUE(wait_until([&] { return !first.running(); }));
  }
  EXPECT_THAT(read_file(folder_ / "first.log"), HasSubstr("haqa run --resume " + path("run")));
  const ProcessResult r = run({"run", "--resume", path("run"), "--quiet"});
  EXPECT_TRUE(r.ok()) << r.errors;
}

TEST_F(ProgramTest, ABF16FileIsTunedAsItIs) {
  ASSERT_TRUE(run({"quantize", path("tiny-f16.gguf"), "BF16", "-o", path("tiny-bf16.gguf"), "--quiet"}).ok());
  const std::string file = task("bit_widths: [fp16]\n", 1);
  write("task.yaml", "model: tiny-bf16.gguf\n" + read_file(file).substr(read_file(file).find('\n') + 1));
  const ProcessResult r = run({"run", file, "--output", path("run"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["decision"]["gguf_type"], "BF16");
  EXPECT_EQ(summary["trials"][0]["configuration"]["gguf_type"], "BF16");
  EXPECT_EQ(summary["bundle"]["model"], "tiny-bf16.gguf");
}

TEST_F(ProgramTest, PlansForADeviceThatIsNotHere) {
  const ProcessResult r = run({"run", task("device: adreno-740\n"), "--output", path("run"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["decision"]["basis"], "prediction");
  EXPECT_TRUE(summary["trials"].empty());
  EXPECT_TRUE(summary["bit_widths"][0]["measured"].is_null());
  EXPECT_TRUE(fs::exists(folder_ / "run/bundle/launch.sh"));
}

/// A copy of the program, whose worker runs `script` instead where the pattern is in what it is asked to do.
std::string program_with_worker(const std::filesystem::path& folder, const std::string& pattern,
                                const std::string& script) {
  std::filesystem::create_directory(folder);
  std::filesystem::copy_file(HAQA_BIN_DIR "/haqa", folder / "haqa");
  std::ofstream(folder / "haqa-infer") << "#!/bin/sh\nread -r request\ncase $request in *" << pattern << "*) " << script
                                       << ";; esac\n"
                                       << "echo \"$request\" | exec '" HAQA_BIN_DIR "/haqa-infer'\n";
  std::filesystem::permissions(folder / "haqa-infer", std::filesystem::perms::owner_all);
  return (folder / "haqa").string();
}

TEST_F(ProgramTest, RefusesAFormatThatLosesTooMuchQuality) {
  Command command =
      haqa({"run", task("bit_widths: [int8, int4]\nmax_quality_loss: 0.25\n", 1), "--output", path("run"), "--quiet"});
  // Random weights lose next to nothing, so the loss is the worker's word.
  command.argv[0] = program_with_worker(
      folder_ / "bin", "quality*Q4_0",
      R"(echo '{"event":"result","perplexity":3,"perplexity_ratio":1.5,"perplexity_ratio_error":0.01,)"
      R"("kl_divergence":1,"same_top":0.5,"tokens":100}'; exit 0)");
  const ProcessResult r = run_process(command);
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = read_json(folder_ / "run/summary.json");
  EXPECT_EQ(summary["decision"]["bit_width"], "int8");
  EXPECT_EQ(summary["bit_widths"][1]["refused"],
            "it raises the perplexity by 50.00 % (± 1.00 %), more than the 25.00 % allowed");
}

TEST_F(ProgramTest, CtrlCLeavesNothingHalfWritten) {
  Command command = haqa({"quantize", path("tiny-f16.gguf"), "Q4_0", "-o", path("out.gguf")});
  command.argv[0] =
      program_with_worker(folder_ / "bin", "quantize",
                          R"(out=${request#*\"output\":\"}; echo half > "${out%%\"*}"; touch started; sleep 30)");
  command.argv = {
      "/bin/sh", "-c",
      "cd " + path("bin") + " && exec ./haqa quantize " + path("tiny-f16.gguf") + " Q4_0 -o " + path("out.gguf")};
  BackgroundProcess process(command, folder_ / "log");
  ASSERT_TRUE(wait_until([&] { return fs::exists(folder_ / "bin/started") || !process.running(); }));
  const auto outputs = [&] {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(folder_))
      count += entry.path().filename().string().starts_with("out.gguf");
    return count;
  };
  EXPECT_EQ(outputs(), 1) << "the worker did write: " << read_file(folder_ / "log");
  process.signal(SIGINT);
  EXPECT_TRUE(wait_until([&] { return !process.running(); }));
  EXPECT_EQ(outputs(), 0);
}

// The tiny model's answers are rubbish, so that the surrogate proposes, and the run says so.
TEST_F(ProgramTest, AModelAnswersForItself) {
  const ProcessResult r = run({"deploy", path("tiny-f16.gguf"), "--agent", "self", "--rounds", "2", "--kernel-rounds",
                               "0", "--pairs", "1", "-p", "8", "-n", "8", "--output", path("run"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["trials"].size(), 2u);
  EXPECT_GE(summary["agent"]["calls"], 1);
  EXPECT_GT(summary["agent"]["completion_tokens"], 0) << "llama-server did answer";
  const std::string by = summary["trials"][1]["proposed_by"];
  if (by.starts_with("fallback")) {
    EXPECT_TRUE(summary["agent_events"].back()["fallback"]) << summary["agent_events"];
  } else {
    EXPECT_EQ(by, "tiny-f16");
  }
  EXPECT_FALSE(run_process({{"pgrep", "-f", "llama-server.*" + path("tiny-f16.gguf")}}).ok());
}

TEST_F(ProgramTest, AnUnfinishedRunIsShownAsFarAsItCame) {
  {
    BackgroundProcess first(haqa({"run", task("", 50), "--output", path("run")}), folder_ / "first.log");
    ASSERT_TRUE(wait_until([&] { return trials_in(folder_ / "run/log.jsonl") >= 2 || !first.running(); }));
    first.signal(SIGKILL);
  }
  const ProcessResult text = run({"show", path("run")}), json = run({"show", path("run"), "--json"});
  ASSERT_TRUE(text.ok()) << text.errors;
  EXPECT_THAT(text.output, HasSubstr("The run ended before"));
  EXPECT_THAT(text.output, HasSubstr("Not finished: haqa run --resume " + path("run")));
  EXPECT_GE(Json::parse(json.output)["trials"].size(), 2u);
}

TEST_F(ProgramTest, GoesOnWhereOneFormatCannotBeTimed) {
  use_llama_bench("case \"$*\" in *Q4_0*) echo 'error: no luck' >&2; exit 9;; esac");
  const ProcessResult r = run({"run", task("bit_widths: [int8, int4]\n", 1), "--output", path("run"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["decision"]["bit_width"], "int8");
  EXPECT_THAT(summary["bit_widths"][1]["refused"].get<std::string>(), HasSubstr("no luck"));
  EXPECT_EQ(summary["bit_widths"][0]["measured"]["samples"].size(), 6u);
}

// The rounds are not lost for it.
TEST_F(ProgramTest, AFailingVerificationKeepsTheDefaults) {
  const std::string count = path("count");
  // Two calls for each of 6 repetitions, then for each of 12 pairs, the defaults' and another's. What is not the
  // default is twice as fast, if llama-bench is to be believed.
  use_llama_bench("case \"$*\" in *-r\\ 1*) echo x >> " + count + "; [ $(wc -l < " + count + R"() -le 60 ] || exit 9
       ns=1000000
       case "$*" in *'-fa on'*) ns=500000;; esac
       echo "[{\"samples_ns\":[$ns]}]"
       exit 0;; esac)");
  const ProcessResult r = run({"run", task("bit_widths: [int8]\n", 12), "--output", path("run"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["trials"].size(), 12u);
  EXPECT_FALSE(summary["verification"]["confirmed"]);
  EXPECT_EQ(summary["verification"]["configuration"]["flash_attention"], "on");
  EXPECT_THAT(summary["verification"]["message"].get<std::string>(), HasSubstr("exit status 9"));
  EXPECT_THAT(read_file(folder_ / "run/report.html"), HasSubstr("verifying the best round failed"));
  EXPECT_TRUE(fs::exists(folder_ / "run/bundle/launch.sh"));
}

TEST_F(ProgramTest, GoesOnWhereOneFormatFails) {
  constexpr const char* kNoLuck = "echo 'error: no luck' >&2; exit 9";
  Command command = haqa({"run", task("bit_widths: [int8, int4]\n", 1), "--output", path("run"), "--quiet"});
  command.argv[0] = program_with_worker(folder_ / "bin", "Q4_0", kNoLuck);
  const ProcessResult r = run_process(command);
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = read_json(folder_ / "run/summary.json");
  EXPECT_EQ(summary["decision"]["bit_width"], "int8");
  EXPECT_THAT(summary["bit_widths"][1]["refused"].get<std::string>(), HasSubstr("no luck"));
  EXPECT_GT(summary["bit_widths"][0]["measured"]["tokens_per_s"].get<double>(), 0);

  command.argv[4] = path("none");
  command.argv[0] = program_with_worker(folder_ / "worse", "Q[48]_0", kNoLuck);
  const ProcessResult none = run_process(command);
  EXPECT_FALSE(none.ok());
  EXPECT_THAT(none.errors, HasSubstr("no luck"));
}

TEST_F(ProgramTest, MemoryTableHasItsDocumentedKeys) {
  const ProcessResult r = run({"memory", "--arch", "llama2-13b", "--limit", "12GB", "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json rows = Json::parse(r.output);
  ASSERT_EQ(rows.size(), 3u);
  for (const char* key :
       {"bit_width", "gguf_type", "weights_bytes", "kv_cache_bytes", "compute_bytes", "total_bytes", "fits"})
    EXPECT_TRUE(rows[0].contains(key)) << key;
}

struct PaperLimit {
  const char* limit;
  std::vector<std::string> fitting;
};
TEST_F(ProgramTest, ReproducesThePapersMemoryTable) {
  const std::vector<PaperLimit> cases = {
      {"4GB", {}}, {"12GB", {"int4"}}, {"20GB", {"int8", "int4"}}, {"28GB", {"fp16", "int8", "int4"}}};
  for (const PaperLimit& c : cases) {
    const ProcessResult r = run({"memory", "--arch", "llama2-13b", "--limit", c.limit, "--json"});
    std::vector<std::string> fitting;
    for (const Json& row : Json::parse(r.output))
      if (row["fits"]) fitting.push_back(row["bit_width"]);
    EXPECT_EQ(fitting, c.fitting) << c.limit;
    EXPECT_EQ(r.code, c.fitting.empty() ? 1 : 0) << c.limit;
  }
}

TEST_F(ProgramTest, BenchAndQuantizeAndDeployWorkAlone) {
  ASSERT_TRUE(run({"quantize", path("tiny-f16.gguf"), "int4", "--quiet"}).ok());
  EXPECT_TRUE(fs::exists(folder_ / "tiny-Q4_0.gguf"));
  const ProcessResult bench =
      run({"bench", path("tiny-f16.gguf"), path("tiny-Q4_0.gguf"), "-p", "8", "-n", "8", "-r", "2", "--json"});
  ASSERT_TRUE(bench.ok()) << bench.errors;
  const Json rows = Json::parse(bench.output);
  EXPECT_EQ(rows[0]["ratio_to_first"]["median"], 1.0);
  EXPECT_EQ(rows[1]["type"], "Q4_0");
  EXPECT_GT(rows[1]["generate_tokens_per_s"], 0);
  ASSERT_TRUE(run({"quantize", path("tiny-f16.gguf"), "Q4_K_M", "--quiet"}).ok());  // whose main type is Q4_K
  for (const std::string type : {"Q4_0", "Q4_K_M"}) {
    const ProcessResult deploy =
        run({"deploy", path("tiny-" + type + ".gguf"), "--rounds", "2", "--kernel-rounds", "0", "--pairs", "1", "-p",
             "8", "-n", "8", "--output", path("deployed-" + type), "--json"});
    ASSERT_TRUE(deploy.ok()) << deploy.errors;
    const Json summary = Json::parse(deploy.output);
    EXPECT_EQ(summary["decision"]["bit_width"], "int4");
    EXPECT_EQ(summary["bundle"]["model"], "tiny-" + type + ".gguf");
    for (const Json& trial : summary["trials"]) EXPECT_EQ(trial["state"], "complete") << trial;
  }
}

struct BadInput {
  const char* what;
  std::vector<std::string> arguments;  ///< "@name" is a path in the test's folder
  int code;
  std::string expected;
};
TEST_F(ProgramTest, BadInputIsOneLineThatSaysWhatToDo) {
  const std::string model = read_file(folder_ / "tiny-f16.gguf");
  write("truncated.gguf", model.substr(0, model.size() / 2));
  write("header.gguf", model.substr(0, 3000));
  write("text.gguf", "This is no model.");
  write("empty.gguf", "");
  write("empty.yaml", "");
  write("list.yaml", "- model\n");
  write("unknown.yaml", "model: tiny-f16.gguf\n\nmodle: x\n");
  write("type.yaml", "model: tiny-f16.gguf\ncontext: many\n");
  write("missing.yaml", "model: nowhere.gguf\n");
  write("unit.yaml", "model: tiny-f16.gguf\nmemory_limit: 10Q\n");
  write("negative.yaml", "model: tiny-f16.gguf\nmemory_limit: -4GB\n");
  write("device.yaml", "model: tiny-f16.gguf\ndevice: toaster\n");
  write("small.yaml", "model: tiny-f16.gguf\nmemory_limit: 40MB\n");
  write("broken.yaml", "model: [tiny\n");
  write("key.yaml", "model: tiny-f16.gguf\nagent: {provider: openai, base_url: 'http://u:secret@x/v1', model: m}\n");
  write("words.txt", "too short");
  write("short.yaml", "model: tiny-f16.gguf\ncalibration: words.txt\n");
  write("dir.yaml", "model: tiny-f16.gguf\ncalibration: .\n");
  const std::vector<BadInput> cases = {
      {"truncated", {"memory", "@truncated.gguf"}, 1, "truncated.gguf"},
      {"cut in the header", {"memory", "@header.gguf"}, 1, "header.gguf"},
      {"no GGUF", {"memory", "@text.gguf"}, 1, "text.gguf"},
      {"empty model", {"bench", "@empty.gguf"}, 1, "empty.gguf"},
      {"folder", {"quantize", "@", "Q4_0"}, 1, "folder"},
      {"no file", {"bench", "@no.gguf"}, 1, "no.gguf"},
      {"vocabulary", {"memory", default_vocabulary().string()}, 1, "vocab"},
      {"empty task", {"run", "@empty.yaml"}, 2, "empty.yaml: is empty"},
      {"list", {"run", "@list.yaml"}, 2, "list.yaml:1"},
      {"unknown key", {"run", "@unknown.yaml"}, 2, "unknown.yaml:3: unknown key \"modle\""},
      {"wrong type", {"run", "@type.yaml"}, 2, "type.yaml:2: context"},
      {"missing file", {"run", "@missing.yaml"}, 2, "missing.yaml:1: model"},
      {"bad unit", {"run", "@unit.yaml"}, 2, "unit.yaml:2"},
      {"negative limit", {"run", "@negative.yaml"}, 2, "negative.yaml:2"},
      {"unknown device", {"run", "@device.yaml"}, 2, "adreno-740"},
      {"broken YAML", {"run", "@broken.yaml"}, 2, "broken.yaml:"},
      {"key in the address", {"run", "@key.yaml"}, 2, "HAQA_API_KEY"},
      {"no task", {"run"}, 2, "name a task file"},
      {"no such task", {"run", "@no.yaml"}, 1, "no.yaml"},
      {"nothing fits", {"run", "@small.yaml", "--output", "@out"}, 1, "more than the limit"},
      {"output holds files", {"run", "@task.yaml", "--output", "@"}, 1, "holds other files"},
      {"key in --base-url",
       {"deploy", "@tiny-f16.gguf", "--agent", "openai", "--base-url", "http://u:secret@x/v1", "--output", "@out"},
       2,
       "HAQA_API_KEY"},
      {"key in a query",
       {"deploy", "@tiny-f16.gguf", "--agent", "openai", "--base-url", "http://x/v1?k=secret", "--output", "@out"},
       2,
       "HAQA_BASE_URL"},
      {"no transcript", {"run", "@task.yaml", "--replay", "@no.jsonl", "--output", "@out"}, 1, "no.jsonl"},
      {"resume elsewhere", {"run", "--resume", "@out", "--output", "@other"}, 2, "--output"},
      {"empty limit", {"memory", "@tiny-f16.gguf", "--limit", ""}, 2, "--limit"},
      {"comma in the path", {"bench", "@a,b.gguf"}, 2, "comma"},
      {"not UTF-8", {"run", "@task.yaml", "--output", "@n\xff"}, 2, "UTF-8"},
      {"seed", {"deploy", "@tiny-f16.gguf", "--seed", "9999999999", "--output", "@out"}, 2, "--seed"},
      {"sizes that overflow",
       {"deploy", "@tiny-f16.gguf", "-p", "2147483647", "-n", "2147483647", "--output", "@out"},
       2,
       "prompt-tokens"},
      {"no folder for the output",
       {"quantize", "@tiny-f16.gguf", "Q4_0", "-o", "/nosuch/x.gguf"},
       1,
       "no folder /nosuch"},
      {"short calibration", {"run", "@short.yaml", "--output", "@out"}, 1, "give a longer calibration text"},
      {"calibration is a folder", {"run", "@dir.yaml", "--output", "@out"}, 1, "cannot be read"},
      {"unwritable output", {"run", "@task.yaml", "--output", "/proc/nothing/run"}, 1, "/proc/nothing/run"},
      {"output is a file", {"run", "@task.yaml", "--output", "@text.gguf"}, 1, "text.gguf"},
      {"nothing to resume", {"run", "--resume", "@nothing"}, 1, "holds no run"},
      {"bad limit", {"memory", "@tiny-f16.gguf", "--limit", "10Q"}, 2, "10Q"},
      {"unknown architecture", {"memory", "--arch", "gpt9"}, 2, "llama2-13b"},
      {"unknown type", {"quantize", "@tiny-f16.gguf", "Q9"}, 2, "Q4_0"},
      {"unknown flag", {"run", "--colour"}, 2, "--colour"},
      {"no command", {}, 2, "a command is missing; choose one of run, deploy"},
      {"unknown command", {"frobnicate"}, 2, "'frobnicate' is no command; choose one of run, deploy"},
      {"timeout that is no number", {"bench", "@tiny-f16.gguf", "--timeout", "nan"}, 2, "--timeout"},
      {"seed below 0", {"make-model", "tiny", "--seed", "-1", "-o", "@made.gguf"}, 2, "--seed"},
      {"not a run", {"show", "@"}, 1, "summary.json"},
      {"no model name", {"deploy", "@tiny-f16.gguf", "--agent", "openai", "--output", "@out"}, 2, "HAQA_MODEL"},
  };
  task();
  const std::vector<std::string> before = left_behind();
  for (BadInput c : cases) {
    for (std::string& a : c.arguments)
      if (a.starts_with('@')) a = path(a.substr(1));
    const ProcessResult r = run(c.arguments);
    EXPECT_EQ(r.end, ProcessEnd::exited) << c.what;
    EXPECT_EQ(r.code, c.code) << c.what << ": " << r.errors;
    EXPECT_THAT(r.errors, HasSubstr(c.expected)) << c.what;
    const size_t message = r.errors.find("haqa: ");
    ASSERT_NE(message, std::string::npos) << c.what << ": " << r.errors;
    EXPECT_EQ(count_lines(r.errors.substr(message)), 1) << c.what << ": " << r.errors;
    EXPECT_THAT(r.errors, Not(HasSubstr("secret"))) << c.what;
    EXPECT_EQ(left_behind(), before) << c.what;
  }
}

TEST_F(ProgramTest, AFullDiskIsAnErrorAndLeavesNothing) {
  const std::string script = "mkdir " + path("disk") + " && mount -t tmpfs -o size=8m none " + path("disk") +
                             " && \"$0\" quantize " + path("tiny-f16.gguf") + " Q8_0 -o " + path("disk/q.gguf") +
                             "; status=$?; ls -A " + path("disk") + "; exit $status";
  Command command{{"unshare", "--mount", "/bin/sh", "-c", script, HAQA_BIN_DIR "/haqa"}};
  if (!run_process({{"unshare", "--mount", "true"}}).ok()) GTEST_SKIP() << "no right to mount a small disk";
  const ProcessResult r = run_process(command);
  EXPECT_EQ(r.code, 1) << r.errors;
  EXPECT_THAT(r.errors, HasSubstr("are needed for the Q8_0 file"));
  EXPECT_THAT(r.output, IsEmpty());
}

TEST_F(ProgramTest, LostOutputIsAFailure) {
  for (const char* script : {"exec \"$0\" memory --arch llama2-7b > /dev/full", "exec \"$0\" --help > /dev/full"}) {
    const ProcessResult r = run_process({{"/bin/sh", "-c", script, HAQA_BIN_DIR "/haqa"}});
    EXPECT_EQ(r.end, ProcessEnd::exited);
    EXPECT_EQ(r.code, 1) << script;
    EXPECT_THAT(r.errors, HasSubstr("standard output cannot be written"));
  }
  EXPECT_EQ(run_process({{"/bin/sh", "-c", "exec \"$0\" bad 2>&-", HAQA_BIN_DIR "/haqa"}}).code, 2);
}

TEST_F(ProgramTest, HelpNamesEveryCommandWithExamples) {
  const ProcessResult all = run({"--help"});
  ASSERT_TRUE(all.ok());
  for (const char* name : {"run", "deploy", "hardware", "memory", "bench", "quantize", "show", "make-model", "pretrain",
                           "data", "completion"}) {
    EXPECT_THAT(all.output, HasSubstr(std::string("\n  ") + name + " ")) << name;
    EXPECT_THAT(run({name, "--help"}).output, HasSubstr("Example")) << name;
  }
  const ProcessResult completion = run({"completion"});
  Command check{{"/bin/bash", "-c",
                 "eval \"$0\" && COMP_WORDS=(haqa mem) COMP_CWORD=1 && _haqa && echo ${COMPREPLY[0]}",
                 completion.output}};
  EXPECT_EQ(run_process(check).output, "memory\n");
}

}  // namespace
}  // namespace haqa
