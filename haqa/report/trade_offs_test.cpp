#include "haqa/report/trade_offs.h"

#include <gmock/gmock.h>

namespace haqa {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Json width(const char* name, const char* type, double accuracy, double speed, uint64_t bytes) {
  return {{"bit_width", name},
          {"gguf_type", type},
          {"accuracy", {{"mean", accuracy}}},
          {"ratio_to_widest", {{"median", speed}}},
          {"measured", {{"peak_bytes", bytes}, {"tokens_per_s", 10 * speed}}}};
}

Json round(int number, double speedup, uint64_t bytes, const Json& configuration = Json::object()) {
  return {{"number", number},

          {"value", speedup},
          {"configuration", configuration},
          {"metrics", {{"peak_bytes", bytes}, {"tokens_per_s", 1}}}};
}

/// Two widths, of which the narrow one was chosen; three rounds; the second one's options were confirmed.
Json summary() {
  return {
      {"bit_widths", {width("fp16", "F16", 0.5, 1, 800), width("int4", "Q4_0", 0.48, 2, 300)}},
      {"decision", {{"bit_width", "int4"}, {"gguf_type", "Q4_0"}}},
      {"trials", {round(0, 1, 300), round(1, 1.5, 320), round(2, 1.2, 310, {{"gguf_type", "IQ4_NL"}})}},
      {"verification",
       {{"confirmed", true}, {"trial", 1}, {"speedup", {{"median", 1.4}}}, {"winner", {{"peak_bytes", 320}}}}},
      {"finetune",
       {{"trials", {{{"value", 0.7}}, {{"value", 0.6}}, {{"value", 0.8}}}}, {"deployed_validation", {{"mean", 0.7}}}}}};
}

TEST(TradeOffs, AreChainedByRatiosMeasuredInTurn) {
  const Json s = summary();
  EXPECT_THAT(trade_offs(Part(s)),
              ElementsAre(TradeOff{"fp16 (F16), untuned", 0.5, 1, 800, false},
                          TradeOff{"int4 (Q4_0), untuned", 0.48, 2, 300, false}, TradeOff{"round 1", 0.7, 2, 300, true},
                          TradeOff{"round 2", 0.6, 2.8, 320, false}, TradeOff{"deployed", 0.7, 2.8, 320, true}))
      << "the second round at the speed of its verification; the third ran in another type than its accuracy was "
         "measured in";
  EXPECT_EQ(trade_offs_json(s)[3]["name"], "round 2");
  EXPECT_EQ(trade_off_table(trade_offs(Part(s))).rows[4],
            (std::vector<std::string>{"deployed", "70.00", "2.800", "320 B", "on the front"}));
}

TEST(TradeOffs, WhereTheDefaultsAreKeptTheirSpeedIsDeployed) {
  Json s = summary();
  s["verification"]["confirmed"] = false;
  s["verification"]["default"] = {{"peak_bytes", 300}};
  EXPECT_EQ(trade_offs(Part(s)).back(), (TradeOff{"deployed", 0.7, 2, 300, true}));
}

// One file by two names: a page of memory and the seventh digit are no difference.
TEST(TradeOffs, RoundingAndPagesDecideNothing) {
  Json s = summary();
  s["verification"]["confirmed"] = false;
  s["finetune"]["trials"][0]["value"] = 0.8833333333333333;
  s["finetune"]["deployed_validation"]["mean"] = 0.883333;
  s["trials"][0]["metrics"]["peak_bytes"] = 21'127'168;
  s["verification"]["default"] = {{"peak_bytes", 21'123'072}};
  s["trials"][1]["metrics"]["peak_bytes"] = 21'123'072;
  s["trials"][1]["value"] = 0.9;
  s["verification"]["trial"] = 7;
  const std::vector<TradeOff> all = trade_offs(Part(s));
  EXPECT_TRUE(all[2].on_front);
  EXPECT_FALSE(all[3].on_front) << "worse in accuracy and speed, and a page smaller than the first";
  EXPECT_TRUE(all.back().on_front);
}

TEST(TradeOffs, RoundsWithoutAValueAndRunsWithoutAFineTuningHaveNone) {
  Json s = summary();
  s["finetune"]["trials"][0]["value"] = nullptr;
  s["trials"][1]["value"] = nullptr;
  EXPECT_EQ(trade_offs(Part(s)).size(), 3u);
  for (const char* key : {"bit_widths", "decision"}) {
    Json damaged = summary();
    damaged.erase(key);
    EXPECT_THAT(trade_offs(Part(damaged)), IsEmpty()) << key;
  }
  s.erase("finetune");
  for (Json& row : s["bit_widths"]) row.erase("accuracy");
  EXPECT_THAT(trade_offs(Part(s)), IsEmpty());
}

}  // namespace
}  // namespace haqa
