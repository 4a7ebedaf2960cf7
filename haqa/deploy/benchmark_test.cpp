#include "haqa/deploy/benchmark.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
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
  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  ~LlamaBench() override { unsetenv("HAQA_LLAMA_BIN"); }
  /// A way in which llama-bench ends without a result.
  struct Failure {
    const char* body;
    ProcessEnd end;
    const char* expected;
  };
  void expect_failure(const Failure& c, const Benchmark& benchmark) {
    script(c.body);
    try {
      benchmark({"m.gguf", {}});
      ADD_FAILURE() << c.body;
    } catch (const WorkerError& e) {
      EXPECT_EQ(e.end, c.end) << c.body;
      EXPECT_THAT(e.what(), HasSubstr(c.expected)) << c.body;
      EXPECT_LT(std::string(e.what()).size(), 400u) << c.body;
    }
  }
  /// A llama-bench of our own.
  void script(const std::string& body) {
    std::ofstream(folder_ / "llama-bench") << "#!/bin/sh\n" << body << "\n";
    chmod((folder_ / "llama-bench").c_str(), 0755);
    setenv("HAQA_LLAMA_BIN", folder_.c_str(), 1);
  }
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
  const Failure cases[] = {
      {"echo 'error: failed to load model' >&2; exit 1", ProcessEnd::exited, "failed to load model"},
      {"kill -SEGV $$", ProcessEnd::signalled, "Segmentation"},
      {"sleep 60", ProcessEnd::timed_out, "no result after"},
      {"echo rubbish", ProcessEnd::exited, "no result that can be read: rubbish"},
      {"echo '[]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": [0]}]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": [\"fast\"]}]'", ProcessEnd::exited, "no result"},
      {"exec python3 -c 'x = bytearray(200000000); import time; time.sleep(60)'", ProcessEnd::out_of_memory, "memory"},
  };
  for (const Failure& c : cases) expect_failure(c, llama_bench({}, 3, 100'000'000));
}

TEST_F(LlamaBench, MoreFailures) {
  const Failure cases[] = {
      {"echo '[{\"samples_ns\": [5]}]'; exit 1", ProcessEnd::exited, "exit status 1"},  // a result does not excuse it
      {"exec 1>&-; sleep 60", ProcessEnd::timed_out, "no result after"},
      {"exec yes", ProcessEnd::timed_out, "no result after"},
      {"exec tr '\\0' x < /dev/zero", ProcessEnd::timed_out, "no result after"},
      {"kill -KILL $$", ProcessEnd::signalled, "Killed"},
      {"echo 'ggml_abort: GGML_ASSERT(n > 0) failed' >&2; kill -ABRT $$", ProcessEnd::signalled, "GGML_ASSERT"},
      {"exit 0", ProcessEnd::exited, "no result"},
      {"echo '{\"samples_ns\": [5]}'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": []}]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": [1, 2]}]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": [-5]}]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": [null]}]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": 5}]'", ProcessEnd::exited, "no result"},
      {"echo '[{}, {}]'", ProcessEnd::exited, "no result"},
      {"echo '[5]'", ProcessEnd::exited, "no result"},
      {"echo '[{\"samples_ns\": [5]}'", ProcessEnd::exited, "no result"},
      {"printf '\\377\\376'", ProcessEnd::exited, "no result"},
      {"case \"$*\" in *'-n 0'*) echo '[{\"samples_ns\": [5]}]';; *) exit 7;; esac", ProcessEnd::exited,
       "exit status 7"},
  };
  for (const Failure& c : cases) expect_failure(c, llama_bench({}, 0.7));
}

TEST_F(LlamaBench, AMissingOneEndsTheStudy) {
  setenv("HAQA_LLAMA_BIN", folder_.c_str(), 1);
  EXPECT_THROW(llama_bench({}, 1)({"m.gguf", {}}), Error);
  EXPECT_THROW(default_llama_threads(), Error);
  script("echo usage: --threads");
  EXPECT_THROW(default_llama_threads(), Error);
  script("echo '  -t, --threads <n>     (default: 24)'; echo '  -p <n>  (default: 512)'");
  EXPECT_EQ(default_llama_threads(), 24);
}

/// What the user's shell has of the module is not measured in the name of llama.cpp's defaults, nor is a refused module
/// in that of ours.
TEST_F(LlamaBench, WhatServesIsWhatWasAskedFor) {
  script(R"(name=CPU; [ -n "$GGML_BACKEND_PATH$HAQA_TUNING" ] && name=HAQA
name=${BACKEND:-$name}; echo $name >> "$(dirname "$0")/served"
case "$*" in
  *list-devices*) [ $name = CPU ] && echo '(none)' || echo $name ;;
  *) echo "[{\"backends\": \"$name\", \"samples_ns\": [5]}]" ;;
