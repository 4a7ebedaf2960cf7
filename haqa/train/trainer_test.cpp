#include "haqa/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/model/make_model.h"

namespace haqa {
namespace {

using torch::Tensor;

/// Sentences that repeat: easy to learn.
std::vector<TokenExample> examples(size_t count) {
  std::vector<TokenExample> all(count);
  for (size_t i = 0; i < count; ++i)
    for (size_t j = 0; j < 8 + i % 5; ++j) {
      all[i].tokens.push_back(static_cast<int32_t>(100 + (3 * j) % 17));
      all[i].counts.push_back(j >= 3);
    }
  return all;
}

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() {
    make_model({.name = "t", .n_layer = 2, .n_embd = 64, .n_head = 4, .n_head_kv = 2, .n_ff = 176, .n_ctx_train = 512},
               default_vocabulary(), 1, file_);
    options_.steps = 20, options_.batch = 4, options_.accumulation = 2, options_.learning_rate = 1e-2;
    llama_.lora = LoraOptions{.rank = 4, .alpha = 8, .dropout = 0.1};
    llama_.base = BaseFormat::nf4_double;
  }

  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / "m.gguf";
  LlamaOptions llama_;
  TrainerOptions options_;
  const std::vector<TokenExample> examples_ = examples(24);
};

TEST_F(TrainerTest, LearnsInEveryWay) {
  struct Case {
    std::string name;
    std::function<void(LlamaOptions&, TrainerOptions&)> change;
  };
  const std::vector<Case> cases = {
      {"nf4_double", [](LlamaOptions&, TrainerOptions&) {}},
      {"gguf", [](LlamaOptions& l, TrainerOptions&) { l.base = BaseFormat::gguf; }},
      {"int8", [](LlamaOptions& l, TrainerOptions&) { l.base = BaseFormat::int8; }},
      {"bf16", [](LlamaOptions& l, TrainerOptions&) { l.compute = at::kBFloat16; }},
      {"packed", [](LlamaOptions&, TrainerOptions& t) { t.grouping = Grouping::packed, t.length = 32; }},
      {"checkpointing", [](LlamaOptions& l, TrainerOptions&) { l.checkpointing = true; }},
      {"8-bit states", [](LlamaOptions&, TrainerOptions& t) { t.adamw.states = OptimizerStates::int8; }},
      {"every weight", [](LlamaOptions& l, TrainerOptions&) { l.lora.reset(); }}};
  for (const Case& c : cases) {
    LlamaOptions l = llama_;
    TrainerOptions t = options_;
    c.change(l, t);
    Llama llama(file_, l);
    Trainer trainer(llama, examples_, t);
    const double before = trainer.loss(examples_);
    while (!trainer.finished()) trainer.step();
    EXPECT_LT(trainer.loss(examples_), 0.5 * before) << c.name;
  }
}

// 24 examples of 8 to 12 tokens fill 4 rows of 64: one batch, of which each learns as if it were alone.
TEST_F(TrainerTest, PackedExamplesDoNotSeeEachOther) {
  options_.grouping = Grouping::packed, options_.length = 64, options_.accumulation = 1;
  llama_.lora->dropout = 0;
  Llama llama(file_, llama_);
  TrainerOptions alone = options_;
  alone.batch = 1;
  const double expected = Trainer(llama, examples_, alone).loss(examples_);
  const Trainer::Step packed = Trainer(llama, examples_, options_).step();
  EXPECT_NEAR(packed.loss, expected, 1e-5);
  options_.batch = 2;
  Llama again(file_, llama_);
  const Trainer::Step half = Trainer(again, examples_, options_).step();
  EXPECT_LE(half.tokens, 2 * 64);
  EXPECT_GT(half.tokens, 100) << "rows are full";
}

TEST_F(TrainerTest, GoesOnFromACheckpointToTheSameNumbers) {
  options_.adamw.states = OptimizerStates::int8;
  std::vector<double> straight, resumed;
  Llama llama(file_, llama_);
  Trainer trainer(llama, examples_, options_);
  while (!trainer.finished()) {
    straight.push_back(trainer.step().loss);
    if (trainer.steps_done() == 7) trainer.save(folder_ / "c");
  }
  Llama again(file_, llama_);
  Trainer other(again, examples_, options_);
  other.load(folder_ / "c");
  EXPECT_EQ(other.steps_done(), 7);
  while (!other.finished()) resumed.push_back(other.step().loss);
  EXPECT_EQ(resumed, std::vector<double>(straight.begin() + 7, straight.end()));
}

TEST_F(TrainerTest, RefusesCheckpointsThatAreNotItsOwn) {
  Llama llama(file_, llama_);
  Trainer(llama, examples_, options_).save(folder_ / "c");
  TrainerOptions others = options_;
  others.learning_rate *= 2;
  EXPECT_THROW(Trainer(llama, examples_, others).load(folder_ / "c"), Error);
  std::vector<TokenExample> changed = examples_;
  changed[3].tokens[2] += 1;
  EXPECT_THROW(Trainer(llama, changed, options_).load(folder_ / "c"), Error);
  make_model({.name = "t", .n_layer = 2, .n_embd = 64, .n_head = 4, .n_head_kv = 2, .n_ff = 176, .n_ctx_train = 512},
             default_vocabulary(), 2, folder_ / "other.gguf");
  Llama other(folder_ / "other.gguf", llama_);
  EXPECT_THROW(Trainer(other, examples_, options_).load(folder_ / "c"), Error) << "only its weights differ";
  EXPECT_NO_THROW(Trainer(llama, examples_, options_).load(folder_ / "c"));
  const std::string whole = read_file(folder_ / "c");
  for (const size_t size : {size_t{0}, size_t{10}, size_t{33}, whole.size() / 2, whole.size() - 1}) {
    write_file(folder_ / "c", whole.substr(0, size));
    EXPECT_THROW(Trainer(llama, examples_, options_).load(folder_ / "c"), DamagedCheckpoint) << size;
  }
}

TEST_F(TrainerTest, TheSeedAloneDecides) {
  const auto losses = [&](uint64_t seed) {
    options_.seed = seed;
    options_.steps = 4;
    Llama llama(file_, llama_);
    Trainer trainer(llama, examples_, options_);
    std::vector<double> all;
    while (!trainer.finished()) all.push_back(trainer.step().loss);
    return all;
  };
  const auto first = losses(1);
  EXPECT_EQ(losses(1), first);
  EXPECT_NE(losses(2), first);
}

TEST_F(TrainerTest, SaysThatItDiverged) {
  options_.learning_rate = 1e8, options_.warmup_ratio = 0;
  for (const BaseFormat base : {BaseFormat::nf4_double, BaseFormat::int8})
    for (const OptimizerStates states : {OptimizerStates::fp32, OptimizerStates::int8}) {
      llama_.base = base, options_.adamw.states = states;
      Llama llama(file_, llama_);
      Trainer trainer(llama, examples_, options_);
      int64_t taken = 0;
      try {
        for (; !trainer.finished(); ++taken) trainer.step();
        FAIL() << "a learning rate of 1e8 went well";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(fmt::format("diverged in step {}:", taken + 1)), std::string::npos)
            << error.what();
      }
    }
}

