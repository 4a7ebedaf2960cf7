// haqa run and haqa deploy where the options that win run the module: its kernels are tuned in the model.
#include "haqa/worker/process.h"
#include "tests/program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class ServedKernelsTest : public ProgramTest {
 protected:
  void SetUp() override {
    if (!fs::exists(HAQA_BIN_DIR "/libggml-haqa.so")) GTEST_SKIP() << "this build has no module";
    use_llama_bench(kModuleIsFaster);
  }
  Json with_kernels(const std::string& section, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"run", task("bit_widths: [int8]\nkernels: " + section + "\n"), "-o", path("run"),
                                      "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const ProcessResult r = run(words);
    EXPECT_TRUE(r.ok()) << r.errors;
    log_ = r.errors;
    return Json::parse(r.output);
  }
  std::string log_;
};

TEST_F(ServedKernelsTest, WhatIsConfirmedInTheModelServesAndIsBundled) {
  const Json summary = with_kernels("{rounds: 2, names: [matvec, attention]}");
  ASSERT_TRUE(summary.contains("kernels")) << summary["trials"];
  const Json kernels = summary["kernels"]["kernels"];
  ASSERT_EQ(kernels.size(), 2u);
  for (const Json& k : kernels) {
    EXPECT_EQ(k["trials"].size(), 2u) << k["name"];
    EXPECT_LT(k["stock"]["speedup"]["median"], 1) << k["name"];
    for (const Json& trial : k["trials"]) EXPECT_NE(trial["thought"], "");
    const bool is_product = k["name"] == "matvec-Q8_0";
    EXPECT_EQ(k["serves"], is_product ? "variant" : "default") << k["why"];
    EXPECT_EQ(k["trials"][1]["value"].get<double>() > 1, is_product);
  }
  EXPECT_TRUE(summary["verification"]["confirmed"]);
  EXPECT_NEAR(summary["verification"]["speedup"]["median"].get<double>(), 8.0 / 3, 0.01) << "with the variant";

  const fs::path module = folder_ / "run/bundle/haqa";
  const Json tuning = read_json(module / "haqa-tuning.json");
  EXPECT_EQ(tuning["kernels"], summary["kernels"]["tuning"]["kernels"]);
  ASSERT_EQ(tuning["kernels"].size(), 1u);
  EXPECT_TRUE(tuning["stock"].empty());
  for (const char* key : {"file", "source"})
    EXPECT_TRUE(fs::exists(module / tuning["kernels"][0][key].get<std::string>()));

  // The real llama-bench, where the bundle was moved.
  fs::rename(folder_ / "run/bundle", folder_ / "moved");
  Command verify{{(folder_ / "moved/verify.sh").string()}};
  verify.environment = {{"LLAMA_BENCH", (llama_bin_folder() / "llama-bench").string()}, {"TOKENS", "8"}};
  const ProcessResult verified = run_process(verify);
  EXPECT_TRUE(verified.ok()) << verified.errors;
  EXPECT_THAT(verified.output, HasSubstr("times as fast"));

  const std::string page = read_file(folder_ / "run/report.html");
  for (const char* part : {">Kernels<", "stock code", "matvec-Q8_0: a variant serves", "confirmed: "})
    EXPECT_THAT(page, HasSubstr(part));
  const ProcessResult shown = run({"show", path("run")});
  EXPECT_THAT(shown.output, HasSubstr("Kernels in the model"));
  EXPECT_THAT(shown.output, HasSubstr("attention-F16: the kernel that ships serves, as no variant was faster"));
}

TEST_F(ServedKernelsTest, AKilledRunLosesNoVariant) {
  const std::string file = task("bit_widths: [int8]\nkernels: {rounds: 3, names: [matvec]}\n");
  const fs::path log = folder_ / "run/log.jsonl";
  {
    BackgroundProcess first(haqa({"run", file, "-o", path("run"), "-q"}), folder_ / "first.log");
    ASSERT_TRUE(wait_until([&] { return trials_in(log) >= 5 || !first.running(); }));
    ASSERT_TRUE(first.running()) << read_file(folder_ / "first.log");
    first.signal(SIGKILL);
    ASSERT_TRUE(wait_until([&] { return !first.running(); }));
  }
  const std::string before = read_file(log);
  const Json unfinished = Json::parse(run({"show", path("run"), "--json"}).output);
  EXPECT_EQ(unfinished["trials"].size(), 3u);
  EXPECT_GE(unfinished["kernels"]["kernels"][0]["trials"].size(), 2u);
  const ProcessResult r = run({"run", "--resume", path("run"), "--json"});
  ASSERT_TRUE(r.ok()) << r.errors;
  const Json summary = Json::parse(r.output);
  EXPECT_EQ(summary["kernels"]["kernels"][0]["trials"].size(), 3u);
  EXPECT_EQ(summary["kernels"]["kernels"][0]["serves"], "variant");
  const std::string whole = before.substr(0, before.rfind('\n') + 1);
  EXPECT_EQ(read_file(log).substr(0, whole.size()), whole);
  EXPECT_EQ(trials_in(log), 6) << "nothing was measured twice";
}

TEST_F(ServedKernelsTest, TheyStayAsTheyShipWhereNobodyAsksOrTimeIsUp) {
  for (const char* section : {"{rounds: 0}", "{seconds: 0}"}) {
    const Json summary = with_kernels(section);
    EXPECT_TRUE(!summary.contains("kernels") || summary["kernels"]["kernels"].empty()) << section;
    EXPECT_TRUE(summary["verification"]["confirmed"]);
    EXPECT_FALSE(fs::exists(folder_ / "run/bundle/haqa/haqa-tuning.json"));
    EXPECT_FALSE(fs::exists(folder_ / "llama-bin/llama-bench.log")) << "no tuning file was timed";
    fs::remove_all(folder_ / "run");
  }
}

TEST_F(ServedKernelsTest, StockCodeServesWhereItIsFaster) {
  std::string script = kModuleIsFaster;  // and with stock code in a kernel's place faster still
  script.replace(script.find("ns + 2000000"), 12, "ns - 2000000");
  use_llama_bench(script);
  const Json summary = with_kernels("{rounds: 1, names: [matvec]}");
  ASSERT_TRUE(summary.contains("kernels"));
  const Json kernel = summary["kernels"]["kernels"][0];
  EXPECT_EQ(kernel["serves"], "stock") << kernel["why"];
  EXPECT_EQ(read_json(folder_ / "run/bundle/haqa/haqa-tuning.json")["stock"], Json({"matvec-Q8_0"}));
}

}  // namespace
}  // namespace haqa