esac)");
  setenv("GGML_BACKEND_PATH", "/elsewhere/libggml-haqa.so", 1);
  setenv("HAQA_TUNING", "/elsewhere/tuning.json", 1);
  RuntimeOptions ours;
  ours.kernels = "haqa";
  EXPECT_NO_THROW(llama_bench({}, 60)({"m.gguf", {}}));
  EXPECT_FALSE(llama_uses_gpu());
  EXPECT_EQ(read_file(folder_ / "served"), "CPU\nCPU\nCPU\n");
  for (const auto& [backends, is_ours] :
       {std::pair("HAQA", true), {"BLAS,HAQA", true}, {"CPU", false}, {"HAQA2", false}, {"BLAS", false}}) {
    setenv("BACKEND", backends, 1);
    if (is_ours)
      EXPECT_NO_THROW(llama_bench({}, 60)({"m.gguf", ours})) << backends;
    else
      EXPECT_THROW(llama_bench({}, 60)({"m.gguf", ours}), WrongResult) << backends;
  }
  for (const char* name : {"GGML_BACKEND_PATH", "HAQA_TUNING", "BACKEND"}) unsetenv(name);
}

// The prompt runs with threads_batch, the generation with threads, both in the environment of the options.
TEST_F(LlamaBench, TellsLlamaBenchEverything) {
  script(
      "echo \"$OMP_PROC_BIND $OMP_WAIT_POLICY $*\" >> \"$(dirname \"$0\")/calls\"; echo '[{\"samples_ns\": [1e9]}]'");
  RuntimeOptions o;
  o.threads = 3;
  o.threads_batch = 5;
  o.affinity = "pinned";
  o.polling = "passive";
  o.batch = 64;
  o.ubatch = 32;
  o.flash_attention = "on";
  o.cache_type_k = "q8_0";
  o.cache_type_v = "q4_0";
  o.load_mode = "none";
  o.repack = false;
  o.gpu_layers = 7;
  llama_bench({11, 22}, 60)({"a model.gguf", o});
  const std::string rest = " --poll 0 -b 64 -ub 32 -fa on -ctk q8_0 -ctv q4_0 -lm none --repack 0 -ngl 7\n";
  EXPECT_EQ(read_file(folder_ / "calls"), "close PASSIVE -m a model.gguf -r 1 -o json -p 11 -n 0 -t 5" + rest +
                                              "close PASSIVE -m a model.gguf -r 1 -o json -p 0 -n 22 -d 11 -t 3" +
                                              rest);
}

TEST(Compare, ReportsProgressAndPropagatesFailures) {
  FakeBench fake;
  fake.rates = {{"a", {10}}, {"b", {10}}};
  std::vector<double> shares;
  compare(fake.benchmark(), {"a", {}}, {"b", {}}, 4, [&](double s) { shares.push_back(s); });
  EXPECT_THAT(shares, ElementsAre(0.25, 0.5, 0.75, 1));
  int calls = 0;
  const Benchmark fails = [&](const haqa::Setup&) -> Measurement {
    if (++calls == 3) throw WorkerError(ProcessEnd::timed_out, "hung");
    return {};
  };
  EXPECT_THROW(compare(fails, {"a", {}}, {"b", {}}, 4), WorkerError);
  EXPECT_EQ(calls, 3);
}

// 15 % slower in each of the first two is hopeless, neither more nor less.
TEST(Compare, TheBorderOfHopeless) {
  const std::pair<double, int> cases[] = {{8.4, 2}, {8.5, 5}, {8.6, 5}, {10, 5}, {0.1, 2}};
  for (const auto& [rate, pairs] : cases) {
    FakeBench fake;
    fake.rates = {{"a", {10}}, {"b", {rate}}};
    const Comparison c = compare(fake.benchmark(), {"a", {}}, {"b", {}}, 5);
    EXPECT_EQ(c.speedup.samples, pairs) << rate;
    EXPECT_EQ(c.a.size(), c.b.size());
    EXPECT_DOUBLE_EQ(c.speedup.median, rate / 10);
  }
  FakeBench fake;
  fake.rates = {{"a", {10}}, {"b", {1}}};
  EXPECT_EQ(compare(fake.benchmark(), {"a", {}}, {"b", {}}, 1).speedup.samples, 1);
}

// The machine speeds up by a tenth with every run: pairs that always began with a would find b faster.
TEST(Compare, DriftCancels) {
  double clock = 1;
  const Benchmark drifts = [&](const haqa::Setup&) {
    Measurement m;
    m.tokens_per_s = clock *= 1.1;
    return m;
  };
  const Comparison c = compare(drifts, {"a", {}}, {"b", {}}, 10);
  EXPECT_LE(c.speedup.low, 1);
  EXPECT_GE(c.speedup.high, 1);
  EXPECT_NEAR(c.speedup.median, (1.1 + 1 / 1.1) / 2, 1e-12);
}

TEST(Summarize, TakesMediansAndTheLargestMemory) {
  std::vector<Measurement> rows = {{4, 40, 1, 10, 7}, {1, 30, 9, 50, 9}, {2, 20, 3, 20, 8}};
  const Json s = summarize(rows);
  EXPECT_EQ(s["prompt_tokens_per_s"], 2.0);
  EXPECT_EQ(s["generate_tokens_per_s"], 30.0);
  EXPECT_EQ(s["request_s"], 3.0);
  EXPECT_EQ(s["tokens_per_s"], 20.0);
  EXPECT_EQ(s["peak_bytes"], 9);
  EXPECT_EQ(s["samples"], Json({10.0, 50.0, 20.0})) << "in the order of measurement";
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

}  // namespace
}  // namespace haqa
