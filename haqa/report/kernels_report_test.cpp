#include "haqa/report/kernels_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace haqa {
namespace {

using testing::HasSubstr;
using testing::Not;

Json row_with(const Json& more) {
  Json row = {{"kernel", "silu"},    {"type", "F32"},         {"shape", {512, 2, 1}}, {"baseline_us", 4},
              {"tuned_us", 2},       {"speedup", 2},          {"speedup_low", 1.9},   {"speedup_high", 2.1},
              {"over_default", 1.2}, {"roofline_share", 0.8}, {"rounds", 10},         {"busy", 0.01},
              {"disturbed", 0.1},    {"drift", 1.01}};
  row.update(more);
  return row;
}

std::string text_of_rows(const Json& rows) {
  return kernels_text({{"kernels", rows}});
}

TEST(KernelsReportTest, WhatMakesAFigureDoubtfulStandsBesideIt) {
  for (const auto& [more, note] : {std::pair<Json, const char*>{{{"busy", 0.3}}, "others used 30 % of the machine"},
                                   {{{"disturbed", 0.75}}, "threads waited for a processor in 75 % of the rounds"},
                                   {{{"drift", 1.5}}, "the machine grew slower"},
                                   {{{"drift", 0.5}}, "the machine grew faster"},
                                   {{{"partly_cold", true}}, "weights partly in the caches"},
                                   {{{"no_landlock", true}}, "no Landlock"},
                                   {{{"is_default", true}, {"busy", 0.3}}, "our defaults; others"},
                                   {{{"speedup_low", 0.9}}, "no gain beyond the noise"}}) {
    EXPECT_THAT(text_of_rows(Json::array({row_with(more)})), HasSubstr(note));
    EXPECT_THAT(text_of_rows(Json::array({row_with(Json::object())})), Not(HasSubstr(note)));
  }
}

TEST(KernelsReportTest, ARowThatFailedSaysWhy) {
  const std::string text = text_of_rows(
      {row_with(Json::object()),
       {{"kernel", "matvec"}, {"type", "F16"}, {"shape", {128256, 1, 3072}}, {"failed", "takes 7.9e+08 bytes"}}});
  EXPECT_THAT(text, HasSubstr("takes 7.9e+08 bytes"));
  EXPECT_THAT(text, HasSubstr("1 of 1 kernels"));
}

}  // namespace
}  // namespace haqa
