// Against ONNX Runtime, which loads and runs what is written; onnx_peer.py is its side.
#include "haqa/vision/onnx_export.h"

#include <gmock/gmock.h>

#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"
#include "haqa/base/error_test_support.h"
#include "haqa/base/json.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/deploy/hugging_face.h"
#include "haqa/deploy/python_test_support.h"
#include "haqa/vision/export_job.h"
#include "haqa/vision/vision_test_support.h"
#include "haqa/vision/weights.h"

namespace haqa {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using torch::Tensor;
namespace fs = std::filesystem;

void save(const std::map<std::string, Tensor>& tensors, const fs::path& file) {
  std::vector<Tensor> kept;
  std::vector<TensorToSave> saved;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.contiguous());
    saved.push_back({name, tensor.sizes().vec(), {kept.back().data_ptr<float>(), static_cast<size_t>(tensor.numel())}});
  }
  write_safetensors(saved, file);
}

/// A network as after a training: statistics of its images, and normalizations of all signs, some of which are nothing.
ResNet settled(const ResNetOptions& options, const Tensor& images) {
  ResNet network(options);
  const at::NoGradGuard no_grad;
  at::manual_seed(7);
  const std::string last = options.kind == ResNetKind::resnet50 ? ".bn3" : ".bn2";
  for (const auto& [name, tensor] : network.parameters()) {
    if (name.ends_with(".clip")) tensor.uniform_(1, 3);
    if (name.find(".bn") == std::string::npos && name.find("bn1") != 0) continue;
    if (name.ends_with(".bias")) tensor.normal_(0.3, 0.3);
    if (name.ends_with(".weight")) {
      tensor.normal_(0, name.find(last) == std::string::npos ? 0.6 : 0.2);  // as deep networks come to have it
      tensor[1] = 0;
      tensor[2] = 1e-12;
    }
  }
  for (int i = 0; i < 12; ++i) network.logits(images, true);
  return network;
}

/// How far from each other, of how large they are.
double distance(const Tensor& a, const Tensor& b) {
  return ((a - b).square().mean() / b.square().mean()).sqrt().item<double>();
}

// ResNet20 has 18 convolutions between the first and the last layer, half of them before sums. In full precision both
// sides differ by the roundings of floats. Among some ten thousand activations of an image these, and those of biases,
// push one or another over an edge, to the next step, and a random network hands that on. Nothing else is rounded with
// DoReFa's activations of up to 7 bits; of 2 bits, with weights scaled as pretrained, no edge is moved in these
// networks.
constexpr double kFloats = 1e-5, kEdges = 0.04, kRounded = 0.02;

struct Case {
  std::string name;
  ResNetOptions options;
  OnnxExportOptions how;
  int64_t integer_layers = 0;  ///< that must compute with whole numbers
  double tolerance = kFloats;  ///< of distance()
};

