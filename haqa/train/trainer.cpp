#include "haqa/train/trainer.h"

#include <cmath>

#include "haqa/base/error.h"
#include "haqa/base/file_name.h"
#include "haqa/dataset/split.h"

namespace haqa {
namespace {

using torch::Tensor;
void check(const TrainerOptions& o, size_t examples) {
  if (examples == 0) throw Error("there are no examples to train on");
  if (o.batch < 1 || o.accumulation < 1 || o.steps < 1)
    throw UsageError("batch {}, accumulation {} and steps {} must be 1 or more", o.batch, o.accumulation, o.steps);
  if (!(o.learning_rate > 0) || !(o.max_grad_norm > 0) || !(o.warmup_ratio >= 0 && o.warmup_ratio < 1))
    throw UsageError(
        "learning rate {} and largest gradient {} must be above 0, the warm-up's share {} from 0 to below 1",
        o.learning_rate, o.max_grad_norm, o.warmup_ratio);
}

template <typename T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

TokenBatch token_batch(std::span<const TokenExample> examples, std::span<const size_t> chosen, at::Device device) {
  std::vector<int64_t> tokens, scored, targets, lengths;
  for (const size_t index : chosen) {
    const TokenExample& example = examples[index];
    size_t last = example.tokens.size();
    while (last > 0 && !example.counts[last - 1]) --last;
    if (last < 2) continue;  // nothing in it counts
    const size_t length = last - 1, first = tokens.size();
    for (size_t i = 0; i < length; ++i) {
      tokens.push_back(example.tokens[i]);
      if (!example.counts[i + 1]) continue;
      scored.push_back(static_cast<int64_t>(first + i));
      targets.push_back(example.tokens[i + 1]);
    }
    lengths.push_back(static_cast<int64_t>(length));
  }
  return token_batch(tokens, std::move(lengths), scored, targets, device);
}

Trainer::Trainer(Llama& llama, std::span<const TokenExample> examples, const TrainerOptions& options)
    : llama_(llama), examples_(examples), options_(options), adamw_(llama.parameters(), options.adamw) {
  check(options, examples.size());
}

const std::vector<size_t>& Trainer::batch(uint64_t number) {
  const auto plan = [&](uint64_t epoch) {
    const TrainerOptions& o = options_;
    plan_ = plan_epoch(examples_, {.grouping = o.grouping, .rows = o.batch, .length = o.length, .seed = o.seed}, epoch);
    epoch_ = epoch;
  };
  if (plan_.empty()) plan(0);
  const uint64_t epoch = number / plan_.size();  // every epoch has as many batches
  if (epoch != epoch_) plan(epoch);
  return plan_[number % plan_.size()];
}

Trainer::Step Trainer::take_step() {
  Step step{.number = done_ + 1};
  std::vector<TokenBatch> batches;
  int64_t counted = 0;
  for (size_t i = 0; i < options_.accumulation; ++i) {
    const uint64_t number = static_cast<uint64_t>(done_) * options_.accumulation + i;
    batches.push_back(token_batch(examples_, batch(number), llama_.options().device));
    counted += batches.back().scored.size(0);
    step.tokens += batches.back().tokens.size(0);
  }
  Tensor loss = at::zeros({}, at::TensorOptions(at::kFloat).device(llama_.options().device));
  for (size_t i = 0; i < batches.size(); ++i) {
    const uint64_t seed = mixed_seed(options_.seed, static_cast<uint64_t>(done_) * options_.accumulation + i);
    const Tensor part = llama_.summed_loss(batches[i], seed) / static_cast<double>(counted);
    part.backward();
    loss += part.detach();
  }
  const Tensor norm = clip_gradients(llama_.parameters(), options_.max_grad_norm);
  step.learning_rate =
      options_.learning_rate * schedule_factor(options_.schedule, done_, options_.steps, options_.warmup_ratio);
  adamw_.step(step.learning_rate);
  ++done_;
  const Tensor both = at::stack({loss, norm}).cpu();  // the only wait for the device in a step
  step.loss = both[0].item<double>();
  step.grad_norm = both[1].item<double>();
  if (!std::isfinite(step.loss) || !std::isfinite(step.grad_norm))
    throw Error("its loss is {} and its gradient's norm {}", step.loss, step.grad_norm);
  return step;
}

Trainer::Step Trainer::step() {
  const int64_t number = done_ + 1;
  try {
    return take_step();
  } catch (const Error& error) {  // also of what is quantized on the way, which refuses numbers that are none
    throw Error("the training diverged in step {}: {}; a smaller learning rate than {:.3g} helps", number, error.what(),
                options_.learning_rate);
  }
}

double Trainer::loss(std::span<const TokenExample> examples) {
  const at::NoGradGuard no_grad;
  Tensor sum = at::zeros({}, at::TensorOptions(at::kDouble).device(llama_.options().device));
  int64_t counted = 0;
  for (size_t first = 0; first < examples.size(); first += options_.batch) {
    std::vector<size_t> chosen;
    for (size_t i = first; i < std::min(first + options_.batch, examples.size()); ++i) chosen.push_back(i);
    const TokenBatch batch = token_batch(examples, chosen, llama_.options().device);
    sum += llama_.summed_loss(batch);
    counted += batch.scored.size(0);
  }
  return sum.item<double>() / static_cast<double>(std::max<int64_t>(1, counted));
}

/// What must agree for the numbers of a checkpoint to mean the same.
std::string Trainer::identity() const {
  const TrainerOptions& o = options_;
  uint64_t content = 0;
  for (const TokenExample& example : examples_) {
    content = mixed_seed(content, fnv1a_64(bytes_of(example.tokens)));
    content = mixed_seed(content, fnv1a_64(bytes_of(example.counts)));
  }
  content = mixed_seed(content, llama_.data().fingerprint());
  const LlamaOptions& l = llama_.options();
  std::string text = fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", llama_.info().name,
                                 examples_.size(), o.learning_rate, o.batch, o.accumulation, o.steps, o.max_grad_norm,
                                 o.warmup_ratio, static_cast<int>(o.schedule), static_cast<int>(o.grouping), o.length,
                                 o.adamw.weight_decay, o.seed, llama_.base_bytes(), llama_.data().header().file_bytes(),
                                 static_cast<int>(l.base), static_cast<int>(l.compute), content);
  if (l.lora)
    text += fmt::format(" {} {} {} {}", l.lora->rank, l.lora->alpha, l.lora->dropout, fmt::join(l.lora->targets, ","));
  return text;
}

void Trainer::save(const std::filesystem::path& file) const {
  CheckpointEntries all = empty_checkpoint();
  all.insert("training", identity());
  all.insert("steps", done_);
  all.insert("weights", as_entry(llama_.parameters()));
  all.insert("optimizer", as_entry(adamw_.state()));
  write_checkpoint(all, file);
}

void Trainer::load(const std::filesystem::path& file) {
  read_checkpoint(file, [&](const CheckpointEntries& all) {
    if (all.at("training").toStringRef() != identity())
      throw Error(checkpoint_error(file, "is the checkpoint of another training"));
    const auto weights = tensors_of(all.at("weights"));
    const at::NoGradGuard no_grad;
    for (const auto& [name, parameter] : llama_.parameters()) parameter.copy_(weights.at(name));
    adamw_.load(tensors_of(all.at("optimizer")));
    done_ = all.at("steps").toInt();
  });
}

}  // namespace haqa
