#include "haqa/vision/image_trainer.h"

#include <cmath>
#include <functional>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/train/checkpoint.h"
#include "haqa/vision/vision_test_support.h"
#include "haqa/vision/weights.h"

namespace haqa {
namespace {

using torch::Tensor;

class ImageTrainerTest : public testing::Test {
 protected:
  ImageTrainerTest() {
    network_.classes = 4;
    network_.quantization = {.weight_bits = 4, .activation_bits = 4};
    options_ = {.epochs = 2, .learning_rate = 0.05};
  }

  std::vector<EpochResult> trained(ResNet& network, const std::string& checkpoint = "", int save_after = 0) {
    ImageTrainer trainer(network, training_, validation_, options_);
    if (!checkpoint.empty() && save_after == 0) trainer.load(folder_ / checkpoint);
    for (int steps = 1; !trainer.finished(); ++steps) {
      trainer.step();
      if (steps == save_after) trainer.save(folder_ / checkpoint);
    }
    return trainer.results();
  }

  const TemporaryFolder folder_;
  ResNetOptions network_;
  ImageTrainerOptions options_;
  BatchList training_ = striped_images(8, 16, 4, 1), validation_ = striped_images(2, 32, 4, 2);
};

TEST_F(ImageTrainerTest, LearnsInEveryWay) {
  struct Case {
    std::string name;
    std::function<void(ResNetOptions&, ImageTrainerOptions&)> change;
  };
  const std::vector<Case> cases = {
      {"full precision", [](ResNetOptions&, ImageTrainerOptions&) {}},
      {"option B", [](ResNetOptions& n, ImageTrainerOptions&) { n.shortcut = Shortcut::b; }},
      {"bf16", [](ResNetOptions& n, ImageTrainerOptions&) { n.compute = at::kBFloat16; }},
      {"AdamW",
       [](ResNetOptions&, ImageTrainerOptions& t) { t.optimizer = ImageOptimizer::adamw, t.learning_rate = 5e-3; }},
      {"Nesterov, norms do not decay, smoothing, clipping",
       [](ResNetOptions&, ImageTrainerOptions& t) {
         t.nesterov = true, t.decay_norms = false, t.label_smoothing = 0.1, t.max_grad_norm = 1;
       }},
      {"average", [](ResNetOptions&, ImageTrainerOptions& t) { t.ema_decay = 0.8; }},
      {"step, warm-up",
       [](ResNetOptions&, ImageTrainerOptions& t) { t.schedule = EpochSchedule::step, t.warmup_epochs = 0.5; }},
  };
  network_.quantization = {};
  for (const Case& c : cases) {
    const ResNetOptions n = network_;
    const ImageTrainerOptions t = options_;
    c.change(network_, options_);
    ResNet network(network_);
    const std::vector<EpochResult> results = trained(network);
    network_ = n, options_ = t;
    ASSERT_EQ(results.size(), 2u) << c.name;
    EXPECT_LT(results.back().loss, results.front().loss) << c.name;
    EXPECT_GT(results.back().accuracy, 0.9) << c.name;
  }
}

TEST_F(ImageTrainerTest, LearnsQuantizedFromAPretrainedModel) {
  struct Case {
    std::string name;
    Quantization quantization;
    at::ScalarType compute = at::kFloat;
  };
  const std::vector<Case> cases = {
      {"w8a8", {8, 8}},
      {"w4a4", {4, 4}},
      {"w4a4 in bf16", {4, 4}, at::kBFloat16},
      {"w2a2", {2, 2}},
      {"w2a4 original", {.weight_bits = 2, .activation_bits = 4, .scaling = WeightScaling::original}},
      {"w1a32, all layers", {.weight_bits = 1, .first_layer = true, .last_layer = true}},
      {"PACT", {.weight_bits = 4, .activation_bits = 4, .method = QuantizationMethod::pact}},
  };
  network_.quantization = {};
  ResNet whole(network_);
  trained(whole);
  save_weights(whole, folder_ / "pretrained");
  options_.epochs = 2;
  for (const Case& c : cases) {
    network_.quantization = c.quantization, network_.compute = c.compute;
    ResNet network(network_);
    load_weights(network, folder_ / "pretrained");
    training_.start_epoch(0, 0);
    network.fit_activations(training_.next()->images);
    const std::vector<EpochResult> results = trained(network);
    EXPECT_LT(results.back().loss, std::max(0.05, results.front().loss)) << c.name;
    EXPECT_GT(results.back().accuracy, 0.9) << c.name;
  }
}

TEST_F(ImageTrainerTest, GoesOnFromACheckpointToTheSameNumbers) {
  for (const ImageOptimizer optimizer : {ImageOptimizer::sgd, ImageOptimizer::adamw})
    for (const int after : {3, 9, 12}) {  // within an epoch, at the end of one, in the next
      options_.optimizer = optimizer, options_.ema_decay = 0.9, options_.warmup_epochs = 1;
      options_.decay_norms = false;
      ResNet straight(network_);
      const std::vector<EpochResult> expected = trained(straight, "c", after);
      network_.seed = 99;  // another beginning, which the checkpoint replaces
      ResNet resumed(network_);
      const std::vector<EpochResult> results = trained(resumed, "c");
      network_.seed = 0;
      ASSERT_EQ(results.size(), expected.size());
      for (size_t i = 0; i < results.size(); ++i) {
        EXPECT_EQ(results[i].loss, expected[i].loss) << i;
        EXPECT_EQ(results[i].accuracy, expected[i].accuracy) << i;
        EXPECT_EQ(results[i].validation_loss, expected[i].validation_loss) << i;
      }
      for (const auto& [name, tensor] : straight.parameters())
        EXPECT_TRUE(tensor.equal(resumed.parameters().at(name))) << name;
    }
}

/// Gives no batch in some places, as where all of its images are damaged, which it finds as it comes to them.
class Damaged : public BatchList {
 public:
  explicit Damaged(const BatchList& batches) : BatchList(batches) {}
  void start_epoch(uint64_t epoch, size_t first_batch) override {
    BatchList::start_epoch(epoch, first_batch);
    found_.clear();
  }
  std::optional<ImageBatch> next() override {
    for (; position() == 1 || position() == 4; BatchList::next()) found_.push_back({std::to_string(position()), "cut"});
    return BatchList::next();
  }
  std::vector<DamagedImage> skipped() const override {
    std::vector<DamagedImage> all = remembered_;
    all.insert(all.end(), found_.begin(), found_.end());
    return all;
  }
  void remember_skipped(std::vector<DamagedImage> images) override { remembered_ = std::move(images); }

