#include "haqa/deploy/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/base/text.h"
#include "haqa/model/make_model.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(Bundle, LaunchScriptRunsFromAnywhereWithAnyName) {
  const TemporaryFolder temporary;
  const fs::path folder = temporary.path();
  const std::string hostile = "it's $(touch oops) \"x\".gguf";
  std::ofstream(folder / hostile) << "GGUF";
  std::ofstream(folder / "server") << "#!/bin/sh\nfor a; do echo \"[$a]\"; done; echo \"$OMP_PROC_BIND\"\n";
  chmod((folder / "server").c_str(), 0755);
  RuntimeOptions options;
  options.threads = 2;
  options.affinity = "pinned";
  const Bundle bundle = write_bundle(folder / "out", {folder / hostile, options}, 512, {});
  EXPECT_EQ(bundle.bytes, 4u);
  std::filesystem::rename(folder / "out", folder / "moved here");
  Command launch{{(folder / "moved here/launch.sh").string(), "--port", "1"}};
  launch.environment = {{"LLAMA_SERVER", (folder / "server").string()}};
  const ProcessResult r = run_process(launch);
  EXPECT_EQ(
      r.output,
      "[--model]\n[" + (folder / "moved here" / hostile).string() +
          "]\n[--ctx-size]\n[512]\n[--parallel]\n[1]\n[--cache-ram]\n[0]\n[--threads]\n[2]\n[--port]\n[1]\nclose\n")
      << r.errors;
  EXPECT_FALSE(std::filesystem::exists("oops"));
}

