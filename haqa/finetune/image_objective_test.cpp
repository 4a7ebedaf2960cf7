// The objective with the real worker haqa-train, on a generated set.
#include "haqa/finetune/image_objective.h"

#include <gmock/gmock.h>

#include <array>
#include <chrono>
#include <cmath>
#include <fstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/images/make_images.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(LayerBits, AreReadAndWritten) {
  for (const char* name : {"w1a1", "w2a2", "w4a8", "w8a32", "w32a32"})
    EXPECT_EQ(to_string(layer_bits_from(name)), name);
  EXPECT_EQ(layer_bits_from("w3a7"), (LayerBits{3, 7}));
  for (const char* name :
       {"", "w4", "a4w4", "w0a4", "w4a0", "w33a4", "w4a33", "w4a4 ", "w-1a4", "int4", "w4a99999999999"})
    EXPECT_THROW(layer_bits_from(name), UsageError) << name;
}

class ImageObjectiveTest : public testing::Test {
 protected:
  ImageObjectiveTest() {
    make_images(folder_ / "shapes", ImageForm::cifar10, {.training = 300, .test = 90, .classes = 3, .noise = 0.05});
    setup_.images = folder_ / "shapes";
    setup_.validation_share = 0.2;
  }
  SearchSpace space(const std::string& more = "") {
    std::ofstream(folder_ / "space.yaml")
        << "learning_rate: {type: float, low: 1e-5, high: 1e12, log: true, default: 0.05}\n"
           "batch_size: {type: int, low: 32, high: 64, default: 40}\n"
           "num_epochs: {type: int, low: 1, high: 3, default: 2}\n"
        << more;
    return read_space(folder_ / "space.yaml");
  }

  const TemporaryFolder folder_;
  ImageSetup setup_;
};

TEST_F(ImageObjectiveTest, TrainsMeasuresAndKeepsWhatIsNeeded) {
  const SearchSpace s = space();
  setup_.bits = {32, 32};
  ImageObjective pretraining(setup_, s, folder_ / "full");
  const Outcome full = pretraining.evaluate(s.defaults());
  ASSERT_TRUE(full.value) << full.message;
  setup_.model = pretraining.trained_folder(s.defaults()) / pretraining.trained_file();
  setup_.bits = {2, 2};
  ImageObjective o(setup_, s, folder_ / "run");
  EXPECT_NEAR(o.full_precision(Half::validation)["mean"], *full.value, 1e-6);
  const Json untuned = o.untuned(Half::validation);
  const Outcome outcome = o.evaluate(s.defaults());
  ASSERT_TRUE(outcome.value) << outcome.message;
  EXPECT_GT(*outcome.value, 0.5);
  EXPECT_GE(*outcome.value, untuned["mean"]);
  // What the dynamic prompt shows.
  const Json& m = outcome.metrics;
  EXPECT_EQ(m["training"]["losses"].size(), 2u);
  EXPECT_EQ(m["training"]["validation_accuracies"].size(), 2u);
  EXPECT_LT(m["training"]["losses"][1], m["training"]["losses"][0]);
  EXPECT_NEAR(m["error"], std::sqrt(*outcome.value * (1 - *outcome.value) / 59), 1e-6);
  EXPECT_EQ(m["examples"], "240 images");
  EXPECT_GT(m["images_per_second"], 0);
  const Json tuned = o.tuned(s.defaults(), Half::validation);
  EXPECT_EQ(tuned["mean"], *outcome.value);
  EXPECT_EQ(tuned["tasks"]["shapes"]["accuracy"], *outcome.value);
  EXPECT_NE(o.tuned(s.defaults(), Half::held_out)["error"], tuned["error"]) << "of 90 images";
  // It is not trained again; another seed is another training; what is not kept is gone.
  const fs::path network = o.trained_folder(s.defaults()) / o.trained_file();
  const auto trained = fs::last_write_time(network);
  EXPECT_EQ(o.evaluate(s.defaults()).value, outcome.value);
  EXPECT_EQ(fs::last_write_time(network), trained);
  o.use_seed(2);
  EXPECT_FALSE(fs::exists(o.trained_folder(s.defaults())));
  o.use_seed(1);
  o.keep_only(std::array{s.defaults()});
  EXPECT_TRUE(fs::exists(network));
  // With another share of validation it would choose by images that the model has learned from.
  setup_.validation_share = 0.1;
  try {
    ImageObjective(setup_, s, folder_ / "leaking");
    FAIL() << "its model knows what is to be chosen by";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("was trained on these images with a validation share of 0.2, not 0.1"));
  }
  make_images(folder_ / "others", ImageForm::cifar10, {.training = 300, .test = 9, .classes = 3, .seed = 2});
  setup_.images = folder_ / "others";
  EXPECT_NO_THROW(ImageObjective(setup_, s, folder_ / "run")) << "of other images it knows none";
  o.keep_only({});
  EXPECT_FALSE(fs::exists(network));

  const Json before = o.fingerprints();
  EXPECT_TRUE(before.contains((folder_ / "shapes/data_batch_1.bin").string()));
  std::ofstream(folder_ / "shapes/test_batch.bin", std::ios::app) << "x";
  EXPECT_NE(o.fingerprints(), before);
  EXPECT_TRUE(before.contains((folder_ / "shapes/batches.meta.txt").string())) << "the names of classes";
}

