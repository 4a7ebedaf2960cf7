#include "haqa/vision/weights.h"

#include <gmock/gmock.h>

#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"
#include "haqa/base/error_test_support.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/vision/vision_test_support.h"

namespace haqa {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using torch::Tensor;
namespace fs = std::filesystem;

const std::vector<float> kNumbers = {1, 2, 3};

/// Writes tensors of three numbers.
void save(const std::vector<std::string>& names, const fs::path& file) {
  std::vector<TensorToSave> tensors;
  for (const std::string& name : names) tensors.push_back({name, {3}, kNumbers});
  write_safetensors(tensors, file);
}

TEST(ReadWeights, TakesTheNamesThatWrappersMake) {
  const TemporaryFolder folder;
  const struct {
    std::string theirs, ours;
  } cases[] = {
      {"fc.weight", "fc.weight"},
      {"linear.weight", "fc.weight"},
      {"module.linear.weight", "fc.weight"},
      {"module._orig_mod.fc.weight", "fc.weight"},
      {"_orig_mod.module.fc.weight", "fc.weight"},
      {"model.net.module.fc.weight", "fc.weight"},
      {"module.module.layer2.0.shortcut.0.weight", "layer2.0.downsample.0.weight"},
      {"modules.fc.weight", "modules.fc.weight"},
  };
  for (const auto& c : cases) {
    save({c.theirs}, folder / "a.safetensors");
    const Weights weights = read_weights(folder / "a.safetensors");
    ASSERT_EQ(weights.tensors.size(), 1u);
    EXPECT_EQ(weights.tensors.begin()->first, c.ours) << c.theirs;
    EXPECT_TRUE(weights.tensors.begin()->second.equal(torch::tensor(kNumbers)));
  }
}

TEST(ReadWeights, RefusesTwoNamesForOneTensor) {
  const TemporaryFolder folder;
  for (const std::string other : {"module.fc.weight", "linear.weight", "net.linear.weight"}) {
    save({"bn1.weight", "fc.weight", other}, folder / "a.safetensors");
    EXPECT_THAT(message_of([&] { read_weights(folder / "a.safetensors"); }),
                AllOf(HasSubstr("fc.weight and "), HasSubstr(other), HasSubstr("both fc.weight")));
  }
}

// The length of its header, which a file begins with, may read as a pickle's first bytes.
TEST(ReadWeights, KnowsSafetensorsWithHeadersOfAnyLength) {
  const TemporaryFolder folder;
  bool like_a_pickle = false;
  for (size_t length = 520; length < 680; length += 4) {
    save({std::string(length, 'x')}, folder / "a.safetensors");
    like_a_pickle |= read_file(folder / "a.safetensors").starts_with("\x80\x02");
    EXPECT_EQ(read_weights(folder / "a.safetensors").tensors.size(), 1u) << length;
  }
  EXPECT_TRUE(like_a_pickle);
}

// Or as the beginning of a zip.
TEST(ReadWeights, KnowsSafetensorsWithAHeaderThatReadsAsAZip) {
  const TemporaryFolder folder;
  constexpr size_t kHeader = 'P' + 256 * 'K';
  save({std::string(kHeader - 200, 'x')}, folder / "a.safetensors");
  const size_t shorter = read_file(folder / "a.safetensors").size();
  save({std::string(2 * kHeader - 200 + 8 + sizeof(float) * kNumbers.size() - shorter, 'x')}, folder / "a.safetensors");
  ASSERT_TRUE(read_file(folder / "a.safetensors").starts_with("PK"));
  EXPECT_EQ(read_weights(folder / "a.safetensors").tensors.size(), 1u);
}

TEST(LoadWeights, RefusesBoundsThatAreMissingAndNumbersWithoutSense) {
  const TemporaryFolder folder;
  const auto write = [&](std::string_view without, std::string_view at, float value) {
    const ResNet network({.quantization = {.activation_bits = 4, .method = QuantizationMethod::pact}});
    std::vector<TensorToSave> tensors;
    std::vector<Tensor> values;
    for (const auto& all : {network.parameters(), network.buffers()})
      for (const auto& [name, tensor] : all) {
        if (name == without) continue;
        values.push_back(tensor.detach().clone().contiguous());
        if (name == at) values.back().view(-1)[0] = value;
        const Tensor& last = values.back();
        tensors.push_back({name, last.sizes().vec(), {last.data_ptr<float>(), static_cast<size_t>(last.numel())}});
      }
    write_safetensors(tensors, folder / "a.safetensors");
  };
  const struct {
    std::string_view without, at;
    float value;
    const char* refused;  ///< null where all is well
  } cases[] = {
      {"", "", 0, nullptr},
      {"layer2.1.act1.clip", "", 0, "lacks layer2.1.act1.clip"},
      {"", "fc.weight", NAN, "not finite, or a variance below 0, are in fc.weight"},
      {"", "bn1.running_var", -1, "variance below 0, are in bn1.running_var"},
      {"", "bn1.running_mean", -1, nullptr},
  };
  for (const auto& c : cases) {
    write(c.without, c.at, c.value);
    ResNet network({.quantization = {.activation_bits = 4, .method = QuantizationMethod::pact}});
    const std::string message = message_of([&] { load_weights(network, folder / "a.safetensors"); });
    if (c.refused)
      EXPECT_THAT(message, HasSubstr(c.refused));
    else
      EXPECT_EQ(message, "");
  }
}

TEST(LoadWeights, ShowsForeignNamesAsPlainText) {
  const TemporaryFolder folder;
  save({"red\033[31m\nname"}, folder / "a.safetensors");
  ResNet network({});
  for (const std::string& message : {message_of([&] { load_weights(network, folder / "a.safetensors"); }),
                                     message_of([&] { network_of(read_weights(folder / "a.safetensors")); })}) {
    EXPECT_THAT(message, HasSubstr("red[U+001B][31m"));
    EXPECT_EQ(message.find_first_of("\033\n"), std::string::npos);
  }
}

}  // namespace
}  // namespace haqa