TEST_F(TrainerTest, RefusesOptionsOutOfRange) {
  Llama llama(file_, llama_);
  const auto refused = [&](auto change) {
    TrainerOptions options = options_;
    change(options);
    EXPECT_THROW(Trainer(llama, examples_, options), UsageError);
  };
  refused([](TrainerOptions& o) { o.learning_rate = 0; });
  refused([](TrainerOptions& o) { o.batch = 0; });
  refused([](TrainerOptions& o) { o.steps = 0; });
  refused([](TrainerOptions& o) { o.warmup_ratio = 1; });
  refused([](TrainerOptions& o) { o.max_grad_norm = NAN; });
  EXPECT_THROW(Trainer(llama, {}, options_), Error);
  llama_.lora->rank = 65;
  EXPECT_THROW(Llama(file_, llama_), UsageError);
  llama_.lora = LoraOptions{.targets = {"attn_x"}};
  EXPECT_THROW(Llama(file_, llama_), UsageError);
}

TEST(TokenBatch, LeavesOutWhatNothingLearnsOf) {
  const std::vector<TokenExample> examples = {{{1, 2, 3, 4, 5}, {0, 0, 1, 1, 0}}, {{6, 7}, {0, 0}}, {{8, 9}, {0, 1}}};
  const std::vector<size_t> chosen = {0, 1, 2};
  const TokenBatch batch = token_batch(examples, chosen, at::kCPU);
  EXPECT_TRUE(batch.tokens.equal(torch::tensor({1, 2, 3, 8}, at::kLong)));
  EXPECT_EQ(batch.lengths, (std::vector<int64_t>{3, 1}));
  EXPECT_TRUE(batch.scored.equal(torch::tensor({1, 2, 3}, at::kLong)));
  EXPECT_TRUE(batch.targets.equal(torch::tensor({3, 4, 9}, at::kLong)));
}