TEST_F(ImageObjectiveTest, FingerprintsTellOfEachJpeg) {
  make_images(folder_ / "jpegs", ImageForm::folder, {.training = 40, .test = 4, .classes = 2, .side = 32});
  setup_.images = folder_ / "jpegs";
  write_file(folder_ / "small.yaml", "batch_size: {type: int, low: 4, high: 8}\n");
  const SearchSpace s = read_space(folder_ / "small.yaml");
  const ImageObjective o(setup_, s, folder_ / "run");
  const auto folders = [&] {
    std::vector<fs::path> all;
    for (const char* part : {"train", "val"})
      for (const fs::directory_entry& entry : fs::directory_iterator(folder_ / "jpegs" / part))
        all.push_back(entry.path());
    return all;
  };
  for (const fs::path& folder : folders()) {
    const Json before = o.fingerprints();
    ASSERT_TRUE(before.contains(folder.string())) << folder;
    const fs::path image = fs::directory_iterator(folder)->path();
    fs::last_write_time(image, fs::last_write_time(image) + std::chrono::seconds(1));
    const Json touched = o.fingerprints();
    EXPECT_NE(touched[folder.string()], before[folder.string()]);
    fs::rename(image, folder / "renamed.jpg");
    EXPECT_NE(o.fingerprints()[folder.string()], touched[folder.string()]);
  }
}

TEST(DescribeSkipped, CountsAndNames) {
  EXPECT_EQ(describe_skipped({{"skipped", 0}, {"skipped_files", Json::array()}}), "");
  EXPECT_EQ(describe_skipped({{"accuracy", 1}}), "");
  EXPECT_EQ(describe_skipped({{"skipped", 1}, {"skipped_files", {"a.jpg: cut"}}}),
            "1 damaged image left out, the first: a.jpg: cut");
  EXPECT_EQ(describe_skipped({{"skipped", 2}, {"skipped_files", {"a.jpg: cut", "b.jpg: cut"}}}),
            "2 damaged images left out, the first: a.jpg: cut");
}