std::vector<Case> cases() {
  const auto quantized = [](int w, int a, WeightScaling scaling = WeightScaling::pretrained) {
    return ResNetOptions{.quantization = {.weight_bits = w, .activation_bits = a, .scaling = scaling}};
  };
  const auto pact = [](int w, int a) {
    return ResNetOptions{.quantization = {.weight_bits = w, .activation_bits = a, .method = QuantizationMethod::pact}};
  };
  constexpr auto kOriginal = WeightScaling::original;
  std::vector<Case> all = {
      {"fp", {}},
      {"w8a8", quantized(8, 8), {}, 18, kRounded},
      {"w8a8-original-exact", quantized(8, 8, kOriginal), {.exact = true}, 9, kRounded},
      {"w7a8-exact", quantized(7, 8), {.exact = true}, 9, kEdges},
      {"w4a4", quantized(4, 4), {}, 18, kEdges},
      {"w4a4-opset13", quantized(4, 4), {.four_bits = false}, 18, kEdges},
      {"w4a4-original", quantized(4, 4, kOriginal), {}, 18, kEdges},
      {"w2a2", quantized(2, 2), {}, 18},
      {"w2a2-original", quantized(2, 2, kOriginal), {}, 18, kEdges},
      {"w1a2", quantized(1, 2), {}, 18},
      {"w4a8", quantized(4, 8), {}, 18, kRounded},
      {"w6a3", quantized(6, 3), {}, 18, kEdges},
      {"w4", quantized(4, 32)},
      {"w8", quantized(8, 32)},
      {"a4", quantized(32, 4), {}, 0, kEdges},
      {"w12a12", quantized(12, 12), {}, 0, 1e-3},
      {"pact-w4a4", pact(4, 4), {}, 18, kRounded},
      {"pact-w4a4-exact", pact(4, 4), {.exact = true}, 9, kEdges},
      {"pact-w8a8", pact(8, 8), {}, 18, kRounded},
      {"pact-a32", pact(32, 32)},
  };
  ResNetOptions more = quantized(4, 4);
  more.quantization.method = QuantizationMethod::pact;
  more.quantization.last_layer = true;
  all.push_back({"pact-last-layer", more, {}, 18, kEdges});
  more = quantized(4, 4);
  more.shortcut = Shortcut::b;  // with two projections, which float sums go with
  all.push_back({"w4a4-b", more, {}, 16, kEdges});
  more = quantized(4, 4);
  more.quantization.first_layer = more.quantization.last_layer = true;
  all.push_back({"w4a4-all-layers", more, {}, 18, kEdges});
  more = quantized(4, 4);
  more.kind = ResNetKind::resnet32;
  all.push_back({"resnet32", more, {}, 30, kEdges});
  more.kind = ResNetKind::resnet50;  // 52 convolutions behind the first; 4 projections and what they are added to
  all.push_back({"resnet50-w4a4", more, {}, 44, kEdges});
  more.quantization.weight_bits = more.quantization.activation_bits = 8;
  all.push_back({"resnet50-w8a8", more, {}, 44, kRounded});
  more.quantization = {};
  all.push_back({"resnet50", more});
  return all;
}

