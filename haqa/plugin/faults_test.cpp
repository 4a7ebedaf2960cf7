// What may be wrong around the module: unmodified llama-bench runs on, with the module or without it, and its log says
// why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/processor_levels.h"
#include "haqa/model/make_model.h"
#include "haqa/plugin/tuning.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Faults : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryFolder;
    make_model(model_shape("tiny"), default_vocabulary(), 1, model());
  }
  static void TearDownTestSuite() { delete shared_; }
  static fs::path model() { return shared_->path() / "tiny.gguf"; }

  /// The module and its kernels in a folder of their own, so that a test may break them.
  fs::path copy_of_module() const {
    const fs::path bin = HAQA_BIN_DIR, to = folder_.path() / "copy";
    fs::create_directories(to / "kernels");
    fs::copy_file(bin / "libggml-haqa.so", to / "libggml-haqa.so");
    for (const auto& entry : fs::directory_iterator(bin / "kernels"))
      fs::copy_file(entry.path(), to / "kernels" / entry.path().filename());
    return to / "libggml-haqa.so";
  }

  struct Run {
    std::string backend;  ///< that llama-bench names
    std::string log;
  };
  Run bench(const fs::path& module, std::vector<std::pair<std::string, std::string>> environment = {},
            int threads = 2) const {
    Command command{{(llama_bin_folder() / "llama-bench").string(), "-m", model().string(), "-p", "16", "-n", "4", "-r",
                     "1", "-t", std::to_string(threads), "-o", "json"}};
    environment.emplace_back("GGML_BACKEND_PATH", module.string());
    command.environment = std::move(environment);
    command.timeout_s = 120;
    const ProcessResult result = run_process(command);
    EXPECT_TRUE(result.ok()) << result.describe();
    const size_t begin = result.output.find("[\n");
    const Json rows = Json::parse(result.output.substr(begin == std::string::npos ? 0 : begin), nullptr, false);
    EXPECT_TRUE(rows.is_array()) << result.output;
    return {rows.is_array() ? rows.at(0).value("backends", "") : "", result.errors};
  }

  void write(const fs::path& file, const Json& json) const { std::ofstream(file) << json; }
  fs::path tuning() const { return folder_.path() / "tuning.json"; }

  const TemporaryFolder folder_;

 private:
  static inline TemporaryFolder* shared_ = nullptr;
};

TEST_F(Faults, TuningFilesThatDoNotFitLeaveTheDefaults) {
  const fs::path module = fs::path(HAQA_BIN_DIR) / "libggml-haqa.so";
  const Json good = {
      {"format", 1}, {"processor", processor_identity()}, {"stock", Json::array()}, {"kernels", Json::array()}};
  Json other_format = good, other_processor = good, other_variant = good, no_kernels = good;
  other_format["format"] = 2;
  other_processor["processor"] = "a 6502";
  other_variant["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", "nowhere.so"}, {"hash", "0"}}};
  no_kernels.erase("kernels");
  for (const auto& [json, why] : {std::pair(other_format, "is of another version"),
                                  {other_processor, "was made on another processor (a 6502)"},
                                  {other_variant, "is missing or not the one that was measured"},
                                  {no_kernels, "cannot be used"},
                                  {Json("text"), "cannot be used"}}) {
    write(tuning(), json);
    const Run run = bench(module, {{"HAQA_TUNING", tuning().string()}});
    EXPECT_EQ(run.backend, "HAQA");
    EXPECT_THAT(run.log, HasSubstr(why));
  }
  std::ofstream(tuning()) << "{\"format\": 1, ";
  EXPECT_THAT(bench(module, {{"HAQA_TUNING", tuning().string()}}).log, HasSubstr("cannot be used"));
  EXPECT_THAT(bench(module, {{"HAQA_TUNING", "/nowhere"}}).log, HasSubstr("there is no /nowhere"));
}

TEST_F(Faults, AVariantOfTheTuningFileServesAndOneThatIsNoKernelDoesNot) {
  const fs::path module = copy_of_module(), kernels = module.parent_path() / "kernels";
  fs::path tuned;
  for (const auto& entry : fs::directory_iterator(kernels))
    if (entry.path().filename().string().starts_with("matvec-F16-")) tuned = entry.path();
  ASSERT_FALSE(tuned.empty());
  Json json = {{"format", 1}, {"processor", processor_identity()}, {"stock", {"attention"}}};
  json["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", tuned.filename()}, {"hash", file_hash(tuned)}}};
  write(kernels / "tuning.json", json);
  const Run good = bench(module, {{"HAQA_TUNING", (kernels / "tuning.json").string()}});
  EXPECT_EQ(good.backend, "HAQA");
  EXPECT_THAT(good.log, testing::Not(HasSubstr("default serves")));
  std::ofstream(tuned) << "no library";
  json["kernels"][0]["hash"] = file_hash(tuned);
  write(kernels / "tuning.json", json);
  EXPECT_THAT(bench(module, {{"HAQA_TUNING", (kernels / "tuning.json").string()}}).log, HasSubstr("default serves"));
}

TEST_F(Faults, WithoutKernelsStockCodeServes) {
  const fs::path module = copy_of_module();
  fs::remove_all(module.parent_path() / "kernels");
  const Run run = bench(module);
  EXPECT_EQ(run.backend, "CPU");
  EXPECT_THAT(run.log, HasSubstr("no compiled kernel"));
}

TEST_F(Faults, ThreadsMayBeFewOrMoreThanProcessors) {
  for (const int threads : {1, 3, 9})
    EXPECT_EQ(bench(fs::path(HAQA_BIN_DIR) / "libggml-haqa.so", {{"HAQA_TUNING", "/nowhere"}}, threads).backend,
              "HAQA");
}

}  // namespace
}  // namespace haqa
