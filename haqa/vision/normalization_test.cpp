#include "haqa/vision/normalization.h"

#include <string>

#include "haqa/vision/vision_test_support.h"

namespace haqa {
namespace {

using torch::Tensor;
using Kind = ActivationLayer::Kind;

struct Case {
  std::string name;
  Kind kind;
  int bits = kFullPrecision;
  double clip = 0;  ///< PACT's; 0: none
  bool shortcut = false;
};

/// One layer with what it learns.
struct Made {
  Made(const Case& c, at::ScalarType type, int64_t channels) {
    at::manual_seed(7);
    const auto leaf = [&](const Tensor& values, at::ScalarType as) {
      Tensor x = values.to(as);
      if (x.dim() == 4) x = x.contiguous(at::MemoryFormat::ChannelsLast);
      return x.requires_grad_(true);
    };
    const at::ScalarType wide = type == at::kDouble ? at::kDouble : at::kFloat;
    y = leaf(at::randn({5, channels, 7, 9}) * 2 + 3, type);
    norm.weight = leaf(at::rand(channels) + 0.3, wide);
    norm.bias = leaf(at::randn(channels) * 0.3 + 0.4, wide);
    norm.running_mean = at::zeros(channels, wide);
    norm.running_var = at::ones(channels, wide);
    layer = {c.kind, c.bits};
    if (c.clip > 0) layer.clip = leaf(at::full({}, c.clip), wide);
    if (c.shortcut) past = leaf(at::randint(0, 4, {5, channels, 7, 9}, at::kFloat), type);
    g_codes = at::randn({5, channels, 7, 9});
    g_again = at::randn({5, channels, 7, 9});
  }

  Activations run(bool training) {
    std::optional<Activations> shortcut;
    if (past.defined()) shortcut = Activations{past, past, 0.25};
    return normalized(y, 0.7, norm, shortcut, layer, training);
  }

  /// Results, then gradients: for numbers, not for codes.
  std::vector<Tensor> everything() {
    const Activations out = run(true);
    const auto gradient = [&](const Tensor& g) { return (g * out.scale).to(out.codes.scalar_type()); };
    torch::autograd::backward({out.codes, out.again}, {gradient(g_codes), gradient(g_again)});
    std::vector<Tensor> all = {out.codes.to(at::kDouble) * out.scale, y.grad(), norm.weight.grad(), norm.bias.grad()};
    if (past.defined()) all.push_back(past.grad());
    if (layer.clip.defined()) all.push_back(layer.clip.grad());
    all.push_back(norm.running_mean);
    all.push_back(norm.running_var);
    all.push_back(run(true).codes.to(at::kDouble) * out.scale);
    return all;
  }

  Tensor y, past, g_codes, g_again;
  BatchNorm norm;
  ActivationLayer layer;
};

// In double precision, libtorch's own operations and its differentiation compute it.
TEST(Normalized, IsLibtorchsOwnInOnePiece) {
  const std::vector<Case> cases = {{"none", Kind::none},
                                   {"relu", Kind::relu},
                                   {"relu, shortcut", Kind::relu, kFullPrecision, 0, true},
                                   {"2 bits", Kind::quantized, 2},
                                   {"2 bits, shortcut", Kind::quantized, 2, 0, true},
                                   {"8 bits, shortcut", Kind::quantized, 8, 0, true},
                                   {"23 bits", Kind::quantized, 23},
                                   {"30 bits: by operations", Kind::quantized, 30},
                                   {"PACT", Kind::quantized, 4, 1.5},
                                   {"PACT, shortcut", Kind::quantized, 4, 1.5, true}};
  for (const Case& c : cases)
    for (const int64_t channels : {16, 48, 20}) {  // the last by operations
      SCOPED_TRACE(c.name + ", channels " + std::to_string(channels));
      const std::vector<Tensor> expected = Made(c, at::kDouble, channels).everything();
      const std::vector<Tensor> got = Made(c, at::kFloat, channels).everything();
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        // A number on the edge between two steps may fall on either side: at most a few in a thousand.
        const Tensor far = (got[i] - expected[i]).abs() > 1e-4 * (1 + expected[i].abs());
        EXPECT_LE(far.sum().item<int64_t>(), i == 0 || i + 1 == got.size() ? far.numel() / 1000 : 0) << "tensor " << i;
      }
    }
}

TEST(Normalized, IsNearInBfloat16) {
  for (const Case& c : {Case{"relu, shortcut", Kind::relu, kFullPrecision, 0, true}, Case{"none", Kind::none}}) {
    const std::vector<Tensor> expected = Made(c, at::kDouble, 32).everything();
    const std::vector<Tensor> got = Made(c, at::kBFloat16, 32).everything();
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_LT(((got[i] - expected[i]).abs() / (1 + expected[i].abs())).mean().item<double>(), 0.05)
          << c.name << " " << i;
  }
}

TEST(Normalized, UsesRunningStatisticsInEvaluation) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    Made made({"relu", Kind::relu, kFullPrecision, 0, true}, type, 16);
    made.run(true);
    const at::NoGradGuard no_grad;
    const Activations out = made.run(false);
    const Tensor expected =
        at::relu(at::batch_norm(made.y * 0.7, made.norm.weight, made.norm.bias, made.norm.running_mean,
                                made.norm.running_var, false, 0, made.norm.epsilon, false) +
                 made.past * 0.25);
    EXPECT_LT(difference(out.codes, expected), 1e-5);
  }
}

// What is no number must reach the loss, where a training finds it.
TEST(Normalized, KeepsWhatIsNoNumber) {
  Made made({"4 bits", Kind::quantized, 4}, at::kFloat, 16);
  const at::NoGradGuard no_grad;
  made.y[0][0][0][0] = NAN;
  EXPECT_TRUE(made.run(true).codes.isnan().any().item<bool>());
}

TEST(Normalized, IsTheSameOnAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  const Case c{"4 bits, shortcut", Kind::quantized, 4, 0, true};
  at::set_num_threads(1);
  const std::vector<Tensor> one = Made(c, at::kFloat, 16).everything();
  at::set_num_threads(3);
  const std::vector<Tensor> three = Made(c, at::kFloat, 16).everything();
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_EQ(difference(one[i], three[i]), 0) << i;
}

}  // namespace
}  // namespace haqa