class WithOnnxRuntime : public testing::Test {
 protected:
  void SetUp() override {
    try {
      python_ = converter_python(quiet_);
      packages_ = python_packages(python_, "onnxruntime-1.32.0",
                                  {"onnxruntime==1.32.0", "onnx==1.23.2", "protobuf", "ml_dtypes", "flatbuffers"});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  void peer() {
    const ProcessResult run = run_process(
        {{python_, HAQA_SOURCE_DIR "/haqa/vision/onnx_peer.py", folder_.path()}, {{"PYTHONPATH", packages_}}});
    ASSERT_TRUE(run.ok()) << run.describe() << "\n" << run.errors;
    logits_ = read_tensors(folder_ / "logits.safetensors");
    weights_ = read_tensors(folder_ / "weights.safetensors");
    operations_ = read_json(folder_ / "operations.json");
  }

  const TemporaryFolder folder_;
  Progress quiet_{true};
  fs::path python_, packages_;
  std::map<std::string, Tensor> logits_, weights_;
  Json operations_;
};

/// Every layer's weights in the file are those of the training, times the normalization's factors; rounded to INT8 by
/// at most half a step, which is a 255th of the channel's largest weight and some, where they have 8 bits.
void expect_weights(const Case& c, const ResNet& network, const std::map<std::string, Tensor>& written) {
  const Quantization& q = c.options.quantization;
  for (const auto& [name, tensor] : network.parameters()) {
    if (tensor.dim() != 4 || name == "conv1.weight") continue;
    const std::string layer = name.substr(0, name.size() - std::string(".weight").size());
    const size_t at = layer.rfind(layer.ends_with(".0") ? "0" : "conv");  // of a projection, or not
    const std::string norm = layer.substr(0, at) + (layer.ends_with(".0") ? "1" : "bn" + layer.substr(at + 4));
    const Tensor factor = network.parameters().at(norm + ".weight").to(at::kDouble) /
                          (network.buffers().at(norm + ".running_var").to(at::kDouble) + 1e-5).sqrt();
    const Tensor expected =
        quantized_weight(tensor.detach(), q.weight_bits, q.scaling).to(at::kDouble) * factor.view({-1, 1, 1, 1});
    const Tensor difference = (written.at(c.name + " " + layer).to(at::kDouble) - expected).abs().flatten(1).amax(1);
    const double share = q.weight_bits == 8 ? 1 / 253.9 : 1e-6;
    EXPECT_TRUE((difference <= expected.abs().flatten(1).amax(1) * share + 1e-6).all().item<bool>())
        << c.name << " " << layer << " " << difference.max().item<double>();
  }
}

TEST_F(WithOnnxRuntime, TellsTheSameClasses) {
  at::manual_seed(3);
  const Tensor images = at::randn({100, 3, 16, 16}), large = at::randn({16, 3, 32, 32});
  std::map<std::string, Tensor> given = {{"images", images}};
  std::vector<ResNet> networks;
  std::vector<OnnxExport> made;
  for (const Case& c : cases()) {
    const bool is_large = c.options.kind == ResNetKind::resnet50;
    networks.push_back(settled(c.options, is_large ? large : images.slice(0, 0, 32)));
    if (is_large) given[c.name] = large;
    made.push_back(export_onnx(networks.back(), folder_ / (c.name + ".onnx"), c.how));
  }
  save(given, folder_ / "images.safetensors");
  peer();
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < networks.size(); ++i) {
    const Case c = cases()[i];
    SCOPED_TRACE(c.name);
    const Tensor ours = networks[i].logits(given.contains(c.name) ? large : images, false), theirs = logits_.at(c.name);
    EXPECT_LT(distance(theirs, ours), c.tolerance);
    const Tensor same = theirs.argmax(1) == ours.argmax(1);
    EXPECT_GT(same.to(at::kDouble).mean().item<double>(), 0.96);
    // Classes change places only where they are no further apart than that.
    const Tensor best = std::get<0>(ours.topk(2));
    const Tensor clear = best.select(1, 0) - best.select(1, 1) > 4 * c.tolerance * ours.square().mean().sqrt();
    EXPECT_TRUE(same.logical_or(clear.logical_not()).all().item<bool>());
    EXPECT_EQ(operations_[c.name].value("QLinearConv", 0), c.integer_layers);
    EXPECT_EQ(made[i].integer_layers, c.integer_layers);
    EXPECT_EQ(made[i].rounded_weights > 0, c.options.quantization.weight_bits == 8 && c.integer_layers > 0);
    expect_weights(c, networks[i], weights_);
  }
  EXPECT_TRUE(logits_.at("w4a4").equal(logits_.at("w4a4-opset13")));
  EXPECT_LT(fs::file_size(folder_ / "w8a8.onnx"), 0.33 * static_cast<double>(fs::file_size(folder_ / "fp.onnx")));
  EXPECT_LT(fs::file_size(folder_ / "w4a4.onnx"), 0.2 * static_cast<double>(fs::file_size(folder_ / "fp.onnx")));
}

// From the checkpoint alone, as the command has it; pixels are scaled in the file.
TEST_F(WithOnnxRuntime, ACheckpointKnowsHowItIsQuantized) {
  at::manual_seed(3);
  const Tensor pixels = at::rand({20, 3, 16, 16});
  const std::vector<float> mean = {0.4f, 0.5f, 0.6f}, deviation = {0.2f, 0.25f, 0.3f};
  const Tensor images = (pixels - torch::tensor(mean).view({3, 1, 1})) / torch::tensor(deviation).view({3, 1, 1});
  ResNet network = settled({.classes = 7,
                            .quantization = {.weight_bits = 4,
                                             .activation_bits = 4,
                                             .method = QuantizationMethod::pact,
                                             .scaling = WeightScaling::original,
                                             .last_layer = true}},
                           images);
  save_weights(network, folder_ / "a.safetensors");
  save({{"images", pixels}}, folder_ / "images.safetensors");
  const Json made = export_checkpoint({{"checkpoint", (folder_ / "a.safetensors").string()},
                                       {"output", (folder_ / "a.onnx").string()},
                                       {"exact", true},
                                       {"mean", mean},
                                       {"deviation", deviation}});
  EXPECT_EQ(made["network"], "resnet20");
  EXPECT_EQ(made["classes"], 7);
  EXPECT_EQ(made["method"], "pact");
  EXPECT_EQ(made["scaling"], "original");
  // What a training wrote knows how pixels are scaled; who has them scaled already leaves that out.
  const TrainedImages trained = {{"a", "b", "c", "d", "e", "f", "g"}, {{0.4f, 0.5f, 0.6f}, {0.2f, 0.25f, 0.3f}}};
  save_weights(network, folder_ / "known.safetensors", trained);
  const auto exported = [&](const char* name, bool normalized) {
    return export_checkpoint({{"checkpoint", (folder_ / "known.safetensors").string()},
                              {"output", (folder_ / name).string()},
                              {"exact", true},
                              {"normalized", normalized}});
  };
  EXPECT_EQ(exported("known.onnx", false)["mean"], mean);
  EXPECT_TRUE(exported("normalized.onnx", true)["mean"].is_null());
  peer();
  const at::NoGradGuard no_grad;
  EXPECT_LT(distance(logits_.at("a"), network.logits(images, false)), kEdges);
  EXPECT_TRUE(logits_.at("known").equal(logits_.at("a")));
  EXPECT_LT(distance(logits_.at("normalized"), network.logits(pixels, false)), kEdges);
  EXPECT_EQ(operations_["known"]["notes"]["classes"], R"(["a","b","c","d","e","f","g"])");
}

std::string refusal_of(const Json& request) {
  return message_of([&] { export_checkpoint(request); });
}

TEST(ExportCheckpoint, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const ResNet network({.shortcut = Shortcut::b, .quantization = {.weight_bits = 4, .activation_bits = 3}});
  save_weights(network, folder / "known.safetensors");
  std::map<std::string, Tensor> tensors = network.parameters();
  tensors.insert(network.buffers().begin(), network.buffers().end());
  for (auto& [name, tensor] : tensors) tensor = tensor.detach();
  save(tensors, folder / "unknown.safetensors");
  tensors["act1.clip"] = at::ones({});
  save(tensors, folder / "clips.safetensors");
  tensors["layer9.weight"] = at::ones({3});
  tensors.erase("act1.clip");
  save(tensors, folder / "more.safetensors");
  save({{"model.embed_tokens.weight", at::ones({3})}}, folder / "llama.safetensors");
  write_file(folder / "text.safetensors", "no weights at all");
  struct Wrong {
    std::string file;
    Json quantization;
    std::string expected;
  };
  const std::vector<Wrong> wrong = {
      {"none.safetensors", {}, "no such file"},
      {"text.safetensors", {}, "text.safetensors"},
      {"llama.safetensors", {}, "its tensors are embed_tokens.weight"},
      {"more.safetensors", {}, "layer9.weight"},
      {"known.safetensors", {{"weight_bits", 8}}, "was trained with weight_bits 4, not 8"},
      {"known.safetensors", {{"scaling", "original"}}, "was trained with scaling pretrained"},
      {"unknown.safetensors", {{"weight_bits", 0}}, "weights of 0 bits"},
      {"clips.safetensors", {{"weight_bits", 4}}, "give --activation-bits"},
  };
  for (const Wrong& w : wrong) {
    Json request = {{"checkpoint", (folder / w.file).string()}, {"output", (folder / "out.onnx").string()}};
    if (!w.quantization.is_null()) request["quantization"] = w.quantization;
    EXPECT_THAT(refusal_of(request), HasSubstr(w.expected)) << w.file;
    EXPECT_FALSE(fs::exists(folder / "out.onnx"));
  }
  EXPECT_THAT(refusal_of({{"checkpoint", (folder / "known.safetensors").string()},
                          {"output", (folder / "no/such/out.onnx").string()}}),
              HasSubstr("no/such"));
  // What a file does not say is taken from the request.
  const Json made = export_checkpoint({{"checkpoint", (folder / "unknown.safetensors").string()},
                                       {"output", (folder / "out.onnx").string()},
                                       {"quantization", {{"weight_bits", 4}, {"activation_bits", 3}}}});
  EXPECT_EQ(made["activation_bits"], 3);
  export_checkpoint(
      {{"checkpoint", (folder / "known.safetensors").string()}, {"output", (folder / "same.onnx").string()}});
  EXPECT_TRUE(read_file(folder / "same.onnx") == read_file(folder / "out.onnx"));
}

}  // namespace
}  // namespace haqa