// transformers 5.24, get_scheduler(name, optimizer, 3, 10), factors of the steps 0 to 9; constant_with_warmup there.
TEST(Schedule, IsTransformersOwn) {
  struct Case {
    const char* name;
    std::vector<double> factors;
  };
  const std::vector<Case> cases = {
      {"constant", {0, 1.0 / 3, 2.0 / 3, 1, 1, 1, 1, 1, 1, 1}},
      {"linear", {0, 1.0 / 3, 2.0 / 3, 1, 6.0 / 7, 5.0 / 7, 4.0 / 7, 3.0 / 7, 2.0 / 7, 1.0 / 7}},
      {"cosine",
       {0, 1.0 / 3, 2.0 / 3, 1, 0.9504844339512095, 0.8117449009293668, 0.6112604669781572, 0.38873953302184283,
        0.1882550990706332, 0.04951556604879043}}};
  for (const Case& c : cases)
    for (int64_t step = 0; step < 10; ++step)
      EXPECT_NEAR(schedule_factor(schedule_from(c.name), step, 10, 0.3), c.factors[static_cast<size_t>(step)], 1e-12)
          << c.name << " " << step;
  EXPECT_THROW(schedule_from("step"), UsageError);
}

TEST(AdamW, IsItsDefinitionInDoublePrecision) {
  at::manual_seed(1);
  Tensor weight = torch::randn({5, 3}).requires_grad_(true);
  Tensor w = weight.detach().to(at::kDouble), m = at::zeros_like(w), v = at::zeros_like(w);
  AdamW adamw({{"w", weight}}, {.weight_decay = 0.1});
  for (int t = 1; t <= 5; ++t) {
    const Tensor g = torch::randn({5, 3});
    weight.mutable_grad() = g.clone();
    adamw.step(1e-2);
    EXPECT_FALSE(weight.grad().defined());
    w = w * (1 - 1e-2 * 0.1);
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    w = w - 1e-2 * (m / (1 - std::pow(0.9, t))) / ((v / (1 - std::pow(0.999, t))).sqrt() + 1e-8);
    EXPECT_LT((weight - w).abs().max().item<double>(), 1e-6);
  }
}

TEST(ClipGradients, ScalesTheCommonNorm) {
  Tensor a = torch::zeros({2}).requires_grad_(true), b = torch::zeros({1}).requires_grad_(true);
  const auto clip = [&](double largest) {
    a.mutable_grad() = torch::tensor({3.0, 0.0}).to(at::kFloat);
    b.mutable_grad() = torch::tensor({4.0}).to(at::kFloat);
    return clip_gradients({{"a", a}, {"b", b}}, largest).item<double>();
  };
  EXPECT_DOUBLE_EQ(clip(10), 5);
  EXPECT_EQ(a.grad()[0].item<double>(), 3);
  EXPECT_DOUBLE_EQ(clip(1), 5);
  EXPECT_NEAR(a.grad()[0].item<double>(), 0.6, 1e-5);
  EXPECT_NEAR(b.grad()[0].item<double>(), 0.8, 1e-5);
}

}  // namespace
}  // namespace haqa
