#include "haqa/report/served_kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/report/report.h"

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json comparison(double median, bool faster) {
  return {{"speedup", {{"median", median}, {"low", median - 0.1}, {"high", median + 0.1}, {"pairs", 20}}},
          {"faster", faster}};
}

Json trial(int number, double value) {
  return {{"number", number},
          {"configuration", {{"prefetch_l1", 32 + number}}},
          {"state", "complete"},
          {"value", value},
          {"metrics", {{"speedup", value}, {"speedup_low", value}, {"speedup_high", value}, {"pairs", 1}}},
          {"proposed_by", "expert"},
          {"thought", "because"}};
}

Json kernels() {
  Json products = {{"name", "matvec-Q8_0"},
                   {"stock", comparison(0.5, false)},
                   {"trials", {trial(0, 1.0), trial(1, 1.2)}},
                   {"confirmed", comparison(1.15, true)},
                   {"serves", "variant"},
                   {"why", "round 2 is confirmed"}};
  products["confirmed"]["trial"] = 1;
  Json failed = trial(0, 1.0);
  failed["state"] = "failed";
  failed["reason"] = "wrong_result";
  failed["message"] = "<b>element 3</b>";
  const Json attention = {{"name", "attention-F16"},
                          {"stock", {{"message", "it hung"}, {"faster", false}}},
                          {"trials", Json::array({failed})},
                          {"serves", "default"},
                          {"why", "no variant ran"}};
  return {{"kernels", {products, attention}}, {"left_out", {"swiglu-F32"}}};
}

TEST(ServedKernels, EveryRoundHasARowAndWhatCameOfIt) {
  const Json all = kernels();
  const Table table = served_kernels_table(Part(all));
  ASSERT_EQ(table.rows.size(), 5u);
  EXPECT_THAT(table.rows[0], testing::Contains("0.500 (0.400 to 0.600)"));
  EXPECT_THAT(table.rows[2], testing::AllOf(testing::Contains("prefetch_l1 33"),
                                            testing::Contains("confirmed: 1.150 (1.050 to 1.250)")));
  EXPECT_THAT(table.rows[3], testing::Contains("failed"));
  EXPECT_THAT(table.rows[4], testing::Contains("failed: wrong result"));
  EXPECT_THAT(served_kernels_reasons(Part(all)),
              ElementsAre("", "because", "because", "it hung", "because <b>element 3</b>"));
  EXPECT_THAT(served_kernels_answer(Part(all)),
              ElementsAre("matvec-Q8_0: a variant serves, as round 2 is confirmed.",
                          "attention-F16: the kernel that ships serves, as no variant ran.",
                          "The time was used up before swiglu-F32."));
}

TEST(ServedKernels, StandInTheReportsEscaped) {
  const Json summary = {{"kernels", kernels()}};
  const std::string page = html_report(summary, "");
  EXPECT_THAT(page, HasSubstr("&lt;b&gt;element 3"));
  EXPECT_THAT(page, testing::Not(HasSubstr("<b>element 3")));
  EXPECT_THAT(text_report(summary), HasSubstr("Kernels in the model"));
  EXPECT_THAT(text_report(Json::object()), testing::Not(HasSubstr("Kernels")));
  const Json odd = {{"kernels", {{"kernels", {1, {{"name", 2}, {"stock", "x"}, {"trials", {Json::object(), 3}}}}}}}};
  EXPECT_NO_THROW(html_report(odd, ""));
}

}  // namespace
}  // namespace haqa
