#include "haqa/train/functions.h"

#include <gtest/gtest.h>

#include "haqa/train/device_matrix.h"

namespace haqa {
namespace {

using torch::Tensor;

double difference(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

/// The gradients of `inputs` for y · g summed, which are cleared first.
std::vector<Tensor> gradients(const Tensor& y, const Tensor& g, const std::vector<Tensor>& inputs) {
  for (const Tensor& input : inputs) input.mutable_grad() = Tensor();
  (y * g).sum().backward();
  std::vector<Tensor> all;
  for (const Tensor& input : inputs) all.push_back(input.grad().clone());
  return all;
}

Tensor random(at::IntArrayRef sizes) {
  return torch::randn(sizes, at::kDouble).to(at::kFloat).requires_grad_(true);
}

void expect_same(const Tensor& ours, const Tensor& reference, const std::vector<Tensor>& inputs, double tolerance) {
  EXPECT_LT(difference(ours, reference), tolerance);
  const Tensor g = torch::randn(ours.sizes());
  const auto a = gradients(ours, g, inputs), b = gradients(reference, g, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_LT(difference(a[i], b[i]), tolerance) << "input " << i;
}

TEST(RmsNorm, IsLibtorchsOwn) {
  at::manual_seed(1);
  const Tensor x = random({5, 48}), weight = random({48});
  expect_same(rms_norm(x, weight, 1e-5), at::rms_norm(x, {48}, weight, 1e-5), {x, weight}, 1e-5);
}

TEST(Swiglu, IsItsDefinition) {
  at::manual_seed(1);
  const Tensor gate = random({5, 48}), up = random({5, 48});
  expect_same(swiglu(gate, up), gate * at::sigmoid(gate) * up, {gate, up}, 1e-5);
}

TEST(Rope, TurnsPairs) {
  at::manual_seed(1);
  const Tensor x = random({3, 2, 4});
  const Tensor angles = torch::tensor({0.0, 0.0, 1.0, 0.1, 2.0, 0.2}).view({3, 2}), c = angles.cos().unsqueeze(1),
               s = angles.sin().unsqueeze(1);
  const Tensor even = x.slice(2, 0, 4, 2), odd = x.slice(2, 1, 4, 2);
  const Tensor reference = at::stack({even * c - odd * s, even * s + odd * c}, -1).flatten(2);
  expect_same(rope(x, at::complex(angles.cos(), angles.sin())), reference, {x}, 1e-6);
}

TEST(FrozenLinear, IsTheAdaptedProduct) {
  at::manual_seed(1);
  const Tensor w = torch::randn({80, 64}), x = random({40, 64}), a = random({8, 64}), b = random({80, 8});
  const DenseMatrix base(w);
  SharedInput shared;
  expect_same(frozen_linear(x, {}, shared, base, LoraWeights{a, b, 0.5}), at::linear(x, w + 0.5 * at::mm(b, a)),
              {x, a, b}, 2e-4);
  const Tensor dropped = random({40, 64});
  expect_same(frozen_linear(x, dropped, shared, base, LoraWeights{a, b, 0.5}),
              at::linear(x, w) + 0.5 * at::linear(at::linear(dropped, a), b), {x, dropped, a, b}, 2e-4);
  expect_same(frozen_linear(x, {}, shared, base, {}), at::linear(x, w), {x}, 1e-4);
}

TEST(SummedCrossEntropy, IsLibtorchsOwnInChunks) {
  at::manual_seed(1);
  const Tensor hidden = random({37, 64}), weight = random({200, 64});
  const Tensor targets = at::arange(37).mul(31).remainder(200);
  expect_same(summed_cross_entropy(hidden, weight, targets, 10),
              at::cross_entropy_loss(at::linear(hidden, weight), targets, {}, at::Reduction::Sum), {hidden, weight},
              2e-4);
}

TEST(Dropout, ZeroesItsShareByTheSeedAlone) {
  const Tensor x = torch::ones({200, 500}).requires_grad_(true);
  const Tensor y = seeded_dropout(x, 0.3, 5);
  EXPECT_NEAR((y == 0).to(at::kFloat).mean().item<double>(), 0.3, 0.01);
  EXPECT_NEAR(y.mean().item<double>(), 1, 0.02);
  EXPECT_EQ(difference(gradients(y, torch::ones_like(y), {x})[0], y), 0);
  at::manual_seed(99);
  EXPECT_EQ(difference(seeded_dropout(x, 0.3, 5), y), 0);
  EXPECT_GT(difference(seeded_dropout(x, 0.3, 6), y), 0);
  EXPECT_TRUE(seeded_dropout(x, 0, 5).is_same(x));
}

}  // namespace
}  // namespace haqa
