#include "haqa/vision/image_trainer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "haqa/train/checkpoint.h"

namespace haqa {
namespace {

using torch::Tensor;

constexpr double kLeastClip = 1e-3;  ///< of PACT's bounds, which steps could take below 0
constexpr int64_t kFirstSteps = 10;  ///< whose mean loss is where a training began
constexpr double kRecent = 0.9;      ///< what the running mean of the loss keeps at each step

void check(const ImageTrainerOptions& o) {
  const auto share = [](double value) { return value >= 0 && value < 1; };
  if (o.epochs < 1) throw UsageError("a training of {} epochs learns nothing; 1 or more are needed", o.epochs);
  if (!(o.learning_rate > 0) || !std::isfinite(o.learning_rate))
    throw UsageError("the learning rate is {}; it must be above 0", o.learning_rate);
  if (!share(o.momentum) || !share(o.label_smoothing) || !share(o.ema_decay))
    throw UsageError("momentum {}, label smoothing {} and the average's decay {} must be from 0 to below 1", o.momentum,
                     o.label_smoothing, o.ema_decay);
  if (o.nesterov && !(o.momentum > 0)) throw UsageError("Nesterov's step needs a momentum above 0");
  if (!(o.weight_decay >= 0) || !(o.max_grad_norm >= 0) || !(o.milestone_factor > 0))
    throw UsageError("weight decay {} and largest gradient {} must be 0 or more, the milestones' factor {} above 0",
                     o.weight_decay, o.max_grad_norm, o.milestone_factor);
  if (!(o.warmup_epochs >= 0 && o.warmup_epochs < static_cast<double>(o.epochs)))
    throw UsageError("a warm-up of {} epochs leaves nothing of {}", o.warmup_epochs, o.epochs);
  if (!(o.divergence > 1))
    throw UsageError("the loss of a diverged training is {} times another; above 1", o.divergence);
}

void check(const ImageSource& source, std::string_view what, int64_t classes) {
  if (source.size() == 0) throw UsageError("the {} set has no images", what);
  if (source.classes() != classes)
    throw UsageError("the {} set has {} classes and the network {}", what, source.classes(), classes);
}

/// Normalizations and biases, but not PACT's bounds, which their authors want to decay.
bool is_norm_or_bias(const std::string& name, const Tensor& tensor) {
  return tensor.dim() == 1 || name.ends_with(".bias");
}

/// Weights and statistics change places with their average, until the end of the scope.
class Exchanged {
 public:
  Exchanged(const std::vector<Tensor>& weights, const std::vector<Tensor>& average)
      : weights_(weights), average_(average) {
    exchange();
  }
  ~Exchanged() { exchange(); }
  Exchanged(const Exchanged&) = delete;
  Exchanged& operator=(const Exchanged&) = delete;

 private:
  void exchange() const {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < average_.size(); ++i) {
      const Tensor kept = weights_[i].clone();
      weights_[i].copy_(average_[i]);
      average_[i].copy_(kept);
    }
  }
  const std::vector<Tensor>&weights_, &average_;
};

/// Each as its file and its reason.
c10::List<std::string> as_entry(const std::vector<DamagedImage>& images) {
  c10::List<std::string> texts;
  for (const DamagedImage& image : images) texts.push_back(image.file.string()), texts.push_back(image.reason);
  return texts;
}

std::vector<DamagedImage> damaged_images_of(const c10::IValue& entry) {
  std::vector<DamagedImage> images;
  const auto texts = entry.toListRef();
  for (size_t i = 0; i + 1 < texts.size(); i += 2)
    images.push_back({texts[i].toStringRef(), texts[i + 1].toStringRef()});
  return images;
}

std::vector<double> row_of(const EpochResult& r) {
  return {static_cast<double>(r.epoch), r.loss, r.accuracy, r.validation_loss, r.learning_rate};
}

}  // namespace

ImageOptimizer image_optimizer_from(std::string_view name) {
  if (name == "sgd") return ImageOptimizer::sgd;
  if (name == "adamw") return ImageOptimizer::adamw;
  throw UsageError("'{}' is no optimizer; sgd and adamw are", name);
}

EpochSchedule epoch_schedule_from(std::string_view name) {
  if (name == "constant") return EpochSchedule::constant;
  if (name == "step") return EpochSchedule::step;
  if (name == "cosine") return EpochSchedule::cosine;
  throw UsageError("'{}' is no schedule of the learning rate; constant, step and cosine are", name);
}

double learning_rate_factor(const ImageTrainerOptions& options, double done) {
  const double warmup = options.warmup_epochs, epochs = static_cast<double>(options.epochs);
  if (done < warmup) return done / warmup;
  switch (options.schedule) {
    case EpochSchedule::constant:
      return 1;
    case EpochSchedule::step:
      return std::pow(options.milestone_factor, std::count_if(options.milestones.begin(), options.milestones.end(),
                                                              [&](double share) { return done >= share * epochs; }));
    case EpochSchedule::cosine:
      return 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, (done - warmup) / (epochs - warmup))));
  }
  return 1;
}

