#include "haqa/vision/train_images.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/make_images.h"
#include "haqa/vision/weights.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

/// Thrown by who hears of the progress: as a kill, it leaves the checkpoint and nothing else.
struct Killed {};

class TrainImagesTest : public testing::Test {
 protected:
  TrainImagesTest() { make(ImageForm::cifar10, "shapes", {.training = 300, .test = 60, .classes = 3, .noise = 0.05}); }
  void make(ImageForm form, const std::string& name, const MadeImages& options) {
    make_images(folder_ / name, form, options);
  }
  Json request(const Json& more = Json::object()) const {
    Json all = {{"command", "train_images"},
                {"images", (folder_ / "shapes").string()},
                {"folder", (folder_ / "out").string()},
                {"validation_share", 0.2},
                {"seed", 3},
                {"configuration", {{"learning_rate", 0.1}, {"batch_size", 40}, {"num_epochs", 2}}}};
    all.merge_patch(more);
    return all;
  }
  Json served(const Json& more = Json::object()) const {
    return serve_images(request(more), [](double) {});
  }
  std::string thrown(const Json& more) const {
    try {
      served(more);
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing";
  }

  const TemporaryFolder folder_;
};

TEST_F(TrainImagesTest, WhatIsWrittenIsWhatWasValidated) {
  struct Case {
    const char* name;
    Json more;
  };
  const std::string pretrained = (folder_ / "full/network.safetensors").string();
  const Case cases[] = {
      // So slow that the running statistics keep up: else nothing in evaluation is near to what was trained.
      {"full precision", {{"folder", (folder_ / "full").string()}, {"configuration", {{"learning_rate", 0.02}}}}},
      {"w4a4, pretrained", {{"weights", pretrained}, {"network", {{"weight_bits", 4}, {"activation_bits", 4}}}}},
      {"PACT w8a2, average, B",
       {{"network", {{"weight_bits", 8}, {"activation_bits", 2}, {"method", "pact"}, {"shortcut", "b"}}},
        {"method", {{"ema_decay", 0.5}}}}},
  };
  for (const Case& c : cases) {
    const Json trained = served(c.more);
    SCOPED_TRACE(std::string(c.name) + ": " + trained.dump());
    EXPECT_EQ(trained["losses"].size(), 2u);
    EXPECT_LT(trained["losses"][1], trained["losses"][0]);
    EXPECT_EQ(trained["accuracies"][1], trained["accuracy"]);
    EXPECT_EQ(trained["training_images"], 240);
    EXPECT_EQ(trained["validation_images"], 60);
    EXPECT_EQ(trained["images"], 480);
    EXPECT_EQ(trained["skipped"], 0);
    // What is needed to use the network, beside it too.
    const Weights written = read_weights(fs::path(request(c.more)["folder"]) / "network.safetensors");
    ASSERT_TRUE(written.images);
    EXPECT_EQ(written.images->classes.size(), 3u);
    EXPECT_EQ(Json(written.images->classes), trained["classes"]);
    EXPECT_EQ(Json(written.images->normalization.mean), trained["mean"]);
    EXPECT_EQ(Json(written.images->normalization.deviation), trained["deviation"]);
    EXPECT_EQ(written.images->validation_share, 0.2);
    EXPECT_GT(trained["images_per_second"], 0);
    Json measuring = c.more;
    measuring["command"] = "measure_images";
    measuring["weights"] = fs::path(request(c.more)["folder"]) / "network.safetensors";
    const Json measured = served(measuring);
    EXPECT_EQ(measured["accuracy"], trained["accuracy"]);
    EXPECT_EQ(measured["loss"], trained["validation_losses"][1]);
    EXPECT_EQ(measured["images"], 60);
    measuring["part"] = "test";
    EXPECT_NE(served(measuring)["loss"], measured["loss"]);
    fs::remove_all(folder_ / "out");
  }
  // Of a model in full precision activations above 1 would be cut off.
  Json eight = {{"command", "measure_images"},
                {"weights", pretrained},
                {"fit", true},
                {"network", {{"weight_bits", 32}, {"activation_bits", 8}}}};
  const double fitted = served(eight)["loss"];
  eight["fit"] = false;
  const double cut_off = served(eight)["loss"];
  const double full = served({{"command", "measure_images"}, {"weights", pretrained}})["loss"];
  EXPECT_NEAR(fitted, full, 0.1 * full);
  EXPECT_GT(std::abs(cut_off - full), std::abs(fitted - full));
}

// Activations are brought into the quantizer's range before; that must not change how fast anything learns.
TEST_F(TrainImagesTest, EightBitsLearnAsFullPrecisionDoesFromTheSameModel) {
  served({{"folder", (folder_ / "full").string()}, {"configuration", {{"learning_rate", 0.02}, {"num_epochs", 6}}}});
  const auto losses = [&](int bits) {
    const Json trained = served({{"folder", (folder_ / std::to_string(bits)).string()},
                                 {"weights", (folder_ / "full/network.safetensors").string()},
                                 {"network", {{"weight_bits", bits}, {"activation_bits", bits}}},
                                 {"configuration", {{"learning_rate", 0.05}, {"num_epochs", 2}}}});
    return trained["losses"].get<std::vector<double>>();
  };
  const std::vector<double> full = losses(32), eight = losses(8);
  for (size_t i = 0; i < full.size(); ++i) EXPECT_NEAR(eight[i], full[i], 0.2 * full[i] + 0.02) << i;
}

TEST_F(TrainImagesTest, WhatIsQuantizedIsNoModelInFullPrecision) {
  const Json bits = {{"weight_bits", 4}, {"activation_bits", 4}};
  served({{"network", bits}, {"configuration", {{"num_epochs", 1}}}});
  const std::string quantized = (folder_ / "out/network.safetensors").string();
  const Json measuring = {{"command", "measure_images"}, {"weights", quantized}};
  const auto with = [](Json json, const Json& more) { return json.merge_patch(more), json; };
  EXPECT_EQ(thrown(with(measuring, {{"network", bits}})), "nothing");
  const auto refused = AllOf(HasSubstr(quantized), HasSubstr("a model in full precision is needed"));
  EXPECT_THAT(thrown(measuring), refused);
  EXPECT_THAT(thrown(with(measuring, {{"network", bits}, {"fit", true}})), refused);
  EXPECT_THAT(thrown({{"weights", quantized}, {"network", bits}, {"folder", (folder_ / "again").string()}}), refused);
}

TEST_F(TrainImagesTest, GoesOnToTheSameNumbersAfterAKill) {
  const Json weights = {{"network", {{"weight_bits", 2}, {"activation_bits", 2}}}, {"checkpoint_s", 1e-9}};
  const Json whole = served(weights);
  fs::rename(folder_ / "out", folder_ / "whole");
  for (const double share : {0.2, 0.6}) {  // within an epoch, and in the next one
    const auto killed = [&](double done) {
      if (done > share) throw Killed();
    };
    EXPECT_THROW(serve_images(request(weights), killed), Killed);
    ASSERT_TRUE(fs::exists(folder_ / "out/checkpoint"));
    ASSERT_FALSE(fs::exists(folder_ / "out/network.safetensors"));
  }
  const Json resumed = served(weights);
  EXPECT_EQ(resumed["resumed_after"], 1);
  for (const char* key : {"losses", "accuracies", "validation_losses"}) EXPECT_EQ(resumed[key], whole[key]) << key;
  EXPECT_EQ(read_file(folder_ / "out/network.safetensors"), read_file(folder_ / "whole/network.safetensors"));
  // A checkpoint is of one training: of its weights and images too; a damaged one is as none.
  served({{"folder", (folder_ / "full").string()}, {"configuration", {{"num_epochs", 1}}}});
  const std::string other_weights = (folder_ / "full/network.safetensors").string();
  EXPECT_THAT(thrown({{"weights", other_weights}, {"network", weights["network"]}}),
              HasSubstr("is the checkpoint of another training"));
  make(ImageForm::cifar10, "others", {.training = 300, .test = 60, .classes = 3, .seed = 2, .noise = 0.05});
  EXPECT_THAT(thrown({{"images", (folder_ / "others").string()}, {"network", weights["network"]}}),
              HasSubstr("is the checkpoint of another training"));
  EXPECT_THAT(thrown({{"configuration", {{"batch_size", 60}}}}), HasSubstr("is the checkpoint of another training"));
  write_file(folder_ / "out/checkpoint", "haqa");
  EXPECT_EQ(served(weights)["losses"], whole["losses"]);
}

// With the same weights to begin with: all images in one batch have one loss whatever their order, but for
// augmentation.
TEST_F(TrainImagesTest, TheSeedDecidesOrderAndAugmentationButNotTheSplit) {
  served({{"folder", (folder_ / "full").string()}, {"configuration", {{"num_epochs", 1}}}});
  const std::string weights = (folder_ / "full/network.safetensors").string();
  const auto trained = [&](uint64_t seed, int batch, bool augmented) {
    fs::remove_all(folder_ / "out");
    return served({{"weights", weights},
                   {"seed", seed},
                   {"augmentation", {{"flip", augmented}, {"padding", augmented ? 4 : 0}}},
                   {"configuration", {{"batch_size", batch}, {"num_epochs", 1}}}})["losses"][0]
        .get<double>();
  };
  EXPECT_EQ(trained(3, 40, true), trained(3, 40, true));
  const double all = trained(3, 240, false);
  EXPECT_NEAR(trained(4, 240, false), all, 1e-5 * all) << "the same images";
  EXPECT_GT(std::abs(trained(4, 240, true) - trained(3, 240, true)), 1e-3 * all) << "augmented otherwise";
  EXPECT_GT(std::abs(trained(4, 40, false) - trained(3, 40, false)), 1e-3 * all) << "in another order";
  const auto held_back = [&](uint64_t seed, double share) {
    return served({{"command", "measure_images"}, {"weights", weights}, {"seed", seed}, {"validation_share", share}});
  };
  EXPECT_EQ(held_back(1, 0.2), held_back(2, 0.2));
  EXPECT_NE(held_back(1, 0.1)["loss"], held_back(1, 0.2)["loss"]);
}

TEST_F(TrainImagesTest, DamagedJpegsAreLeftOutCountedAndNamed) {
  make(ImageForm::folder, "jpegs", {.training = 24, .test = 8, .classes = 2, .side = 32});
  fs::path damaged;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "jpegs/train"))
    if (entry.is_regular_file()) damaged = std::max(damaged, entry.path());
  write_file(damaged, read_file(damaged).substr(0, 40));
  const Json trained = served({{"images", (folder_ / "jpegs").string()},
                               {"normalization", "imagenet"},
                               {"network", {{"kind", "resnet50"}}},
                               {"configuration", {{"batch_size", 10}, {"num_epochs", 1}, {"learning_rate", 0.001}}}});
  EXPECT_EQ(trained["skipped"], 1);
  EXPECT_THAT(trained["skipped_files"][0].get<std::string>(), HasSubstr(damaged.string()));
}