class BundleTest : public testing::Test {
 protected:
  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  BundleTest() {
    write("llama-server", "#!/bin/sh\nfor a; do printf '%s\\0' \"$a\"; done\n");
    chmod((folder_ / "llama-server").c_str(), 0755);
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  /// The arguments that llama-server gets.
  std::vector<std::string> launched(const fs::path& bundle, const std::vector<std::string>& more = {}) {
    Command launch{{(bundle / "launch.sh").string()}};
    launch.argv.insert(launch.argv.end(), more.begin(), more.end());
    launch.environment = {{"LLAMA_SERVER", (folder_ / "llama-server").string()}, {"CDPATH", "/"}};
    const ProcessResult r = run_process(launch);
    EXPECT_TRUE(r.ok()) << r.describe();
    std::vector<std::string> all;
    for (size_t at = 0, end; (end = r.output.find('\0', at)) != std::string::npos; at = end + 1)
      all.push_back(r.output.substr(at, end - at));
    return all;
  }
};

TEST_F(BundleTest, HostileNamesAreOneWord) {
  for (const std::string name :
       {"a b.gguf", "'.gguf", "$HOME.gguf", "`id`.gguf", "a;b|c&d.gguf", "-x.gguf", "\\n.gguf", "*.gguf", "#.gguf",
        "{}.gguf", "\"q\".gguf", "two\nlines.gguf", "~.gguf", "m\u00fc.gguf"}) {
    write(name, "GGUF");
    const fs::path out = folder_ / "out";
    const Bundle bundle = write_bundle(out, {folder_ / name, {}}, 512, {});
    EXPECT_TRUE(run_process({{"/bin/sh", "-n", (out / "launch.sh").string()}}).ok()) << name;
    const std::vector<std::string> want = {"--model", (out / name).string(), "--ctx-size", "512", "--parallel",
                                           "1",       "--cache-ram",         "0",          "a b", "--port"};
    EXPECT_EQ(launched(out, {"a b", "--port"}), want) << name;
    // The command of the report, run within the folder.
    Command shell{{"/bin/sh", "-c", "cd \"$0\" && " + bundle.command, out.string()}};
    shell.environment = {{"PATH", folder_.string() + ":/usr/bin:/bin"}};
    const ProcessResult typed = run_process(shell);
    EXPECT_EQ(typed.output.substr(0, 8 + name.size()), std::string("--model") + '\0' + name) << typed.errors;
    fs::remove_all(out);
  }
}

TEST_F(BundleTest, MovesWithItsFolder) {
  write("m.gguf", "GGUF");
  write_bundle(folder_ / "out", {folder_ / "m.gguf", {}}, 512, {});
  for (const char* place : {"it's here", "-dash", "$x", "new"}) {
    fs::copy(folder_ / "out", folder_ / place, fs::copy_options::recursive);
    EXPECT_EQ(launched(folder_ / place)[1], (folder_ / place / "m.gguf").string());
  }
  fs::create_directory(folder_ / "links");
  fs::create_symlink(folder_ / "out/launch.sh", folder_ / "links/launch.sh");
  EXPECT_EQ(launched(folder_ / "links")[1], (folder_ / "out/m.gguf").string()) << "called through a link";
  fs::remove(folder_ / "m.gguf");
  EXPECT_EQ(read_file(folder_ / "out/m.gguf"), "GGUF") << "what is left of the run may go";
}

TEST_F(BundleTest, HoldsTheTunedOptions) {
  write("m.gguf", "GGUF");
  RuntimeOptions o = {"", 1, 3, "pinned", "active", 64, 32, "on", "q8_0", "q4_0", "mmap+mlock", false, 5};
  const Bundle bundle = write_bundle(folder_ / "out", {folder_ / "m.gguf", o}, 4096, {});
  std::vector<std::string> want = {
      "--model", (folder_ / "out/m.gguf").string(), "--ctx-size", "4096", "--parallel", "1", "--cache-ram", "0"};
  for (const std::string& a : server_arguments(o)) want.push_back(a);
  EXPECT_EQ(launched(folder_ / "out"), want);
  EXPECT_THAT(read_file(folder_ / "out/launch.sh"), HasSubstr("export OMP_WAIT_POLICY=ACTIVE\n"));
  EXPECT_EQ(
      bundle.command.find("OMP_PLACES=cores OMP_PROC_BIND=close OMP_WAIT_POLICY=ACTIVE llama-server --model m.gguf"),
      0u);
}

// What the user's shell says to OpenMP was measured with, and goes with the bundle; the options' own words come first.
TEST_F(BundleTest, HoldsTheEnvironmentItWasMeasuredIn) {
  write("m.gguf", "GGUF");
  setenv("GOMP_SPINCOUNT", "1 2'3", 1);
  setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
  RuntimeOptions active;
  active.polling = "active";
  write_bundle(folder_ / "out", {folder_ / "m.gguf", {}}, 512, {});
  write_bundle(folder_ / "active", {folder_ / "m.gguf", active}, 512, {});
  unsetenv("GOMP_SPINCOUNT");
  unsetenv("OMP_WAIT_POLICY");
  const std::string script = read_file(folder_ / "out/launch.sh");
  EXPECT_THAT(script, HasSubstr("export GOMP_SPINCOUNT='1 2'\\''3'\nexport OMP_WAIT_POLICY=PASSIVE\n"));
  EXPECT_THAT(read_file(folder_ / "active/launch.sh"), HasSubstr("export OMP_WAIT_POLICY=ACTIVE\n"));
  EXPECT_FALSE(launched(folder_ / "out").empty());
}

// A second run into the same folder must not hand out the first run's model.
TEST_F(BundleTest, ReplacesAnotherModelOfTheSameName) {
  write("m.gguf", "old");
  write_bundle(folder_ / "out", {folder_ / "m.gguf", {}}, 512, {});
  fs::create_directory(folder_ / "other");
  write("other/m.gguf", "newer");
  const Bundle bundle = write_bundle(folder_ / "out", {folder_ / "other/m.gguf", {}}, 512, {});
  EXPECT_EQ(read_file(folder_ / "out/m.gguf"), "newer");
  EXPECT_EQ(bundle.bytes, 5u);
  EXPECT_EQ(read_file(folder_ / "m.gguf"), "old") << "the link, not the file, is replaced";
  write_bundle(folder_ / "out", {folder_ / "out/m.gguf", {}}, 512, {});  // onto itself
  EXPECT_EQ(read_file(folder_ / "out/m.gguf"), "newer");
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder_ / "out")) ++files;
  EXPECT_EQ(files, 4u) << "nothing temporary is left";
}

