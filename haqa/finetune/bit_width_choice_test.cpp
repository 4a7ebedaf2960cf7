#include "haqa/finetune/bit_width_choice.h"

#include <gmock/gmock.h>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

SearchSpace rates() {
  return SearchSpace({real_parameter("rate", 0.1, 1, 0.5, "")}, {Expression("rate <= 0.9")});
}

TEST(BitWidthChoice, IsAParameterBesideTheOthers) {
  const std::vector<LayerBits> widths = {{8, 8}, {4, 8}, {2, 2}};
  const SearchSpace space = with_bit_width(rates(), widths);
  EXPECT_EQ(space.defaults(), Json({{"bit_width", "w8a8"}, {"rate", 0.5}}));
  EXPECT_EQ(space.parameters()[0].choices, std::vector<Json>({"w8a8", "w4a8", "w2a2"}));
  EXPECT_FALSE(space.problem({{"bit_width", "w2a2"}, {"rate", 0.9}}));
  EXPECT_TRUE(space.problem({{"bit_width", "w4a4"}, {"rate", 0.9}})) << "no choice";
  EXPECT_TRUE(space.problem({{"bit_width", "w2a2"}, {"rate", 0.95}})) << "against the constraint";
  EXPECT_EQ(with_bit_width(rates(), {}).defaults(), rates().defaults());
  EXPECT_THROW(with_bit_width(space, widths), UsageError);
}

Json row(const std::string& name, uint64_t bytes, const Json& ms) {
  return {{"bit_width", name},
          {"bytes", bytes},
          {"memory_bytes", ms.is_null() ? Json() : Json(10 * bytes)},
          {"latency_ms", ms.is_null() ? Json() : Json{{"median", ms}, {"low", 0.1}, {"high", 99}}}};
}

TEST(BitWidthChoice, LeavesOutWhatBreaksALimit) {
  const Json rows = {row("fp32", 1000, 3), row("w8a8", 300, 2), row("w4a4", 170, 1), row("w2a2", 160, 1.5)};
  using Limits = DeploymentLimits;
  struct Case {
    Limits limits;
    std::vector<LayerBits> within;
  };
  const LayerBits eight = {8, 8}, four = {4, 4}, two = {2, 2};
  for (const Case& c : std::vector<Case>{{{}, {eight, four, two}},
                                         {{.file_bytes = 300}, {eight, four, two}},
                                         {{.file_bytes = 299}, {four, two}},
                                         {{.file_bytes = 160}, {two}},
                                         {{.latency_ms = 1.5}, {four, two}},
                                         {{.memory_bytes = 1700}, {four, two}},
                                         {{.latency_ms = 1.4, .memory_bytes = 3000}, {four}},
                                         {{.file_bytes = 170, .latency_ms = 1.4}, {four}}})
    EXPECT_EQ(within_limits(rows, c.limits), c.within);
  EXPECT_THAT(broken_limits(rows[1], {.file_bytes = 299, .latency_ms = 1, .memory_bytes = 2000}),
              AllOf(HasSubstr("file of 300 B is larger than file_limit 299 B"),
                    HasSubstr("takes it 2 ms, more than latency_limit_ms 1"),
                    HasSubstr("takes 3.00 kB of memory, more than inference_memory_limit 2.00 kB")));
  EXPECT_THAT(broken_limits(row("w8a8", 300, nullptr), {.latency_ms = 1e-6, .memory_bytes = 1}), IsEmpty())
      << "not measured";
}

TEST(BitWidthChoice, WithoutAnyLeftTellsAllFigures) {
  const Json rows = {row("fp32", 1'250'000, 3), row("w8a8", 300'000, 2), row("w4a4", 170'000, nullptr)};
  try {
    within_limits(rows, {.file_bytes = 100'000, .latency_ms = 0.5, .memory_bytes = 1000});
    FAIL() << "one was left";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("(file_limit 100.0 kB, latency_limit_ms 0.5, inference_memory_limit 1.00 kB)"),
                      HasSubstr("fp32 1.25 MB and 3 ms and 12.5 MB of memory"), HasSubstr("w8a8 300.0 kB and 2 ms"),
                      HasSubstr("w4a4 170.0 kB; raise")));
  }
}

}  // namespace
}  // namespace haqa