TEST_F(ImageObjectiveTest, TheConfigurationChoosesTheBitWidth) {
  const SearchSpace s = space();
  setup_.bits = {32, 32};
  ImageObjective pretraining(setup_, s, folder_ / "full");
  ASSERT_TRUE(pretraining.evaluate(s.defaults()).value);
  setup_.model = pretraining.trained_folder(s.defaults()) / pretraining.trained_file();
  setup_.bit_widths = {{4, 4}, {2, 8}};
  setup_.bits = {4, 4};
  ImageObjective o(setup_, s, folder_ / "run");
  Configuration c = s.defaults();
  EXPECT_EQ(o.bits_of(c), (LayerBits{4, 4}));
  c["bit_width"] = "w2a8";
  EXPECT_EQ(o.bits_of(c), (LayerBits{2, 8}));
  ASSERT_TRUE(o.evaluate(c).value);
  // The file knows what it was trained as; another bit width is another training.
  const Json told = o.export_tuned(c, folder_ / "tuned.onnx"), image = {3, 32, 32};
  EXPECT_EQ(told["weight_bits"], 2);
  EXPECT_EQ(told["activation_bits"], 8);
  EXPECT_EQ(told["image"], image);
  EXPECT_THAT(read_file(o.trained_folder(c) / o.trained_file()), HasSubstr("\\\"weight_bits\\\":2"));
  c["bit_width"] = "w4a4";
  EXPECT_FALSE(fs::exists(o.trained_folder(c)));
  EXPECT_EQ(o.export_untuned({32, 32}, folder_ / "full.onnx")["weight_bits"], 32);
  EXPECT_LT(5 * fs::file_size(folder_ / "tuned.onnx"), fs::file_size(folder_ / "full.onnx"));
}

TEST_F(ImageObjectiveTest, ATrainingThatDivergesEndsEarlyAndLeavesNothing) {
  const SearchSpace s = space();
  ImageObjective o(setup_, s, folder_ / "run");
  Configuration far = s.defaults();
  far["learning_rate"] = 1e10;
  const Outcome outcome = o.evaluate(far);
  EXPECT_EQ(outcome.reason, FailReason::wrong_result);
  EXPECT_THAT(outcome.message, HasSubstr("the training diverged in"));
  EXPECT_FALSE(fs::exists(o.trained_folder(far)));
}

TEST_F(ImageObjectiveTest, WhatIsWrongIsRefusedBeforeAnythingRuns) {
  const auto refused = [&](const SearchSpace& s) -> std::string {
    try {
      ImageObjective(setup_, s, folder_ / "run");
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_THAT(refused(space("lora_r: {type: int, low: 1, high: 8}\n")), HasSubstr("'lora_r'"));
  EXPECT_THAT(refused(space("momentum: {type: float, low: 0.5, high: 1}\n")), HasSubstr("'momentum' may be 1"));
  // What some trials would fail at.
  setup_.warmup_epochs = 1;
  EXPECT_THAT(refused(space()), HasSubstr("a warm-up of 1 epochs leaves nothing of the 1 that the search space's"));
  setup_.warmup_epochs = 0.5;
  EXPECT_EQ(refused(space()), "nothing");
  setup_.nesterov = true;
  EXPECT_EQ(refused(space()), "nothing");
  EXPECT_THAT(refused(space("momentum: {type: float, low: 0, high: 0.9}\n")),
              HasSubstr("the search space's 'momentum' may be 0"));
  setup_.nesterov = false, setup_.warmup_epochs = 0;
  setup_.compute = "bf16", setup_.bits = {4, 12};
  EXPECT_THAT(refused(space()), HasSubstr("bf16 cannot tell activations of 12 bits apart"));
  setup_.bits = {12, 4};
  EXPECT_THAT(refused(space()), HasSubstr("bf16 cannot tell weights of 12 bits apart"));
  setup_.bits = {4, 4}, setup_.bit_widths = {{4, 4}, {4, 12}};
  EXPECT_THAT(refused(space()), HasSubstr("bf16 cannot tell activations of 12 bits apart"));
  setup_.compute = "fp32", setup_.bit_widths.clear();
  write_file(folder_ / "wide.yaml", "batch_size: {type: int, low: 32, high: 256}\n");
  EXPECT_THAT(refused(read_space(folder_ / "wide.yaml")), HasSubstr("more than the 240 images to train on"));
  setup_.model = folder_ / "none.safetensors";
  EXPECT_THAT(refused(space()), HasSubstr("haqa pretrain images makes one"));
  setup_.model = "";
  setup_.validation_share = 0;
  EXPECT_THAT(refused(space()), HasSubstr("leaves none to choose by"));
  setup_.validation_share = 0.2;
  std::ofstream(folder_ / "shapes/data_batch_1.bin", std::ios::app) << "x";
  EXPECT_THAT(refused(space()), HasSubstr("data_batch_1.bin"));
}

}  // namespace
}  // namespace haqa