TEST_F(BundleTest, BringsTheModuleThatItsOptionsRun) {
  if (backend_module().empty()) GTEST_SKIP() << "this build has no module";
  write("m.gguf", "GGUF");
  RuntimeOptions options;
  options.kernels = "haqa";
  const Bundle bundle = write_bundle(folder_ / "out", {folder_ / "m.gguf", options}, 512, {});
  EXPECT_THAT(bundle.command, testing::StartsWith("GGML_BACKEND_PATH=haqa/libggml-haqa.so "));
  EXPECT_THAT(bundle.command, testing::EndsWith(" --device HAQA"));
  fs::rename(folder_ / "out", folder_ / "moved here");
  EXPECT_FALSE(fs::is_empty(folder_ / "moved here/haqa/kernels"));
  for (const bool is_served : {true, false}) {
    const std::string devices = is_served ? "  HAQA: tuned kernels" : "Available devices:";
    write("llama-server", "#!/bin/sh\n[ \"$1\" = --list-devices ] && echo '" + devices +
                              "' && exit\necho \"$GGML_BACKEND_PATH$HAQA_TUNING\"\necho \"$*\"\n");
    Command launch{{(folder_ / "moved here/launch.sh").string(), "--port", "1"}};
    launch.environment = {{"LLAMA_SERVER", (folder_ / "llama-server").string()},
                          {"HAQA_TUNING", "/elsewhere"},
                          {"GGML_BACKEND_PATH", "/elsewhere"}};
    const std::string output = run_process(launch).output;
    const fs::path named = output.substr(0, output.find('\n'));
    EXPECT_EQ(named, folder_ / "moved here/haqa/libggml-haqa.so");
    EXPECT_TRUE(fs::exists(named));
    EXPECT_THAT(output, testing::EndsWith(is_served ? " --device HAQA --port 1\n" : "--cache-ram 0 --port 1\n"));
  }
}

/// A llama-bench that is 2.5 times as fast where the module is named, and notes its arguments; on a processor whose
/// name has commas and quotes.
constexpr const char* kBench = R"sh(#!/bin/sh
echo "${GGML_BACKEND_PATH:+module }${HAQA_TUNING:+tuning }$*" >>"$0.log"
[ -n "$GGML_BACKEND_PATH" ] && result='"HAQA", ' rate=25 || result='"CPU", ' rate=10
[ -n "$REFUSED" ] && echo 'haqa: another GPU; stock code serves' >&2 && result='"CPU", '
[ -n "$BROKEN" ] && echo 'error: no such model' >&2 && exit 1
echo '{"cpu_info": "OpenBLAS, \"Intel\", 1 GHz", "backends": '"$result"'"n_prompt": 128, "avg_ns": 5, "avg_ts": '"$rate"'.000000, "stddev_ts": 0.1, "samples_ts": [ 9.9 ]}'
)sh";

class VerifyTest : public BundleTest {
 protected:
  void SetUp() override {
    if (backend_module().empty()) GTEST_SKIP() << "this build has no module";
    write("m.gguf", "GGUF");
    write("llama-bench", kBench);
    chmod((folder_ / "llama-bench").c_str(), 0755);
    RuntimeOptions options;
    options.kernels = "haqa";
    options.threads = 2;
    write_bundle(folder_ / "out", {folder_ / "m.gguf", options}, 512, {});
    verify_.argv = {(folder_ / "out/verify.sh").string()};
    verify_.environment = {{"LLAMA_BENCH", (folder_ / "llama-bench").string()}};
  }
  Command verify_;
};

