#include "haqa/kernel/kernel_objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/measure.h"

namespace haqa {
namespace {

using testing::HasSubstr;

KernelTask task_of(const std::string& kernel, const KernelProblem& problem) {
  KernelTask task;
  task.folder = kernels_folder() / kernel;
  task.spec = read_kernel_spec(task.folder);
  task.problem = problem;
  task.hardware.cores = task.hardware.threads = 2;
  task.hardware.memory_bytes = uint64_t{1} << 32;
  task.seconds = 0.05;
  task.rotations = 6;
  return task;
}

const char* const kHonest = R"(
#include <math.h>
#include "kernel.h"
extern "C" void haqa_kernel(const haqa_launch* l) {
  haqa_share(l, l->out.ne[1] * l->out.ne[2], 1, haqa_static, [&](int64_t a, int64_t b) {
    for (int64_t r = a; r < b; ++r) {
      const int64_t at = r % l->out.ne[1], up = r / l->out.ne[1];
      const float* x = (const float*)((const char*)l->in[0].data + at * l->in[0].nb[1] + up * l->in[0].nb[2]);
      float* y = (float*)((char*)l->out.data + at * l->out.nb[1] + up * l->out.nb[2]);
      for (int64_t i = 0; i < l->out.ne[0]; ++i) y[i] = x[i] / (1 + expf(-x[i]));
    }
  });
}
)";

TEST(KernelObjectiveTest, TheDefaultsOfEveryKernelAreRight) {
  for (const auto& [kernel, problem] :
       {std::pair<std::string, KernelProblem>{"softmax", {ElementType::f32, {70, 3, 2}}},
        {"silu", {ElementType::f32, {70, 3, 2}}},
        {"swiglu", {ElementType::f32, {70, 3, 2}}},
        {"rms_norm", {ElementType::f32, {70, 3, 2}}},
        {"rms_norm_mul", {ElementType::f32, {70, 3, 2}}},
        {"rope", {ElementType::f32, {64, 3, 5}}},
        {"matmul", {ElementType::f32, {70, 9, 65}}},
        {"matvec", {ElementType::f16, {70, 1, 64}}},
        {"matvec", {ElementType::q8_0, {70, 2, 64}}},
        {"matvec", {ElementType::q4_0, {70, 1, 64}}},
        {"attention", {ElementType::f16, {64, 1, 200, 8, 2}}},
        {"attention", {ElementType::f16, {72, 41, 70, 4, 2}}},
        {"attention", {ElementType::q8_0, {64, 2, 200, 8, 2}}}}) {
    KernelObjective objective(task_of(kernel, problem));
    const Outcome outcome =
        objective.evaluate(machine_space(objective.task().spec.engines.at("cpu").space, 2, {}).defaults());
    EXPECT_TRUE(outcome.value) << kernel << " " << problem.label() << ": " << outcome.message;
    EXPECT_GT(outcome.metrics.value("latency_us", 0.0), 0) << kernel;
    EXPECT_LE(outcome.metrics.value("speedup_low", 0.0), outcome.value.value_or(0)) << kernel;
  }
}

TEST(KernelObjectiveTest, CodeOfTheAgentsOwnIsWhatRuns) {
  KernelObjective objective(task_of("silu", {ElementType::f32, {512, 2, 1}}));
  const Outcome honest = objective.evaluate({{"threads", 1}, {kCode, kHonest}});
  EXPECT_TRUE(honest.value) << honest.message;
  struct Case {
    std::string code;
    FailReason reason;
    std::string message;
  };
  for (const Case& c : {Case{"void haqa_kernel(", FailReason::does_not_compile, "does not compile"},
                        {"#include \"/etc/passwd\"", FailReason::does_not_compile, "refused source"},
                        {"extern \"C\" void haqa_kernel(const haqa_launch*) {}", FailReason::wrong_result, "unwritten"},
                        {"extern \"C\" void haqa_kernel(const haqa_launch*) { *(volatile int*)0 = 1; }",
                         FailReason::crashed, "crashed"}}) {
    const Outcome outcome = objective.evaluate({{"threads", 1}, {kCode, c.code}});
    EXPECT_FALSE(outcome.value) << c.code;
    EXPECT_EQ(outcome.reason, c.reason) << outcome.message;
    EXPECT_THAT(outcome.message, HasSubstr(c.message));
  }
}

TEST(KernelObjectiveTest, TheWinnerIsConfirmedAnew) {
  const KernelObjective objective(task_of("silu", {ElementType::f32, {512, 2, 1}}));
  const Json found = objective.confirm({{"threads", 1}}, {"ggml", "default"});
  ASSERT_FALSE(found.contains("fault")) << found.dump(2);
  EXPECT_FALSE(found["cached"].get<bool>()) << "built anew";
  for (const char* who : {"ggml", "default", "variant"}) EXPECT_GE(found["times"][who]["samples_us"].size(), 6u) << who;
  EXPECT_EQ(found["times"]["ggml"]["ratio"], 1.0);
}

TEST(KernelObjectiveTest, SpacesAreThoseOfTheMachine) {
  const KernelSpec spec = read_kernel_spec(kernels_folder() / "silu");
  const auto threads_of = [&](int threads) {
    const SearchSpace space = machine_space(spec.engines.at("cpu").space, threads, {});
    for (const Parameter& p : space.parameters())
      if (p.name == "threads") return std::pair(p.choices, p.default_value);
    return std::pair(std::vector<Json>{}, Json());
  };
  EXPECT_EQ(threads_of(1), std::pair(std::vector<Json>{1}, Json(1)));
  EXPECT_EQ(threads_of(6), std::pair(std::vector<Json>({1, 2, 4, 6}), Json(6)));
  const std::vector<std::string> compilers = {"g++", "clang++"};
  const SearchSpace both = machine_space(spec.engines.at("cpu").space, 2, compilers, /*with_code=*/true);
  EXPECT_EQ(both.defaults()["compiler"], "g++");
  EXPECT_EQ(both.defaults()[kCode], "");
}

TEST(KernelObjectiveTest, WithoutACompilerThePrebuiltDefaultsRun) {
  const std::string path = environment("PATH");
  setenv("PATH", "/nowhere", 1);
  unsetenv("CXX");
  EXPECT_TRUE(installed_compilers().empty());
  KernelObjective objective(task_of("softmax", {ElementType::f32, {64, 2, 1}}));
  Configuration configuration = machine_space(objective.task().spec.engines.at("cpu").space, 2, {}).defaults();
  const Outcome prebuilt = objective.evaluate(configuration);
  configuration["unroll"] = 1;
  const Outcome other = objective.evaluate(configuration);
  setenv("PATH", path.c_str(), 1);
  if (!prebuilt_variant("softmax", "F32")) GTEST_SKIP() << "nothing is prebuilt for this processor";
  EXPECT_TRUE(prebuilt.value) << prebuilt.message;
  EXPECT_FALSE(other.value);
  EXPECT_THAT(other.message, HasSubstr("apt-get install g++"));
}

/// Sources compile by themselves, and the prebuilt ones are the defaults.
TEST(KernelSourceTest, HasTheDefaultsOfItsSpecification) {
  for (const std::string& name : kernel_names()) {
    const KernelSpec spec = read_kernel_spec(kernels_folder() / name);
    std::string text;
    for (const std::filesystem::directory_entry& f : std::filesystem::recursive_directory_iterator(kernels_folder()))
      if (f.path().extension() == ".h") text += read_file(f.path());
    text += read_file(spec.engines.at("cpu").source);
    for (const Parameter& p : spec.engines.at("cpu").space.parameters()) {
      if (p.name == "threads") continue;
      const std::string value =
          p.default_value.is_string() ? p.default_value.get<std::string>() : p.default_value.dump();
      EXPECT_THAT(text, HasSubstr("#define " + p.name + " " + value + "\n")) << name;
    }
  }
}

}  // namespace
}  // namespace haqa