TEST_F(TrainImagesTest, WhatIsWrongIsSaid) {
  make_folder(folder_ / "cut");
  make_folder(folder_ / "labels");
  for (const auto& entry : fs::directory_iterator(folder_ / "shapes")) {
    const std::string name = entry.path().filename().string(), bytes = read_file(entry.path());
    const bool records = name == "data_batch_1.bin";
    write_file(folder_ / "cut" / name, records ? bytes.substr(0, bytes.size() - 5) : bytes);
    write_file(folder_ / "labels" / name, records ? "\x7f" + bytes.substr(1) : bytes);
  }
  served();
  ResNet other(ResNetOptions{.kind = ResNetKind::resnet32, .classes = 3});
  save_weights(other, folder_ / "other.safetensors");
  const std::string own = (folder_ / "out/network.safetensors").string();
  const std::pair<Json, std::string> cases[] = {
      {{{"images", (folder_ / "cut").string()}}, "data_batch_1.bin"},
      {{{"images", (folder_ / "labels").string()}}, "127"},
      {{{"images", (folder_ / "none").string()}}, "/none: there is no such folder"},
      {{{"validation_share", 0}}, "a validation share of 0 of 300 images leaves none to choose by"},
      {{{"validation_share", 1}}, "1 is no share for validation; give one from 0 to below 1"},
      {{{"configuration", {{"batch_size", 400}}}}, "240 images do not fill one batch of 400"},
      {{{"network", {{"weight_bits", 0}}}}, "or 32 for full precision"},
      {{{"network", {{"activation_bits", 33}}}}, "or 32 for full precision"},
      {{{"network", {{"kind", "resnet18"}}}}, "resnet20"},
      {{{"network", {{"method", "lsq"}}}}, "dorefa"},
      {{{"normalization", "none"}}, "imagenet"},
      {{{"method", {{"device", "tpu"}}}}, "cuda"},
      {{{"weights", (folder_ / "other.safetensors").string()}}, "it has layer1.3.bn1.bias"},
      {{{"weights", own}, {"network", {{"kind", "resnet32"}}}}, "it lacks layer1.3.bn1.bias"},
      {{{"weights", (folder_ / "gone.pt").string()}}, "gone.pt"},
      {{{"command", "measure_images"}, {"part", "all"}}, "validation and test"},
      {{{"images", 3}}, "is not understood"},
  };
  for (const auto& [more, expected] : cases) {
    Json request = more;
    if (!request.contains("folder")) request["folder"] = (folder_ / "wrong").string();
    EXPECT_THAT(thrown(request), HasSubstr(expected)) << more;
  }
  EXPECT_THAT(thrown({{"folder", (folder_ / "wrong").string()}, {"configuration", {{"learning_rate", 1e6}}}}),
              HasSubstr("the training diverged in"));
}

}  // namespace
}  // namespace haqa