/// With what the user's shell has of another module.
TEST_F(VerifyTest, ComparesWithStockInTurn) {
  verify_.environment.emplace_back("GGML_BACKEND_PATH", "/elsewhere/libggml-haqa.so");
  verify_.environment.emplace_back("HAQA_TUNING", "/elsewhere/tuning.json");
  const ProcessResult r = run_process(verify_);
  EXPECT_TRUE(r.ok()) << r.describe();
  const std::string rest =
      "stock    10.00 tokens/s, this bundle    25.00: 2.50 times as fast (2.50 to 2.50 over 5 pairs), by CPU and HAQA";
  EXPECT_EQ(r.output, "prompt      " + rest + "\ngeneration  " + rest + "\n");
  const std::string log = read_file(folder_ / "llama-bench.log");
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 20);
  EXPECT_THAT(log, HasSubstr("module -m " + (folder_ / "out/m.gguf").string() + " -r 1 -o jsonl -p 128 -n 0 -t 2"));
  std::string order;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    order += line.starts_with("module -m") ? 't' : line[0] == '-' ? 's' : '?';
  EXPECT_EQ(order,
            "stts"
            "stts"
            "st"
            "stts"
            "stts"
            "st")
      << "whoever comes first";
}

TEST_F(VerifyTest, FailsWhereTheModuleDoesNotServe) {
  verify_.environment.emplace_back("REFUSED", "1");
  const ProcessResult refused = run_process(verify_);
  EXPECT_EQ(refused.code, 1);
  EXPECT_EQ(refused.output, "");
  EXPECT_THAT(refused.errors, HasSubstr("haqa: another GPU; stock code serves\nverify.sh: the bundle's kernels do not "
                                        "serve here: " +
                                        (folder_ / "llama-bench").string() + " ran CPU"));
  verify_.environment.back().first = "BROKEN";
  const ProcessResult broken = run_process(verify_);
  EXPECT_EQ(broken.code, 1);
  EXPECT_THAT(broken.errors, HasSubstr("error: no such model\nverify.sh: "));
  verify_.environment = {{"LLAMA_BENCH", "/nowhere/llama-bench"}};
  EXPECT_THAT(run_process(verify_).errors, HasSubstr("no /nowhere/llama-bench; set LLAMA_BENCH"));
}

TEST_F(VerifyTest, TheRealLlamaBenchIsUnderstood) {
  make_model(model_shape("tiny"), default_vocabulary(), 1, folder_ / "out/m.gguf");
  verify_.environment = {{"LLAMA_BENCH", (llama_bin_folder() / "llama-bench").string()}, {"TOKENS", "4"}};
  const ProcessResult r = run_process(verify_);
  EXPECT_TRUE(r.ok()) << r.describe();
  EXPECT_THAT(r.output, HasSubstr("over 5 pairs), by CPU and HAQA\n"));
}

TEST_F(BundleTest, FollowsASymbolicLinkToTheModel) {
  write("blob", "GGUF");
  fs::create_symlink("blob", folder_ / "m.gguf");
  write_bundle(folder_ / "out", {folder_ / "m.gguf", {}}, 512, {});
  EXPECT_FALSE(fs::is_symlink(folder_ / "out/m.gguf"));
  EXPECT_EQ(read_file(folder_ / "out/m.gguf"), "GGUF");
}

TEST_F(BundleTest, FaultsAreErrors) {
  EXPECT_THROW(write_bundle(folder_ / "out", {folder_ / "missing.gguf", {}}, 512, {}), Error);
  write("file", "");
  write("m.gguf", "GGUF");
  EXPECT_THROW(write_bundle(folder_ / "file", {folder_ / "m.gguf", {}}, 512, {}), Error);
}

// Names come from drivers and firmware.
TEST_F(BundleTest, AProfileThatIsNotUtf8IsWrittenAllTheSame) {
  write("m.gguf", "GGUF");
  HardwareProfile profile;
  profile.name = "GPU \xff";
  write_bundle(folder_ / "out", {folder_ / "m.gguf", {}}, 512, profile);
  EXPECT_THAT(read_json(folder_ / "out/profile.json")["name"].get<std::string>(), HasSubstr("GPU"));
}

}  // namespace
}  // namespace haqa
