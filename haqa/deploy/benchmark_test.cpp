#include "haqa/deploy/benchmark.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/deploy/quantize.h"
#include "haqa/model/make_model.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

/// Rates by model name, in the order of the calls; every call is written down.
struct FakeBench {
  std::map<std::string, std::vector<double>> rates;
  std::vector<std::string> calls;
  Benchmark benchmark() {
    return [this](const Setup& s) {
      const std::string name = s.model.string();
      calls.push_back(name);
      auto& left = rates[name];
      Measurement m;
      m.tokens_per_s = left.front();
      if (left.size() > 1) left.erase(left.begin());
      return m;
    };
  }
};

TEST(Compare, TakesTurnsAndReportsTheMedianOfPairs) {
  FakeBench fake;
  fake.rates = {{"a", {10, 20, 10}}, {"b", {12, 30, 11}}};
  const Comparison c = compare(fake.benchmark(), {"a", {}}, {"b", {}}, 3);
  EXPECT_THAT(fake.calls, ElementsAre("a", "b", "b", "a", "a", "b"));
  EXPECT_DOUBLE_EQ(c.speedup.median, 1.2);
  EXPECT_DOUBLE_EQ(c.speedup.low, 1.1);
  EXPECT_DOUBLE_EQ(c.speedup.high, 1.5);
}

TEST(Compare, StopsEarlyOnlyWhenHopeless) {
  const std::pair<std::vector<double>, int> cases[] = {
      {{5, 5, 5, 5}, 2}, {{5, 9, 5, 5}, 4}, {{9, 5, 5, 5}, 4}, {{20, 20, 20, 20}, 4}};
  for (const auto& [rates, pairs] : cases) {
    FakeBench fake;
    fake.rates = {{"a", {10}}, {"b", rates}};
    EXPECT_EQ(compare(fake.benchmark(), {"a", {}}, {"b", {}}, 4).speedup.samples, pairs);
  }
}

TEST(MeasureInterleaved, TurnsTheOrder) {
  FakeBench fake;
  fake.rates = {{"a", {1}}, {"b", {2}}, {"c", {3}}};
  const auto rows = measure_interleaved(fake.benchmark(), {{"a", {}}, {"b", {}}, {"c", {}}}, 3);
  EXPECT_THAT(fake.calls, ElementsAre("a", "b", "c", "b", "c", "a", "c", "a", "b"));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(rows[i].at(2).tokens_per_s, static_cast<double>(i + 1));
}

class LlamaBench : public testing::Test {
 protected:
  LlamaBench() {
    std::string name = (fs::temp_directory_path() / "haqa-bench-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~LlamaBench() override {
    unsetenv("HAQA_LLAMA_BIN");
    fs::remove_all(folder_);
  }
  /// A llama-bench of our own.
  void script(const std::string& body) {
    std::ofstream(folder_ / "llama-bench") << "#!/bin/sh\n" << body << "\n";
    chmod((folder_ / "llama-bench").c_str(), 0755);
    setenv("HAQA_LLAMA_BIN", folder_.c_str(), 1);
  }
  fs::path folder_;
};

TEST_F(LlamaBench, AddsPromptAndGeneration) {
  script(R"(case "$*" in *"-p 128 -n 0"*) ns=500000000 ;; *"-p 0 -n 256 -d 128"*) ns=1500000000 ;; esac
echo "[{\"samples_ns\": [$ns]}]")");
  const Measurement m = llama_bench({}, 60)({"m.gguf", {}});
  EXPECT_DOUBLE_EQ(m.prompt_tokens_per_s, 256);
  EXPECT_NEAR(m.generate_tokens_per_s, 256 / 1.5, 1e-9);
  EXPECT_DOUBLE_EQ(m.request_s, 2);
  EXPECT_DOUBLE_EQ(m.tokens_per_s, 128);
}

TEST_F(LlamaBench, EveryFailureIsAWorkerErrorWithItsReason) {
  struct Case {
    const char* body;
    ProcessEnd end;
    const char* expected;
  };
  const Case cases[] = {
      {"echo 'error: failed to load model' >&2; exit 1", ProcessEnd::exited, "failed to load model"},
      {"kill -SEGV $$", ProcessEnd::signalled, "Segmentation"},
      {"sleep 60", ProcessEnd::timed_out, "no result after"},
      {"echo rubbish", ProcessEnd::exited, "no result that can be read: rubbish"},
      {"echo '[]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": [0]}]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": [\"fast\"]}]'", ProcessEnd::exited, "no result"},
      {"exec python3 -c 'x = bytearray(200000000); import time; time.sleep(60)'", ProcessEnd::out_of_memory, "memory"},
  };
  for (const Case& c : cases) {
    script(c.body);
    try {
      llama_bench({}, 3, 100'000'000)({"m.gguf", {}});
      ADD_FAILURE() << c.body;
    } catch (const WorkerError& e) {
      EXPECT_EQ(e.end, c.end) << c.body;
      EXPECT_THAT(e.what(), HasSubstr(c.expected)) << c.body;
    }
  }
}

TEST_F(LlamaBench, TheRealOneTakesEveryOptionOfTheSpace) {
  const fs::path model = folder_ / "tiny.gguf";
  make_model(model_shape("tiny"), default_vocabulary(), 1, model);
  RuntimeSpaceFacts facts;
  facts.default_threads = default_llama_threads();
  EXPECT_GE(facts.default_threads, 1);
  facts.max_threads = 2;
  const SearchSpace space = runtime_space(facts);
  const Benchmark bench = llama_bench({2, 2}, 120);
  std::mt19937_64 random(1);
  for (int i = 0; i < 12; ++i) {
    const Configuration c = i == 0 ? space.defaults() : space.sample(random);
    EXPECT_GT(bench({model, runtime_options(c)}).tokens_per_s, 0) << c;
  }
}

TEST_F(LlamaBench, TheRealServerKnowsEveryOption) {
  const ProcessResult help = run_process({{(llama_bin_folder() / "llama-server").string(), "--help"}});
  RuntimeOptions o;
  o.threads = o.threads_batch = 1;
  o.polling = "active";
  o.batch = o.ubatch = 64;
  o.flash_attention = "on";
  o.cache_type_k = o.cache_type_v = "q8_0";
  o.load_mode = "none";
  o.repack = false;
  o.gpu_layers = 1;
  int options = 0;
  for (const std::string& argument : server_arguments(o)) {
    if (!argument.starts_with("--")) continue;
    EXPECT_THAT(help.output, HasSubstr(argument)) << argument;
    ++options;
  }
  EXPECT_EQ(options, 11);
  EXPECT_TRUE(server_arguments({}).empty()) << "llama.cpp's defaults need no options";
}

}  // namespace
}  // namespace haqa
