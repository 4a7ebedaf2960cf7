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
