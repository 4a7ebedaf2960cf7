#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "tests/program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class KernelsTest : public ProgramTest {};

const std::vector<std::string> kQuick = {"--rounds", "2", "--seconds", "0.05"};

std::vector<std::string> with_quick(std::vector<std::string> words) {
  words.insert(words.end(), kQuick.begin(), kQuick.end());
  return words;
}

TEST_F(KernelsTest, RowsAreTheIssuesAndEverythingIsWritten) {
  const std::string out = path("run");
  const auto result =
      run(with_quick({"kernels", "--kernel", "silu", "--shape", "1024,2,1", "--output", out, "--json"}));
  ASSERT_EQ(result.code, 0) << result.errors;
  const Json rows = Json::parse(result.output);
  ASSERT_EQ(rows.size(), 1u);
  for (const char* key : {"baseline_us", "tuned_us", "speedup", "speedup_low", "speedup_high", "roofline_share"})
    EXPECT_GT(rows[0].value(key, 0.0), 0) << key;
  EXPECT_EQ(rows[0]["kernel"], "silu");
  EXPECT_EQ(rows[0]["shape"], Json({1024, 2, 1}));
  EXPECT_EQ(rows[0]["rounds"], 2);
  EXPECT_TRUE(rows[0].contains("hot") && rows[0].contains("cold"));
  const fs::path kernel = fs::path(out) / "silu-F32-1024x2x1";
  for (const char* file : {"log.jsonl", "kernel.cpp", "variant.json", "results.t4.json"})
    EXPECT_TRUE(fs::exists(kernel / file)) << file;
  EXPECT_THAT(read_file(fs::path(out) / "report.html"), HasSubstr("silu [1024,2,1]"));
  EXPECT_EQ(read_json(kernel / "results.t4.json")["results"].size(), 2u);

  const auto shown = run({"show", out});
  EXPECT_EQ(shown.code, 0);
  EXPECT_THAT(shown.output, HasSubstr("llama.cpp us"));
  const auto replayed = run({"compare", "--sweep", (kernel / "results.t4.json").string(), "--methods",
                             "random,exhaustive", "--rounds", "2", "--seeds", "2", "--output", path("compared")});
  EXPECT_EQ(replayed.code, 0) << replayed.errors;
}

TEST_F(KernelsTest, GoesOnWhereItWasKilled) {
  const std::string out = path("run");
  const std::vector<std::string> words =
      with_quick({"kernels", "--suite", "tinyllama-1.1b", "--kernel", "rope", "--output", out});
  ASSERT_EQ(run(words).code, 0);
  fs::remove(fs::path(out) / "summary.json");
  const auto resumed = run({"kernels", "--resume", out});
  EXPECT_EQ(resumed.code, 0) << resumed.errors;
  EXPECT_THAT(resumed.errors, testing::Not(HasSubstr("round 1 of"))) << "nothing is measured again";
  EXPECT_TRUE(fs::exists(fs::path(out) / "summary.json"));
}

TEST_F(KernelsTest, WhatIsWrongIsSaidBeforeAnythingIsMeasured) {
  for (const auto& [words, message] :
       {std::pair<std::vector<std::string>, std::string>{{"--suite", "no-such"}, "paper"},
        {{"--kernel", "no-such"}, "has no such kernel"},
        {{"--kernel", "silu,no-such"}, "--kernel no-such"},
        {{"--kernel", "silu", "--shape", "12"}, "3 numbers"},
        {{"--kernel", "silu", "--shape", "a,b,c"}, "whole numbers"},
        {{"--kernel", "matvec", "--type", "Q4_0", "--shape", "16,1,33"}, "whole blocks"},
        {{"--kernel", "matvec", "--type", "Q9", "--shape", "16,1,32"}, "Q9"},
        {{"--shape", "1,1,1"}, "--kernel"},
        {{"--kernel", "matvec", "--type", "Q4_0"}, "--type is of"},
        {{"--kernel", "silu", "--shape", "2147483648,2147483648,2147483648"}, "bytes or more"},
        {{"--kernel", "rope", "--shape", "127,1,1"}, "ne0 % 2 == 0"},
        {{"--rotations", "5"}, "--rotations"},
        {{"--seconds", "nan"}, "must be a number"},
        {{"--sampler", "no-such"}, "no-such"},
        {{"--agent-model", "x"}, "--sampler agent"},
        {{"--model", "/no/such.gguf"}, "/no/such.gguf"},
        {{"--resume", "/no/such"}, "/no/such"}}) {
    std::vector<std::string> all = {"kernels"};
    all.insert(all.end(), words.begin(), words.end());
    const auto result = run(all);
    EXPECT_NE(result.code, 0) << testing::PrintToString(words);
    EXPECT_THAT(result.errors, HasSubstr(message));
  }
}

}  // namespace
}  // namespace haqa
