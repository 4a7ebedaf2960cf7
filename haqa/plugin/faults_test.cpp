// What may be wrong around the module: unmodified llama-bench runs on, with the module or without it, and its log says
// why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llama.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/processor_levels.h"
#include "haqa/model/make_model.h"
#include "haqa/plugin/module_test_support.h"
#include "haqa/plugin/tuning.h"
#include "haqa/worker/process.h"
#include "haqa/worker/process_test_support.h"

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
  Json other_format = good, other_processor = good, other_variant = good, no_hash = good, endless = good,
       odd_rows = good, no_kernels = good;
  other_format["format"] = 2;
  other_processor["processor"] = "a 6502";
  other_variant["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", "nowhere.so"}, {"hash", "0"}}};
  no_hash["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", "nowhere.so"}, {"hash", ""}}};
  endless["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", "/dev/zero"}, {"hash", "0"}}};
  odd_rows["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"rows", 1e300}, {"file", "a.so"}, {"hash", "0"}}};
  no_kernels.erase("kernels");
  for (const auto& [json, why] : {std::pair(other_format, "is of another version"),
                                  {other_processor, "was made on another processor (a 6502)"},
                                  {other_variant, "is missing or not the one that was measured"},
                                  {no_hash, "is missing or not the one that was measured"},
                                  {endless, "is missing or not the one that was measured"},
                                  {odd_rows, "rows must be a whole number"},
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
  const fs::path module = copy_of_module(folder_.path() / "copy"), kernels = module.parent_path() / "kernels";
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
  const fs::path module = copy_of_module(folder_.path() / "copy");
  fs::remove_all(module.parent_path() / "kernels");
  const Run run = bench(module);
  EXPECT_EQ(run.backend, "CPU");
  EXPECT_THAT(run.log, HasSubstr("no compiled kernel"));
}

/// What may be written is limited, as a container's memory is; the file, which is read only, does not count.
TEST_F(Faults, WithoutMemoryTheHostEndsAndTheLogSaysWhy) {
  const auto limited = [&](const std::string& kilobytes) {
    Command command{{"/bin/sh", "-c", "ulimit -d " + kilobytes + " && exec \"$0\" \"$@\"",
                     (llama_bin_folder() / "llama-bench").string(), "-m", model().string(), "-p", "16", "-n", "0", "-r",
                     "1", "-t", "2", "-v"}};
    command.environment = {{"GGML_BACKEND_PATH", HAQA_BIN_DIR "/libggml-haqa.so"}, {"HAQA_TUNING", "/nowhere"}};
    command.timeout_s = 120;
    return run_process(command);
  };
  EXPECT_TRUE(limited("unlimited").ok());
  const ProcessResult r = limited("150000");
  EXPECT_EQ(r.end, ProcessEnd::exited) << r.describe();
  EXPECT_NE(r.code, 0);
  EXPECT_THAT(r.errors, HasSubstr("haqa: there is no memory"));
}

TEST_F(Faults, TwoModulesAtOnceAreOne) {
  const fs::path other = copy_of_module(folder_.path() / "other");
  const int status = in_process([&] {
    module_device();
    const bool is_refused = !ggml_backend_load(other.c_str());
    size_t devices = 0;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i)
      devices += std::string(ggml_backend_dev_name(ggml_backend_dev_get(i))) == "HAQA";
    return is_refused && devices == 1 ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
}

/// As servers do that load first; packing must leave no threads behind that a child does not have.
TEST_F(Faults, AChildOfAHostThatLoadedComputes) {
  const int status = in_process([&] {
    ggml_backend_dev_t devices[] = {module_device(), nullptr};
    llama_model_params params = llama_model_default_params();
    params.devices = devices;
    llama_model* loaded = llama_model_load_from_file(model().c_str(), params);
    llama_context_params c = llama_context_default_params();
    c.n_threads = c.n_threads_batch = 2;
    llama_context* context = llama_init_from_model(loaded, c);
    return in_process([&] {
      alarm(60);
      std::vector<llama_token> tokens = {1, 5, 6, 7};
      return llama_decode(context, llama_batch_get_one(tokens.data(), 4));
    });
  });
  EXPECT_EQ(status, 0);
}

TEST_F(Faults, ThreadsMayBeFewOrMoreThanProcessors) {
  for (const int threads : {1, 3, 9})
    EXPECT_EQ(bench(fs::path(HAQA_BIN_DIR) / "libggml-haqa.so", {{"HAQA_TUNING", "/nowhere"}}, threads).backend,
              "HAQA");
}

}  // namespace
}  // namespace haqa