ImageTrainer::ImageTrainer(ResNet& network, ImageSource& training, ImageSource& validation,
                           const ImageTrainerOptions& options)
    : network_(network), training_(training), validation_(validation), options_(options) {
  check(options);
  check(training, "training", network.options().classes);
  check(validation, "validation", network.options().classes);
  Tensors decaying, others;
  for (const auto& [name, parameter] : network.parameters()) {
    (options.decay_norms || !is_norm_or_bias(name, parameter) ? decaying : others)[name] = parameter;
    weights_.push_back(parameter);
  }
  for (const auto& [name, buffer] : network.buffers()) weights_.push_back(buffer);
  const auto add = [&](const Tensors& parameters, double decay) {
    if (options.optimizer == ImageOptimizer::sgd)
      optimizers_.push_back(Sgd(parameters, {options.momentum, options.nesterov, decay}));
    else
      optimizers_.push_back(AdamW(parameters, {.beta1 = options.momentum, .weight_decay = decay}));
  };
  add(decaying, options.weight_decay);
  add(others, 0);
  if (options.ema_decay > 0)
    for (const Tensor& weight : weights_) average_.push_back(weight.detach().clone());
}

void ImageTrainer::learn(const ImageBatch& batch) {
  const int64_t n = batch.labels.numel();
  const Tensor labels = batch.labels.to(network_.options().device);
  const Tensor logits = network_.logits(batch.images, true);
  const Tensor loss = at::cross_entropy_loss(logits, labels, {}, at::Reduction::Mean, -100, options_.label_smoothing);
  look_at(loss.item<double>());
  loss.backward();
  if (options_.max_grad_norm > 0) clip_gradients(network_.parameters(), options_.max_grad_norm);
  batches_ = static_cast<int64_t>(training_.position());
  ++steps_, images_ += n;
  loss_sum_ += loss.item<double>() * static_cast<double>(n);
  const double done = static_cast<double>(results_.size()) +
                      static_cast<double>(images_ - n / 2) / static_cast<double>(training_.size());
  learning_rate_ = options_.learning_rate * learning_rate_factor(options_, done);
  for (Optimizer& optimizer : optimizers_) std::visit([&](auto& o) { o.step(learning_rate_); }, optimizer);
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : network_.parameters())
    if (name.ends_with(".clip")) parameter.clamp_min_(kLeastClip);
  if (average_.empty()) return;
  // The first weights are forgotten sooner than the decay says.
  const auto steps = static_cast<double>(steps_);
  at::_foreach_lerp_(average_, weights_, 1 - std::min(options_.ema_decay, (1 + steps) / (10 + steps)));
}

/// At the loss of a step that is not counted yet.
void ImageTrainer::look_at(double loss) {
  const auto diverged = [&](const std::string& why) {
    throw Diverged("the training diverged in epoch {}, batch {}: {}; a smaller learning rate than {:.3g} helps",
                   results_.size() + 1, batches_ + 1, why, options_.learning_rate);
  };
  if (!std::isfinite(loss)) diverged(fmt::format("its loss is {}", loss));
  if (steps_ < kFirstSteps) first_loss_ += loss / kFirstSteps;
  recent_loss_ = steps_ == 0 ? loss : kRecent * recent_loss_ + (1 - kRecent) * loss;
  const double guessing = std::log(static_cast<double>(network_.options().classes));
  const double most = options_.divergence * std::max(first_loss_, guessing);
  if (steps_ >= kFirstSteps && recent_loss_ > most)
    diverged(fmt::format("its loss stays around {:.3g}, beyond {:.3g} times {}", recent_loss_, options_.divergence,
                         first_loss_ > guessing ? "where it began" : "that of guessing"));
}

std::optional<EpochResult> ImageTrainer::step() {
  if (!in_epoch_) training_.start_epoch(results_.size(), 0);
  in_epoch_ = true;
  if (const std::optional<ImageBatch> batch = training_.next()) {
    learn(*batch);
    return std::nullopt;
  }
  return end_epoch();
}

EpochResult ImageTrainer::end_epoch() {
  if (images_ == 0) throw Error("an epoch of the training set has no batches; a smaller batch helps");
  const Validation validation = validate();
  if (!std::isfinite(validation.loss))
    throw Diverged(
        "the training diverged in epoch {}: its loss on the validation set is {}; a smaller learning rate "
        "than {:.3g} helps",
        results_.size() + 1, validation.loss, options_.learning_rate);
  results_.push_back({.epoch = std::ssize(results_) + 1,
                      .loss = loss_sum_ / static_cast<double>(images_),
                      .accuracy = validation.accuracy,
                      .validation_loss = validation.loss,
                      .learning_rate = learning_rate_});
  in_epoch_ = false;
  batches_ = images_ = 0;
  loss_sum_ = 0;
  return results_.back();
}

Validation ImageTrainer::validate() {
  const Exchanged exchanged(weights_, average_);
  return haqa::validate(network_, validation_);
}