 private:
  std::vector<DamagedImage> found_, remembered_;
};

TEST_F(ImageTrainerTest, GoesOnPastBatchesWithoutAGoodImage) {
  options_.epochs = 1;
  const auto learned = [&](int save_after, bool load) {
    Damaged training(training_);
    ResNet network(network_);
    ImageTrainer trainer(network, training, validation_, options_);
    if (load) trainer.load(folder_ / "c");
    for (int steps = 1; !trainer.finished(); ++steps) {
      trainer.step();
      if (steps == save_after) trainer.save(folder_ / "c");
    }
    std::vector<std::string> skipped;
    for (const DamagedImage& image : training.skipped()) skipped.push_back(image.file.string() + image.reason);
    return std::pair(trainer.results().back().loss, skipped);
  };
  for (const int after : {1, 2, 4}) {  // before the first such batch, behind it, behind both
    const auto whole = learned(after, false);
    EXPECT_EQ(whole.second, (std::vector<std::string>{"1cut", "4cut"}));
    EXPECT_EQ(learned(0, true), whole) << after;
  }
}

TEST_F(ImageTrainerTest, RefusesCheckpointsThatAreNotItsOwn) {
  ResNet network(network_);
  ImageTrainer(network, training_, validation_, options_).save(folder_ / "c");
  ImageTrainerOptions others = options_;
  others.learning_rate = 0.1;
  EXPECT_THROW(ImageTrainer(network, training_, validation_, others).load(folder_ / "c"), Error);
  network_.quantization.weight_bits = 8;
  ResNet other(network_);
  EXPECT_THROW(ImageTrainer(other, training_, validation_, options_).load(folder_ / "c"), Error);
  const std::string whole = read_file(folder_ / "c");
  for (const size_t size : {size_t{0}, whole.size() / 2, whole.size() - 1}) {
    write_file(folder_ / "c", whole.substr(0, size));
    EXPECT_THROW(ImageTrainer(network, training_, validation_, options_).load(folder_ / "c"), DamagedCheckpoint);
  }
}

TEST_F(ImageTrainerTest, TheSeedAloneDecides) {
  const auto loss = [&](uint64_t seed) {
    options_.epochs = 1;
    network_.seed = seed;
    ResNet network(network_);
    return trained(network).back().loss;
  };
  const double first = loss(1);
  EXPECT_EQ(loss(1), first);
  EXPECT_NE(loss(2), first);
}

TEST_F(ImageTrainerTest, SaysThatItDiverged) {
  struct Case {
    double learning_rate, divergence;
    std::string reason;
  };
  network_.quantization = {};
  options_.epochs = 30, options_.schedule = EpochSchedule::constant;
  for (const Case& c : {Case{1e20, 3, "its loss "}, Case{3, 1.05, "its loss stays around"}}) {
    options_.learning_rate = c.learning_rate, options_.divergence = c.divergence;
    ResNet network(network_);
    try {
      trained(network);
      FAIL() << "a learning rate of " << c.learning_rate << " went well";
    } catch (const Diverged& error) {
      EXPECT_NE(std::string(error.what()).find(c.reason), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("diverged in epoch"), std::string::npos) << error.what();
    }
  }
}

TEST_F(ImageTrainerTest, ValidatesTheAverageAndKeepsIt) {
  options_.ema_decay = 0.99, options_.epochs = 1;
  ResNet network(network_);
  ImageTrainer trainer(network, training_, validation_, options_);
  while (!trainer.finished()) trainer.step();
  const EpochResult result = trainer.results().back();
  const Tensor before = network.parameters().at("fc.weight").clone();
  EXPECT_EQ(trainer.validate().loss, result.validation_loss);
  EXPECT_TRUE(network.parameters().at("fc.weight").equal(before)) << "validation leaves the weights as they were";
  trainer.keep_average();
  EXPECT_FALSE(network.parameters().at("fc.weight").equal(before));
  EXPECT_EQ(validate(network, validation_).loss, result.validation_loss);
}

TEST_F(ImageTrainerTest, DecaysNormalizationsOnlyWhereAsked) {
  const auto scale_after = [&](bool decay) {
    options_.decay_norms = decay, options_.weight_decay = 0.5, options_.epochs = 1;
    ResNet network(network_);
    trained(network);
    return network.parameters().at("layer2.1.bn1.weight").abs().mean().item<double>();
  };
  EXPECT_LT(scale_after(true), 0.9 * scale_after(false));
}

TEST_F(ImageTrainerTest, RefusesWhatCannotBe) {
  ResNet network(network_);
  const auto refused = [&](auto change) {
    ImageTrainerOptions options = options_;
    change(options);
    EXPECT_THROW(ImageTrainer(network, training_, validation_, options), UsageError);
  };
  refused([](ImageTrainerOptions& o) { o.epochs = 0; });
  refused([](ImageTrainerOptions& o) { o.learning_rate = NAN; });
  refused([](ImageTrainerOptions& o) { o.momentum = 1; });
  refused([](ImageTrainerOptions& o) { o.warmup_epochs = 2; });
  refused([](ImageTrainerOptions& o) { o.label_smoothing = -0.1; });
  refused([](ImageTrainerOptions& o) { o.nesterov = true, o.momentum = 0; });
  BatchList nothing({}, 4);
  EXPECT_THROW(ImageTrainer(network, training_, nothing, options_), UsageError);
  EXPECT_THROW(ImageTrainer(network, nothing, validation_, options_), UsageError);
  BatchList others = striped_images(1, 4, 3, 1);
  EXPECT_THROW(ImageTrainer(network, training_, others, options_), UsageError);
  EXPECT_THROW(image_optimizer_from("adam"), UsageError);
  EXPECT_THROW(epoch_schedule_from("linear"), UsageError);
}

TEST(LearningRateFactor, FollowsItsSchedule) {
  struct Case {
    EpochSchedule schedule;
    double done, expected;
  };
  ImageTrainerOptions options{.epochs = 10, .warmup_epochs = 2};
  for (const Case& c :
       {Case{EpochSchedule::constant, 0, 0}, Case{EpochSchedule::constant, 0.5, 0.25},
        Case{EpochSchedule::constant, 9.9, 1}, Case{EpochSchedule::step, 1, 0.5}, Case{EpochSchedule::step, 4.9, 1},
        Case{EpochSchedule::step, 5, 0.1}, Case{EpochSchedule::step, 7.5, 0.01}, Case{EpochSchedule::cosine, 2, 1},
        Case{EpochSchedule::cosine, 6, 0.5}, Case{EpochSchedule::cosine, 10, 0}}) {
    options.schedule = c.schedule;
    EXPECT_NEAR(learning_rate_factor(options, c.done), c.expected, 1e-12) << c.done;
  }
}

// By hand: g = 1 + 0.1 * w; v = 0.9 * v + g; w -= 0.5 * v, or 0.5 * (g + 0.9 * v).
TEST(Sgd, IsWhatTheHandWorksOut) {
  for (const bool nesterov : {false, true}) {
    const Tensor w = at::full({1}, 2.0f).requires_grad_(true);
    Sgd sgd({{"w", w}}, {.momentum = 0.9, .nesterov = nesterov, .weight_decay = 0.1});
    double expected = 2, velocity = 0;
    for (int i = 0; i < 3; ++i) {
      w.mutable_grad() = at::ones({1});
      sgd.step(0.5);
      EXPECT_FALSE(w.grad().defined());
      const double g = 1 + 0.1 * expected;
      velocity = 0.9 * velocity + g;
      expected -= 0.5 * (nesterov ? g + 0.9 * velocity : velocity);
      EXPECT_NEAR(w.item<double>(), expected, 1e-5) << i;
    }
  }
}

}  // namespace
}  // namespace haqa
