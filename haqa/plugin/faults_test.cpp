// What may be wrong around the module: unmodified llama-bench runs on, with the module or without it, and its log says
// why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llama.h>
#include <sys/resource.h>
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
  Run bench(const fs::path& module, std::vector<std::pair<std::string, std::string>> environment = {}) const {
    Command command{{(llama_bin_folder() / "llama-bench").string(), "-m", model().string(), "-p", "16", "-n", "4", "-r",
                     "1", "-t", "2", "-o", "json"}};
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
       outside = good, odd_rows = good, no_kernels = good;
  other_format["format"] = 2;
  other_processor["processor"] = "a 6502";
  other_variant["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", "nowhere.so"}, {"hash", "0"}}};
  no_hash["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", "nowhere.so"}, {"hash", ""}}};
  endless["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", "/dev/zero"}, {"hash", "0"}}};
  outside["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"file", "kernels/../../a.so"}, {"hash", "0"}}};
  odd_rows["kernels"] = {{{"kernel", "matvec"}, {"type", "F16"}, {"rows", 1e300}, {"file", "a.so"}, {"hash", "0"}}};
  no_kernels.erase("kernels");
  for (const auto& [json, why] : {std::pair(other_format, "is of another version"),
                                  {other_processor, "was made on another processor (a 6502)"},
                                  {other_variant, "is missing or not the one that was measured"},
                                  {no_hash, "is missing or not the one that was measured"},
                                  {endless, "file must name one within the tuning file's folder"},
                                  {outside, "file must name one within the tuning file's folder"},
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

/// Entries with the compiled kernels that ship, each under a name of its own.
class Variants : public Faults {
 protected:
  void SetUp() override {
    module_ = copy_of_module(folder_.path() / "copy");
    for (const char* kernel : {"matvec-F16", "matvec-Q8_0", "rms_norm-F32"}) {
      const std::string name = std::string(kernel) + "-";
      for (const auto& entry : fs::directory_iterator(module_.parent_path() / "kernels"))
        if (entry.path().filename().string().starts_with(name) &&
            entry.path().string().find(best_level()) != std::string::npos)
          fs::copy_file(entry.path(), module_.parent_path() / (name + "tuned.so"));
      ASSERT_TRUE(fs::exists(module_.parent_path() / (name + "tuned.so")));
    }
  }
  static std::string best_level() { return processor_levels().front(); }
  std::string hash_of(const std::string& file) const { return OpenFile(module_.parent_path() / file).hash(); }
  /// The log of llama-bench with a tuning file of these entries, each of which has its file's hash.
  std::string log_with(Json kernels, const Json& stock = Json::array()) const {
    for (Json& kernel : kernels) kernel["hash"] = hash_of(kernel["file"]);
    write(module_.parent_path() / "haqa-tuning.json",
          {{"format", 1}, {"processor", processor_identity()}, {"stock", stock}, {"kernels", kernels}});
    const Run run = bench(module_);
    EXPECT_EQ(run.backend, "HAQA") << run.log;
    return run.log;
  }
  std::string path_of(const std::string& file) const { return (module_.parent_path() / file).string(); }

  fs::path module_;
};

TEST_F(Variants, OfTheTuningFileServeWhereTheyAreWhatItSays) {
  const Json good = {{"kernel", "matvec"}, {"type", "F16"}, {"file", "matvec-F16-tuned.so"}};
  Json other_type = good, no_products = good, of_rows = good;
  other_type["type"] = "Q8_0";
  no_products["file"] = "rms_norm-F32-tuned.so";
  of_rows = {{"kernel", "rms_norm"}, {"type", "F32"}, {"rows", 64}, {"file", "rms_norm-F32-tuned.so"}};
  EXPECT_THAT(log_with({good}, {"attention"}),
              AllOf(HasSubstr("haqa: matvec-F16 is computed by " + path_of("matvec-F16-tuned.so")),
                    testing::Not(HasSubstr("serve"))));
  for (const auto& [entry, why] :
       {std::pair(other_type, R"(it is not "haqa 1 matvec-Q8_0" but "haqa 1 matvec-F16"; the default serves)"),
        {no_products, R"(it is not "haqa 1 matvec-F16" but "haqa 1 rms_norm-F32"; the default serves)"},
        {of_rows, "it has no weights whose rows and columns could be named; the default serves"}})
    EXPECT_THAT(log_with({entry}), HasSubstr(why));
  std::ofstream(path_of("matvec-F16-tuned.so")) << "no library";
  EXPECT_THAT(log_with({good}), HasSubstr("default serves"));
}

/// Of kernels that their source, or an older one, does not name or does not let be packed.
TEST_F(Variants, OfAnotherInterfaceAreRefused) {
  const Json entry = {{"kernel", "matvec"}, {"type", "F16"}, {"file", "made.so"}};
  for (const auto& [text, why] :
       {std::pair("", "without a name; the default serves"),
        {R"(extern const char haqa_interface[] = "haqa 0 matvec-F16";)",
         R"(but "haqa 0 matvec-F16"; the default serves)"},
        {R"(extern const char haqa_interface[] = "haqa 1 matvec-F16";)", "it has no functions to pack weights"}}) {
    std::ofstream(path_of("made.cpp")) << "extern \"C\" { void haqa_kernel(const void*) {}\n" << text << "}\n";
    const ProcessResult compiled =
        run_process({{"c++", "-shared", "-fPIC", "-o", path_of("made.so"), path_of("made.cpp")}});
    ASSERT_TRUE(compiled.ok()) << compiled.describe();
    EXPECT_THAT(log_with({entry}), HasSubstr(why));
  }
}

TEST_F(Faults, AnotherVersionOfGgmlIsLeftToStockCode) {
  const fs::path module = fs::path(HAQA_BIN_DIR) / "libggml-haqa-test.so";
  EXPECT_EQ(bench(module).backend, "HAQA");
  const Run run = bench(module, {{"HAQA_TEST_GGML_VERSION", "0.1.2"}});
  EXPECT_EQ(run.backend, "CPU");
  EXPECT_THAT(run.log, AllOf(HasSubstr("haqa: this module is for ggml 0.1.2, not "), HasSubstr("stock code serves")));
}

TEST_F(Faults, NamesThatNoKernelHasAreTold) {
  const fs::path module = fs::path(HAQA_BIN_DIR) / "libggml-haqa.so";
  write(tuning(), {{"format", 1},
                   {"processor", processor_identity()},
                   {"stock", {"matvec-Q8_0", "attension"}},
                   {"kernels", Json::array()}});
  const std::string log = bench(module, {{"HAQA_TUNING", tuning().string()}}).log;
  EXPECT_THAT(log, HasSubstr("leaves attension to stock code, which is no kernel here"));
  EXPECT_THAT(log, testing::Not(HasSubstr("leaves matvec")));
}

TEST_F(Faults, WithoutKernelsStockCodeServes) {
  const fs::path module = copy_of_module(folder_.path() / "copy");
  fs::remove_all(module.parent_path() / "kernels");
  const Run run = bench(module);
  EXPECT_EQ(run.backend, "CPU");
  EXPECT_THAT(run.log, HasSubstr("no compiled kernel"));
}

/// Where the weights, more than what is left of what may be written, are to be packed.
TEST_F(Faults, WithoutMemoryForWeightsNoModelIsLoadedAndTheLogSaysWhy) {
  const int status = in_process([&] {
    static std::string log;
    ggml_backend_dev_t devices[] = {module_device(), nullptr};
    llama_log_set([](ggml_log_level, const char* text, void*) { log += text; }, nullptr);
    std::ifstream statm("/proc/self/statm");
    rlim_t pages[6] = {};
    for (rlim_t& n : pages) statm >> n;  // the last one: data and stack
    const rlim_t most = pages[5] * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{8} << 20);
    const rlimit limit = {most, most};
    if (setrlimit(RLIMIT_DATA, &limit) != 0) return 2;
    llama_model_params params = llama_model_default_params();
    params.devices = devices;
    if (llama_model_load_from_file(model().c_str(), params)) return 3;
    return log.find("MiB of memory for packed weights; llama.cpp without") == std::string::npos ? 4 : 0;
  });
  EXPECT_EQ(status, 0);
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

/// As llama-server does with some options.
TEST_F(Faults, AModuleThatIsLoadedAgainServesOn) {
  const int status = in_process([&] {
    static std::string log;
    ggml_backend_dev_t device = module_device();
    ggml_log_set([](ggml_log_level, const char* text, void*) { log += text; }, nullptr);
    ggml_backend_load(HAQA_BIN_DIR "/libggml-haqa.so");
    size_t devices = 0;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) devices += ggml_backend_dev_get(i) == device;
    if (log.find("stock code serves") != std::string::npos) return 2;
    return devices == 1 && ggml_backend_dev_init(device, nullptr) ? 0 : 1;
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

}  // namespace
}  // namespace haqa
