#include "haqa/sampler/truncated_normal.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace haqa {
namespace {

// Made by tests/golden/truncated_normal.py with SciPy 1.17.1.
const struct {
  double mean, deviation;
  std::array<double, 5> log_densities;  ///< at 0, 0.2, 0.5, 0.95, 1
  std::array<double, 3> masses;         ///< of 0 to 0.1, 0.4 to 0.6, 0.95 to 1
  std::array<double, 4> quantiles;      ///< of 1e-6, 0.1, 0.5, 0.99
} kGolden[] = {
    {0.5,
     1,
     {-0.08402219950905043, -0.0040221995090504725, 0.04097780049094957, -0.060272199509050495, -0.08402219950905043},
     {0.09411954548131765, 0.20801903940861305, 0.04653048290346934},
     {1.0876527430925265e-06, 0.10610703156160106, 0.49999999999999983, 0.9891527251219445}},
    {0.5,
     0.05,
     {-47.923206259650684, -15.92320625965068, 2.076793740349318, -38.42320625965067, -47.923206259650684},
     {6.22096049807319e-16, 0.9544997361036416, 1.12851220742362e-19},
     {0.26232878455885505, 0.43592242172276996, 0.5, 0.6163173937020421}},
    {0.0,
     0.2,
     {1.3836471330926812, 0.8836471330926811, -1.7413528669073186, -9.897602866907315, -11.116352866907318},
     {0.382925142080214, 0.04280049237075512, 1.460864178897054e-06},
     {2.506626837605695e-07, 0.025132254886525825, 0.13489785983384792, 0.5151619356347242}},
    {1.0,
     0.01,
     {-4995.620621166657, -3195.6206211666563, -1245.6206211666567, -8.120621166656658, 4.379378833343363},
     {0.0, 0.0, 0.9999994266968563},
     {0.9510836152430141, 0.9835514637304853, 0.9932551024980392, 0.9998746653049193}},
    {0.3,
     0.4,
     {0.026284185394877757, 0.27628418539487776, 0.18253418539487776, -1.012778314605122, -1.223715814605122},
     {0.11169873100834979, 0.23818779299880133, 0.01639424707563209},
     {9.740573476690884e-07, 0.0901922818758272, 0.39440044624710424, 0.9682726432255633}},
    {0.97,
     5,
     {-0.01274915108879271, -0.005789151088792854, 0.0016508489112072589, 0.006060848911207284, 0.00605084891120744},
     {0.0989183668392954, 0.2003172058947839, 0.05030413033164883},
     {1.012830748159388e-06, 0.1010914665517304, 0.5023441004596805, 0.990060378525112}},
};

double error(double got, double want) {
  return std::abs(got - want) / std::max(1e-12, std::abs(want));
}

TEST(TruncatedNormal, IsSciPys) {
  constexpr double kAt[] = {0, 0.2, 0.5, 0.95, 1}, kShares[] = {1e-6, 0.1, 0.5, 0.99};
  constexpr double kParts[][2] = {{0, 0.1}, {0.4, 0.6}, {0.95, 1}};
  for (const auto& golden : kGolden) {
    const TruncatedNormal normal(golden.mean, golden.deviation);
    for (size_t i = 0; i < 5; ++i)
      EXPECT_LE(error(normal.log_density(kAt[i]), golden.log_densities[i]), 1e-11) << golden.mean << ' ' << kAt[i];
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LE(error(normal.mass(kParts[i][0], kParts[i][1]), golden.masses[i]), 1e-9)
          << golden.mean << ' ' << kParts[i][0];
    for (size_t i = 0; i < 4; ++i)
      EXPECT_LE(error(normal.quantile(kShares[i]), golden.quantiles[i]), 1e-8) << golden.mean << ' ' << kShares[i];
    EXPECT_LE(std::abs(normal.mass(0, 1) - 1), 1e-12);
  }
}

TEST(TruncatedNormal, QuantilesStayWithin) {
  for (const double mean : {0.0, 0.5, 1.0})
    for (const double deviation : {1e-4, 0.01, 1.0, 100.0})
      for (const double share : {0.0, 1e-300, 0.5, 1.0}) {
        const double x = TruncatedNormal(mean, deviation).quantile(share);
        EXPECT_TRUE(x >= 0 && x <= 1) << mean << ' ' << deviation << ' ' << share << ": " << x;
      }
}

}  // namespace
}  // namespace haqa
