// Against torchvision's ResNet50 and a plain PyTorch ResNet20 with quantizers; vision_peer.py is their side.
#include "haqa/vision/resnet.h"

#include <gmock/gmock.h>

#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"
#include "haqa/base/error_test_support.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/deploy/hugging_face.h"
#include "haqa/deploy/python_test_support.h"
#include "haqa/vision/sgd.h"
#include "haqa/vision/vision_test_support.h"
#include "haqa/vision/weights.h"

namespace haqa {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using torch::Tensor;

class WithPyTorch : public testing::Test {
 protected:
  void SetUp() override {
    try {
      python_ = converter_python(quiet_);
      packages_ = python_packages(python_, "torchvision-0.28.0", {"torchvision==0.28.0", "pillow"});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  std::filesystem::path path(const std::string& name) const { return folder_ / name; }

  void peer(const std::string& command) const {
    const ProcessResult run =
        run_process({{python_, "-W", "ignore", HAQA_SOURCE_DIR "/haqa/vision/vision_peer.py", command, path("")},
                     {{"PYTHONPATH", packages_}}});
    if (!run.ok()) throw Error("vision_peer.py {}: {}\n{}", command, run.describe(), run.errors);
  }

  const TemporaryFolder folder_;
  Progress quiet_{true};
  std::filesystem::path python_, packages_;
};

TEST_F(WithPyTorch, QuantizersGiveTheSameNumbers) {
  at::manual_seed(11);
  const Tensor w = at::randn({12, 7, 3, 3}) * 0.4, x = at::randn({3, 16, 5, 5}), clip = at::full({}, 0.8f);
  const std::map<std::string, Tensor> cases = {
      {"w", w}, {"x", x}, {"clip", clip}, {"g_w", at::randn(w.sizes())}, {"g_x", at::randn(x.sizes())}};
  std::vector<TensorToSave> saved;
  for (const auto& [name, tensor] : cases)
    saved.push_back({name, tensor.sizes().vec(), {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())}});
  write_safetensors(saved, path("cases.safetensors"));
  peer("quantizers");
  const std::map<std::string, Tensor> expected = read_tensors(path("quantizers.pt"));
  const auto expect = [&](const std::string& name, const Tensor& y, const Tensor& input, const Tensor& g) {
    SCOPED_TRACE(name);
    input.mutable_grad() = Tensor();
    EXPECT_EQ(difference(y.detach(), expected.at(name)), 0);
    (y * g).sum().backward();
    const Tensor& gradient = expected.at(name + " gradient");
    EXPECT_LT(difference(input.grad(), gradient), 2e-6 * (1 + gradient.abs().max().item<double>()));
  };
  for (const int bits : {1, 2, 3, 4, 5, 8, 12, 24, 31, 32}) {
    const std::string number = std::to_string(bits);
    for (const char* scaling : {"original", "pretrained"}) {
      const Tensor leaf = w.clone().requires_grad_(true);
      expect("weight " + number + " " + scaling, quantized_weight(leaf, bits, weight_scaling_from(scaling)), leaf,
             cases.at("g_w"));
    }
    const Tensor leaf = x.clone().requires_grad_(true), bound = clip.clone().requires_grad_(true);
    expect("activation " + number, quantized_activation(leaf, bits), leaf, cases.at("g_x"));
    expect("pact " + number, pact_activation(leaf, bound, bits), leaf, cases.at("g_x"));
    EXPECT_LT(difference(bound.grad(), expected.at("pact " + number + " clip")), 1e-4) << bits;
  }
}

// The same losses, step by step, from the same weights: forward, backward and the optimizer. In double precision no
// number falls on another side of an edge; in floats, by the kernels, a few do, the more the longer it learns.
TEST_F(WithPyTorch, QuantizedResNet20sLearnTheSame) {
  peer("networks");
  const auto pact = QuantizationMethod::pact;
  const auto original = WeightScaling::original;
  const struct {
    std::string name;
    Quantization quantization;
    Shortcut shortcut = Shortcut::a;
  } cases[] = {
      {"w4a4", {.weight_bits = 4, .activation_bits = 4}},
      {"w2a2-b-original", {.weight_bits = 2, .activation_bits = 2, .scaling = original}, Shortcut::b},
      {"w1a2-all", {.weight_bits = 1, .activation_bits = 2, .first_layer = true, .last_layer = true}},
      {"pact-w8a4", {.weight_bits = 8, .activation_bits = 4, .method = pact}},
      {"pact-w2a2-b-last",
       {.weight_bits = 2, .activation_bits = 2, .method = pact, .scaling = original, .last_layer = true},
       Shortcut::b},
  };
  for (const auto& c : cases)
    for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
      SCOPED_TRACE(c.name + " in " + toString(type));
      const std::map<std::string, Tensor> made = read_tensors(path(c.name + ".pt"));
      const double first = type == at::kDouble ? 1e-9 : 2e-3, later = type == at::kDouble ? 1e-9 : 0.03;
      ResNet network({.shortcut = c.shortcut, .quantization = c.quantization, .compute = type});
      load_weights(network, path(c.name + "-before.pt"));
      Sgd sgd(network.parameters(), {.momentum = 0.9, .nesterov = true, .weight_decay = 5e-4});
      for (int64_t step = 0; step < made.at("losses").numel(); ++step) {
        const Tensor loss = at::cross_entropy_loss(network.logits(made.at("images"), true), made.at("labels"), {},
                                                   at::Reduction::Mean, -100, 0.1);
        EXPECT_NEAR(loss.item<double>(), made.at("losses")[step].item<double>(), step == 0 ? first : later) << step;
        loss.backward();
        sgd.step(0.05);
      }
      const at::NoGradGuard no_grad;
      const double logits = difference(network.logits(made.at("images"), false), made.at("logits"));
      EXPECT_LT(logits, 30 * later);
      if (type != at::kDouble) continue;
      // PACT's bounds cut in single precision.
      const double last = c.quantization.method == pact ? 1e-6 : 1e-9;
      const Weights after = read_weights(path(c.name + "-after.pt"));
      for (const auto& [name, tensor] : network.parameters())
        EXPECT_LT(difference(tensor, after.tensors.at(name)), last) << name;
    }
}

TEST_F(WithPyTorch, ReadsAndWritesItsCheckpoints) {
  peer("checkpoints");
  ResNet network({});
  load_weights(network, path("before.pt"));  // under "state_dict", names behind "module.", linear
  save_weights(network, path("ours.safetensors"));
  EXPECT_NO_THROW(peer("load"));
  // Ours, PyTorch's before 1.6, also by the latest protocol, and one with arguments of a program beside the weights.
  for (const char* file : {"ours.safetensors", "legacy.pt", "legacy-5.pt", "objects.pt"}) {
    ResNet other({.seed = 5});
    load_weights(other, path(file));
    for (const auto& [name, tensor] : network.parameters())
      EXPECT_TRUE(tensor.equal(other.parameters().at(name))) << file << " " << name;
    for (const auto& [name, tensor] : network.buffers())
      EXPECT_TRUE(tensor.equal(other.buffers().at(name))) << file << " " << name;
  }

  const Tensor before = network.parameters().at("bn1.weight").clone();
  EXPECT_THAT(message_of([&] { load_weights(network, path("lacking.pt")); }),
              AllOf(HasSubstr("it lacks layer1.0.conv1.weight"), HasSubstr("it has layer9.weight"),
                    HasSubstr("fc.bias [7] for [10]")));
  EXPECT_TRUE(network.parameters().at("bn1.weight").equal(before)) << "a file that does not fit changes nothing";
  for (const char* file : {"before.pt", "legacy.pt"}) {
    const std::string whole = read_file(path(file));
    for (const size_t size : {size_t{0}, size_t{3}, size_t{1000}, whole.size() / 2, whole.size() - 1}) {
      write_file(path("cut.pt"), whole.substr(0, size));
      EXPECT_NE(message_of([&] { load_weights(network, path("cut.pt")); }), "") << file << " " << size;
    }
  }
  ResNet fewer({.classes = 3});
  EXPECT_THAT(message_of([&] { load_weights(fewer, path("before.pt")); }), HasSubstr("fc.weight [10, 64] for [3, 64]"));
}

TEST_F(WithPyTorch, ResNet50IsTorchvisions) {
  peer("torchvision");
  const std::map<std::string, Tensor> logits = read_tensors(path("logits.pt"));
  ResNet network({.kind = ResNetKind::resnet50});
  load_weights(network, path("resnet50.pt"));
  const at::NoGradGuard no_grad;
  EXPECT_LT(difference(network.logits(logits.at("images"), false), logits.at("evaluated")), 1e-4);
  EXPECT_LT(difference(network.logits(logits.at("images"), true), logits.at("trained")), 1e-4);
}

TEST(ResNet, HasTheWeightsOfItsKind) {
  struct Case {
    ResNetOptions options;
    int64_t parameters;
  };
  // He et al. 2015, table 6: 0.27M and 0.46M; torchvision's resnet50: 25,557,032. Option B adds two convolutions of
  // 16 * 32 and 32 * 64 and their normalizations; PACT a bound for each of 19 activations.
  const std::vector<Case> cases = {
      {{.kind = ResNetKind::resnet20}, 269722},
      {{.kind = ResNetKind::resnet32}, 464154},
      {{.kind = ResNetKind::resnet20, .shortcut = Shortcut::b}, 269722 + 512 + 64 + 2048 + 128},
      {{.kind = ResNetKind::resnet20, .quantization = {.activation_bits = 2, .method = QuantizationMethod::pact}},
       269722 + 19},
      {{.quantization = {.activation_bits = 2, .method = QuantizationMethod::pact, .last_layer = true}}, 269722 + 20},
      {{.quantization = {.weight_bits = 2, .method = QuantizationMethod::pact, .last_layer = true}}, 269722},
      {{.kind = ResNetKind::resnet50, .classes = 1000}, 25557032}};
  for (const Case& c : cases) {
    int64_t count = 0;
    const ResNet network(c.options);
    for (const auto& [name, tensor] : network.parameters()) count += tensor.numel();
    EXPECT_EQ(count, c.parameters);
  }
}

TEST(ResNet, QuantizesItsFirstAndLastLayersWhereAsked) {
  const Tensor images = at::randn({2, 3, 16, 16});
  const auto logits = [&](bool first, bool last, int bits) {
    ResNet network({.quantization = {.weight_bits = bits, .first_layer = first, .last_layer = last}, .seed = 4});
    const at::NoGradGuard no_grad;
    return network.logits(images, true);
  };
  const Tensor neither = logits(false, false, 2);
  EXPECT_GT(difference(logits(true, false, 2), neither), 1e-3);
  EXPECT_GT(difference(logits(false, true, 2), neither), 1e-3);
  EXPECT_EQ(difference(logits(true, true, 32), logits(false, false, 32)), 0);
}

// ResNet50 in evaluation, as the four images' own statistics would magnify every rounding.
TEST(ResNet, ComputesNearlyTheSameInBfloat16) {
  const Tensor images = at::randn({4, 3, 32, 32});
  for (const ResNetKind kind : {ResNetKind::resnet20, ResNetKind::resnet50}) {
    const auto logits = [&](at::ScalarType type) {
      ResNet network({.kind = kind, .shortcut = Shortcut::b, .compute = type, .seed = 4});
      return network.logits(images, kind == ResNetKind::resnet20).detach();
    };
    const Tensor whole = logits(at::kFloat);
    EXPECT_LT(difference(logits(at::kBFloat16), whole), 0.1 * whole.abs().max().item<double>());
  }
}

// With 16 bits nothing is lost but what lies beyond the bounds, and they lie at the largest numbers.
TEST(ResNet, FitsActivationsWithoutChangingWhatItComputes) {
  at::manual_seed(1);
  const Tensor images = at::randn({4, 3, 32, 32});
  for (const ResNetOptions& options :
       {ResNetOptions{}, ResNetOptions{.shortcut = Shortcut::b}, ResNetOptions{.kind = ResNetKind::resnet50}}) {
    ResNet whole(options);
    const at::NoGradGuard no_grad;
    for (int i = 0; i < 30; ++i) whole.logits(images, true);  // statistics that are those of the images
    for (const auto& [name, tensor] : whole.parameters())
      if (name.ends_with(".bias")) tensor.normal_(0, 0.2);
    const Tensor expected = whole.logits(images, false);
    ResNetOptions quantized = options;
    quantized.quantization.activation_bits = 16;
    ResNet network(quantized);
    for (const auto& [name, tensor] : network.parameters()) tensor.copy_(whole.parameters().at(name));
    for (const auto& [name, tensor] : network.buffers()) tensor.copy_(whole.buffers().at(name));
    EXPECT_GT(difference(network.logits(images, false), expected), 0.1);
    network.fit_activations(images);
    EXPECT_LT(difference(network.logits(images, false), expected), 0.02 * expected.abs().max().item<double>())
        << static_cast<int>(options.kind) << " " << static_cast<int>(options.shortcut);
  }
}

// By PACT the bounds take them, from what the first block reads to what the last layer does.
TEST(ResNet, PactsBoundsBeginWhereActivationsEnd) {
  at::manual_seed(1);
  const Tensor images = at::randn({4, 3, 32, 32});
  const at::NoGradGuard no_grad;
  for (const ResNetKind kind : {ResNetKind::resnet20, ResNetKind::resnet50}) {
    ResNet whole({.kind = kind});
    for (int i = 0; i < 30; ++i) whole.logits(images, true);
    for (const auto& [name, tensor] : whole.parameters())  // activations beyond 1
      if (tensor.dim() == 1 && name.ends_with(".bias")) tensor.normal_(1, 1);
    const Tensor expected = whole.logits(images, false);
    const double range = expected.abs().max().item<double>();
    for (const int bits : {8, 16}) {
      ResNet network({.kind = kind,
                      .quantization = {.activation_bits = bits, .method = QuantizationMethod::pact, .last_layer = true},
                      .pact_clip = 0.5});
      for (const auto& [name, tensor] : network.parameters())
        if (!name.ends_with(".clip")) tensor.copy_(whole.parameters().at(name));
      for (const auto& [name, tensor] : network.buffers()) tensor.copy_(whole.buffers().at(name));
      EXPECT_GT(difference(network.logits(images, false), expected), 0.1 * range);
      network.fit_activations(images);
      EXPECT_LT(difference(network.logits(images, false), expected), (bits == 8 ? 0.05 : 0.02) * range)
          << name_of(kind) << " " << bits;
      EXPECT_GT(network.parameters().at("fc.clip").item<double>(), 1) << name_of(kind);
    }
  }
}

TEST(ResNet, RefusesOptionsOutOfRange) {
  EXPECT_THROW(ResNet({.classes = 1}), UsageError);
  EXPECT_THROW(ResNet({.quantization = {.weight_bits = 0}}), UsageError);
  EXPECT_THROW(ResNet({.quantization = {.activation_bits = 33}}), UsageError);
  EXPECT_THROW(ResNet({.quantization = {.activation_bits = 9}, .compute = at::kBFloat16}), UsageError);
  EXPECT_NO_THROW(ResNet({.quantization = {.activation_bits = 8}, .compute = at::kBFloat16}));
  EXPECT_THROW(ResNet({.pact_clip = 0}), UsageError);
  EXPECT_THROW(ResNet({.compute = at::kHalf}), UsageError);
  EXPECT_THROW(resnet_kind_from("resnet18"), UsageError);
}

TEST(LoadWeights, SaysWhatAFileIsNot) {
  const TemporaryFolder folder;
  ResNet network({});
  EXPECT_THAT(message_of([&] { load_weights(network, folder / "none"); }), HasSubstr("no such file"));
  write_file(folder / "text", "no weights at all");
  EXPECT_NE(message_of([&] { load_weights(network, folder / "text"); }), "");
}

}  // namespace
}  // namespace haqa
