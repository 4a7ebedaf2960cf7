// llama.cpp's own test of operations, on our device and, for comparison, its CPU code: of those alone that the module
// computes itself, as a module without kernels would be compared with itself else; and once of what it leaves to
// llama.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/processor_levels.h"
#include "haqa/plugin/module_test_support.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

struct Case {
  const char* operation;
  const char* filter;      ///< of its cases
  int least;               ///< cases that must be left and run, as a mistyped filter leaves none and passes
  const char* level = "";  ///< the instruction set whose kernels alone are there; empty: this processor's best
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.operation << " " << c.filter << " " << c.level;
}

class Operations : public testing::TestWithParam<Case> {};

/// How many cases ran, all of which passed.
int cases_run(const Case& c, const std::filesystem::path& module, bool native_only) {
  Command command{{HAQA_BIN_DIR "/test-backend-ops", "test", "-b", "HAQA", "-o", c.operation, "-p", c.filter}};
  command.environment = {{"GGML_BACKEND_PATH", module.string()}, {"HAQA_TUNING", "/nowhere"}};
  if (native_only)
    for (const char* name : {"HAQA_TEST_PACKS_ALL", "HAQA_TEST_NATIVE_ONLY"})
      command.environment.emplace_back(name, "1");
  command.timeout_s = 280;
  const ProcessResult result = run_process(command);
  EXPECT_TRUE(result.ok()) << result.describe();
  std::smatch counts;
  if (!std::regex_search(result.output, counts, std::regex(R"((\d+)/(\d+) tests passed)"))) {
    ADD_FAILURE() << result.output;
    return 0;
  }
  EXPECT_EQ(counts[1], counts[2]);
  return std::stoi(counts[2]);
}

TEST_P(Operations, PassLlamaCppsOwnTest) {
  const std::filesystem::path bin = HAQA_BIN_DIR;
  const Case& c = GetParam();
  const std::string_view level = c.level;
  const std::vector<const char*> levels = processor_levels();
  if (!level.empty() && std::find(levels.begin(), levels.end(), level) == levels.end())
    GTEST_SKIP() << "this processor has no " << level;
  const TemporaryFolder folder;
  const std::filesystem::path module = level.empty()
                                           ? bin / "libggml-haqa-test.so"
                                           : copy_of_module(folder.path() / "copy", level, "libggml-haqa-test.so");
  EXPECT_GE(cases_run(c, module, true), c.least);
}

/// Where there is no kernel nothing is native, which the counts above rely on.
TEST(OperationsTest, WithoutKernelsNoneIsCounted) {
  const TemporaryFolder folder;
  const std::filesystem::path module = copy_of_module(folder.path() / "copy", "matvec-F16-", "libggml-haqa-test.so");
  EXPECT_EQ(cases_run({"RMS_NORM", ".*", 0}, module, true), 0);
  EXPECT_GT(cases_run({"MUL_MAT", "type_a=f16,type_b=f32,m=16,n=1,", 0}, module, true), 0);
}

TEST(OperationsTest, WhatIsLeftToLlamaCppPassesToo) {
  const std::filesystem::path module = std::filesystem::path(HAQA_BIN_DIR) / "libggml-haqa.so";
  EXPECT_GE(cases_run({"MUL_MAT_ID", "type_a=(f16|q8_0|q4_0),type_b=f32,n_mats=4,n_used=2", 0}, module, false), 5);
  EXPECT_GE(cases_run({"SOFT_MAX", "ne=.16,16,1,1.,", 0}, module, false), 2);
}

INSTANTIATE_TEST_SUITE_P(
    All, Operations,
    testing::Values(Case{"MUL_MAT", "type_a=(f16|bf16|q8_0|q4_0|q4_K|q6_K|iq4_nl),type_b=f32", 100},
                    Case{"FLASH_ATTN_EXT", "nb=(1|3|32|75),.*type_K=(f16|q8_0),type_V=(f16|q8_0)", 20},
                    Case{"RMS_NORM", ".*", 10}, Case{"RMS_NORM_MUL_ADD", ".*", 10}, Case{"ROPE", "type=f32", 20},
                    Case{"SWIGLU", "type=f32", 5}, Case{"SILU", "type=f32", 2},
                    Case{"SET_ROWS", "type_dst=(f32|f16|q8_0)", 20}, Case{"GET_ROWS", "type=f32", 5},
                    Case{"CPY", "type_src=f32,type_dst=(f32|f16)", 5}, Case{"CONT", "type=f32", 5},
                    Case{"ADD", "type=f32", 20}, Case{"MUL", "type=f32", 20}),
    [](const auto& tested) { return std::string(tested.param.operation); });

INSTANTIATE_TEST_SUITE_P(
    WithoutAvx512, Operations,
    testing::Values(Case{"MUL_MAT", "type_a=(f16|bf16|q8_0|q4_0|q4_K|q6_K|iq4_nl),type_b=f32", 100, "x86-64-v3"},
                    Case{"FLASH_ATTN_EXT", "hsk=(64|80),.*nb=(1|3|75),.*type_K=(f16|q8_0),type_V=(f16|q8_0)", 20,
                         "x86-64-v3"},
                    Case{"RMS_NORM_MUL_ADD", ".*", 10, "x86-64-v3"}, Case{"SWIGLU", "type=f32", 5, "x86-64-v3"}),
    [](const auto& tested) { return std::string(tested.param.operation); });

}  // namespace
}  // namespace haqa
