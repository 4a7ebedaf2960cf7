#include "haqa/deploy/runtime_objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "haqa/base/file.h"
#include "haqa/deploy/bundle.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

using testing::HasSubstr;

struct Fixture {
  SearchSpace space = runtime_space({2, 4, 4, false, {"Q4_0", "IQ4_NL"}});
  std::string refused;
  std::function<Measurement(const Setup&)> bench = [](const Setup& s) {
    Measurement m;
    m.tokens_per_s = s.options.threads == 4 ? 15 : 10;
    return m;
  };
  RuntimeObjective objective() {
    RuntimeObjective::Tools tools;
    tools.benchmark = [this](const Setup& s) { return bench(s); };
    tools.model = [](const std::string& type) { return std::filesystem::path(type + ".gguf"); };
    tools.quality = [this](const Setup&) { return Json{{"perplexity_ratio", 1.5}, {"refused", refused}}; };
    return RuntimeObjective(tools, space.defaults(), 3);
  }
  Configuration with(const char* name, const Json& value) {
    Configuration c = space.defaults();
    c[name] = value;
    return c;
  }
};

TEST(RuntimeObjective, ValueIsTheSpeedUpOverTheDefaults) {
  Fixture f;
  auto objective = f.objective();
  EXPECT_EQ(objective.evaluate(f.space.defaults()).value, 1.0);
  const Outcome o = objective.evaluate(f.with("threads", 4));
  EXPECT_DOUBLE_EQ(o.value.value(), 1.5);
  EXPECT_EQ(o.metrics["tokens_per_s"], 15.0);
  EXPECT_EQ(o.metrics["default_tokens_per_s"], 10.0);
  EXPECT_EQ(o.metrics["pairs"], 3);
}

TEST(RuntimeObjective, DefaultsAreOneEvenInNoise) {
  Fixture f;
  int call = 0;
  f.bench = [&](const haqa::Setup&) {
    Measurement m;
    m.tokens_per_s = 10 + ++call;
    return m;
  };
  auto objective = f.objective();
  const Outcome o = objective.evaluate(f.space.defaults());
  EXPECT_EQ(o.value, 1.0);
  EXPECT_NE(o.metrics["speedup"], 1.0);
}

TEST(RuntimeObjective, FailuresAreOutcomes) {
  const std::pair<ProcessEnd, FailReason> cases[] = {{ProcessEnd::out_of_memory, FailReason::out_of_memory},
                                                     {ProcessEnd::timed_out, FailReason::timed_out},
                                                     {ProcessEnd::signalled, FailReason::crashed},
                                                     {ProcessEnd::exited, FailReason::crashed}};
  for (const auto& [end, reason] : cases) {
    Fixture f;
    f.bench = [end = end](const haqa::Setup&) -> Measurement { throw WorkerError(end, "what happened"); };
    auto objective = f.objective();
    const Outcome o = objective.evaluate(f.space.defaults());
    EXPECT_EQ(o.value, std::nullopt);
    EXPECT_EQ(o.reason, reason);
    EXPECT_EQ(o.message, "what happened");
  }
  Fixture f;
  f.refused = "it raises the perplexity";
  auto objective = f.objective();
  EXPECT_EQ(objective.evaluate(f.space.defaults()).reason, FailReason::quality_loss);
}

TEST(RuntimeSpace, DefaultsAreLlamaCppsOwn) {
  const SearchSpace space = runtime_space({3, 8, 4, false, {}});
  RuntimeOptions stock;
  stock.threads = stock.threads_batch = 3;
  EXPECT_EQ(runtime_options(space.defaults()), stock);
  Configuration c = space.defaults();
  c["ubatch"] = 2048;
  c["batch"] = 1024;
  EXPECT_THAT(*space.problem(c), HasSubstr("ubatch <= batch"));
  c = space.defaults();
  c["cache_type_v"] = "q8_0";
  c["flash_attention"] = "off";
  EXPECT_THAT(*space.problem(c), HasSubstr("flash_attention is not off"));
}

TEST(Bundle, LaunchScriptRunsFromAnywhereWithAnyName) {
  std::string name = (std::filesystem::temp_directory_path() / "haqa-bundle-XXXXXX").string();
  const std::filesystem::path folder = mkdtemp(name.data());
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
  EXPECT_EQ(r.output, "[--model]\n[" + (folder / "moved here" / hostile).string() +
                          "]\n[--ctx-size]\n[512]\n[--threads]\n[2]\n[--port]\n[1]\nclose\n")
      << r.errors;
  EXPECT_FALSE(std::filesystem::exists("oops"));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace haqa