Validation validate(ResNet& network, ImageSource& source) {
  const at::NoGradGuard no_grad;
  source.start_epoch(0, 0);
  double loss = 0;
  int64_t right = 0, images = 0;
  while (const std::optional<ImageBatch> batch = source.next()) {
    const Tensor labels = batch->labels.to(network.options().device);
    const Tensor logits = network.logits(batch->images, false);
    loss += at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum).item<double>();
    right += (logits.argmax(1) == labels).sum().item<int64_t>();
    images += labels.numel();
  }
  if (images == 0) throw Error("the validation set gives no batches");
  return {static_cast<double>(right) / static_cast<double>(images), loss / static_cast<double>(images)};
}

void ImageTrainer::keep_average() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < average_.size(); ++i) weights_[i].copy_(average_[i]);
}

/// What must agree for the numbers of a checkpoint to mean the same.
std::string ImageTrainer::identity() const {
  const ImageTrainerOptions& o = options_;
  const ResNetOptions& r = network_.options();
  const Quantization& q = r.quantization;
  return fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", o.epochs,
                     static_cast<int>(o.optimizer), o.learning_rate, o.momentum, o.nesterov, o.weight_decay,
                     o.decay_norms, static_cast<int>(o.schedule), fmt::join(o.milestones, ","), o.milestone_factor,
                     o.warmup_epochs, o.label_smoothing, o.ema_decay, o.max_grad_norm, training_.size(),
                     static_cast<int>(r.kind), static_cast<int>(r.shortcut), r.classes, static_cast<int>(r.compute),
                     q.weight_bits, q.activation_bits, static_cast<int>(q.method), static_cast<int>(q.scaling),
                     q.first_layer, q.last_layer, validation_.size(), o.inputs);
}

ImageTrainer::Tensors ImageTrainer::optimizer_state() const {
  Tensors state;
  for (size_t i = 0; i < optimizers_.size(); ++i)
    for (const auto& [name, tensor] : std::visit([](const auto& o) { return o.state(); }, optimizers_[i]))
      state[fmt::format("{}.{}", i, name)] = tensor;
  return state;
}

void ImageTrainer::save(const std::filesystem::path& file) const {
  const auto numbered = [](const std::vector<Tensor>& tensors) {
    Tensors named;
    for (size_t i = 0; i < tensors.size(); ++i) named[std::to_string(i)] = tensors[i];
    return as_entry(named);
  };
  std::vector<double> results;
  for (const EpochResult& result : results_)
    for (const double number : row_of(result)) results.push_back(number);
  CheckpointEntries all = empty_checkpoint();
  all.insert("training", identity());
  all.insert("weights", numbered(weights_));
  all.insert("average", numbered(average_));
  all.insert("optimizer", as_entry(optimizer_state()));
  all.insert("results", torch::tensor(results, at::kDouble));
  all.insert("counts", std::vector<int64_t>{in_epoch_, batches_, images_, steps_});
  all.insert("losses", std::vector<double>{loss_sum_, recent_loss_, first_loss_, learning_rate_});
  all.insert("skipped", as_entry(training_.skipped()));
  all.insert("skipped_validating", as_entry(validation_.skipped()));
  write_checkpoint(all, file);
}

void ImageTrainer::load(const std::filesystem::path& file) {
  read_checkpoint(file, [&](const CheckpointEntries& all) {
    if (all.at("training").toStringRef() != identity())
      throw Error(checkpoint_error(file, "is the checkpoint of another training"));
    const Tensors weights = tensors_of(all.at("weights")), average = tensors_of(all.at("average"));
    const Tensors state = tensors_of(all.at("optimizer"));
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < weights_.size(); ++i) weights_[i].copy_(weights.at(std::to_string(i)));
    for (size_t i = 0; i < average_.size(); ++i) average_[i].copy_(average.at(std::to_string(i)));
    for (size_t i = 0; i < optimizers_.size(); ++i) {
      const std::string prefix = fmt::format("{}.", i);
      Tensors own;
      for (const auto& [name, tensor] : state)
        if (name.starts_with(prefix)) own[name.substr(prefix.size())] = tensor;
      std::visit([&](auto& o) { o.load(own); }, optimizers_[i]);
    }
    const Tensor results = all.at("results").toTensor().view({-1, 5});
    results_.clear();
    for (int64_t i = 0; i < results.size(0); ++i) {
      const double* row = results.data_ptr<double>() + 5 * i;
      results_.push_back({static_cast<int64_t>(row[0]), row[1], row[2], row[3], row[4]});
    }
    const auto counts = all.at("counts").toIntVector();
    const auto losses = all.at("losses").toDoubleVector();
    in_epoch_ = counts.at(0) != 0, batches_ = counts.at(1), images_ = counts.at(2), steps_ = counts.at(3);
    loss_sum_ = losses.at(0), recent_loss_ = losses.at(1), first_loss_ = losses.at(2), learning_rate_ = losses.at(3);
    training_.remember_skipped(damaged_images_of(all.at("skipped")));
    validation_.remember_skipped(damaged_images_of(all.at("skipped_validating")));
  });
  if (in_epoch_) training_.start_epoch(results_.size(), static_cast<size_t>(batches_));
}

}  // namespace haqa
