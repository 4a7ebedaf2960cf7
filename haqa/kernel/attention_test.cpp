#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/base/file.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/inputs.h"
#include "haqa/kernel/kernel_library.h"
#include "haqa/kernel/reference.h"
#include "kernels/kernel.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// What the judge's problems do not have: no mask, values of another width than keys, gaps between heads.
struct Case {
  int64_t width, out_width, queries, positions, heads, kv_heads;
};

using Kernel = decltype(&haqa_kernel);

Kernel prebuilt_attention() {
  const auto library = prebuilt_variant("attention", "F16");
  std::string why;
  return library ? open_kernel(*library, why).compute : nullptr;
}

/// Of a thread, aligned as kernels may want it.
class Scratch {
 public:
  void* data() { return memory_.data() + (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64; }

 private:
  std::vector<std::byte> memory_ = std::vector<std::byte>(haqa_scratch_bytes + 64);
};

class AttentionTest : public testing::TestWithParam<Case> {};

TEST_P(AttentionTest, NeedsNoMaskAndNoValuesAsWideAsKeys) {
  const Kernel kernel = prebuilt_attention();
  if (!kernel) GTEST_SKIP() << "nothing is prebuilt for this processor";
  const Case& c = GetParam();
  const int64_t gap = 3;  // numbers between heads
  const auto halves = [&](int64_t width, uint64_t seed) {
    std::vector<uint16_t> all(static_cast<size_t>(c.positions * c.kv_heads * (width + gap)));
    FastRandom random(seed);
    for (uint16_t& half : all) half = double_to_half(2 * random.uniform() - 1);
    return all;
  };
  std::vector<uint16_t> k = halves(c.width, 1), v = halves(c.out_width, 2);
  std::vector<float> q(static_cast<size_t>(c.queries * c.heads * c.width));
  FastRandom random(3);
  draw_normal(random, reinterpret_cast<std::byte*>(q.data()), q.size());
  std::vector<float> out(static_cast<size_t>(c.queries * c.heads * c.out_width), NAN);
  Scratch scratch;
  std::vector<std::byte> shared(64);
  const float scale = 0.5;
  haqa_launch launch = {};
  launch.in[0] = {q.data(), {c.width, c.queries, c.heads}, {4, 4 * c.width * c.heads, 4 * c.width}};
  const auto cache = [&](std::vector<uint16_t>& all, int64_t width) {
    return haqa_tensor{
        all.data(), {width, c.positions, c.kv_heads}, {2, 2 * (width + gap) * c.kv_heads, 2 * (width + gap)}};
  };
  launch.in[1] = cache(k, c.width);
  launch.in[2] = cache(v, c.out_width);
  launch.out = {out.data(), {c.out_width, c.heads, c.queries}, {4, 4 * c.out_width, 4 * c.out_width * c.heads}};
  launch.scalars = &scale;
  launch.scratch = scratch.data();
  launch.shared_scratch = shared.data();
  launch.threads = 1;
  kernel(&launch);

  const auto half_at = [&](const std::vector<uint16_t>& all, int64_t width, int64_t j, int64_t head, int64_t i) {
    return half_to_double(all[static_cast<size_t>((j * c.kv_heads + head) * (width + gap) + i)]);
  };
  for (int64_t query = 0; query < c.queries; ++query)
    for (int64_t head = 0; head < c.heads; ++head) {
      const int64_t kv_head = head / (c.heads / c.kv_heads);
      double sum = 0;
      std::vector<double> values(static_cast<size_t>(c.out_width));
      for (int64_t j = 0; j < c.positions; ++j) {
        double score = 0;
        for (int64_t i = 0; i < c.width; ++i)
          score += q[static_cast<size_t>((query * c.heads + head) * c.width + i)] * half_at(k, c.width, j, kv_head, i);
        const double power = std::exp(score * scale);
        sum += power;
        for (int64_t i = 0; i < c.out_width; ++i)
          values[static_cast<size_t>(i)] += power * half_at(v, c.out_width, j, kv_head, i);
      }
      for (int64_t i = 0; i < c.out_width; ++i)
        EXPECT_NEAR(out[static_cast<size_t>((query * c.heads + head) * c.out_width + i)],
                    values[static_cast<size_t>(i)] / sum, 1e-5)
            << query << ", " << head << ", " << i;
    }
}

/// Not even a little of it, which would be all there is where what is seen are zeros.
TEST(MaskedAttentionTest, WhatIsMaskedWeighsNothing) {
  constexpr int64_t kWidth = 64, kPositions = 40;
  const std::vector<fs::path> variants = default_variants(program_folder() / "kernels", "attention", "F16");
  if (variants.empty()) GTEST_SKIP() << "nothing is prebuilt for this processor";
  constexpr uint16_t kHidden = 0xfc00;
  std::vector<uint16_t> k(kWidth * kPositions, double_to_half(0.5)), v = k, mask(kPositions, kHidden);
  for (const int64_t seen : {int64_t{0}, kPositions - 1}) {  // so that the tile between is not left out
    std::fill_n(v.begin() + seen * kWidth, kWidth, 0);
    mask[static_cast<size_t>(seen)] = 0;
  }
  std::vector<float> q(kWidth, 1), out(kWidth);
  Scratch scratch;
  const float scale = 0.125;
  haqa_launch launch = {};
  launch.in[0] = {q.data(), {kWidth, 1, 1}, {4, 4 * kWidth, 4 * kWidth}};
  launch.in[1] = {k.data(), {kWidth, kPositions, 1}, {2, 2 * kWidth, 2 * kWidth}};
  launch.in[2] = {v.data(), {kWidth, kPositions, 1}, {2, 2 * kWidth, 2 * kWidth}};
  launch.in[3] = {mask.data(), {kPositions, 1, 1}, {2, 2 * kPositions, 2 * kPositions}};
  launch.out = {out.data(), {kWidth, 1, 1}, {4, 4 * kWidth, 4 * kWidth}};
  launch.scalars = &scale;
  launch.scratch = scratch.data();
  launch.threads = 1;
  for (const fs::path& variant : variants) {
    std::string why;
    const KernelFunctions kernel = open_kernel(variant, why);
    ASSERT_TRUE(kernel) << why;
    std::fill(out.begin(), out.end(), NAN);
    kernel.compute(&launch);
    for (const float x : out) ASSERT_EQ(x, 0) << variant;
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTest,
                         testing::Values(Case{64, 64, 1, 37, 8, 1}, Case{72, 40, 2, 50, 6, 2},
                                         Case{40, 136, 50, 21, 3, 3}, Case{576, 512, 1, 19, 128, 1},
                                         Case{4096, 2048, 40, 3, 1, 1}),
                         [](const auto& tested) { return std::to_string(tested.index); });

}  // namespace
}  // namespace haqa
