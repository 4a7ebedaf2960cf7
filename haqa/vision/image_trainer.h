#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/train/adamw.h"
#include "haqa/vision/image_batches.h"
#include "haqa/vision/resnet.h"
#include "haqa/vision/sgd.h"

namespace haqa {

enum class ImageOptimizer { sgd, adamw };
/// "sgd" or "adamw". Throws UsageError that lists them.
ImageOptimizer image_optimizer_from(std::string_view name);

/// How the learning rate goes on after the warm-up: stays, is multiplied at milestones, or falls to 0 in half a cosine.
enum class EpochSchedule { constant, step, cosine };
/// "constant", "step" or "cosine". Throws UsageError that lists them.
EpochSchedule epoch_schedule_from(std::string_view name);

/// The paper's search space of quantization-aware training (appendix E), its defaults, and what goes with it.
struct ImageTrainerOptions {
  int64_t epochs = 12;
  ImageOptimizer optimizer = ImageOptimizer::sgd;
  double learning_rate = 0.01;
  double momentum = 0.9;  ///< SGD's; AdamW's first mean keeps as much
  bool nesterov = false;
  double weight_decay = 5e-4;
  bool decay_norms = true;  ///< whether normalizations and biases decay as other weights do
  EpochSchedule schedule = EpochSchedule::cosine;
  std::vector<double> milestones = {0.5, 0.75};  ///< shares of the epochs
  double milestone_factor = 0.1;
  double warmup_epochs = 0;  ///< while which the learning rate rises in a line
  double label_smoothing = 0;
  double ema_decay = 0;      ///< of the average of the weights that is validated; 0: there is none
  double max_grad_norm = 0;  ///< 0: gradients are not scaled
  /// The training has diverged where its loss stays above this many times that of its first steps or of guessing,
  /// whichever is more.
  double divergence = 3;
  std::string inputs;  ///< tells sources apart: a checkpoint is of a training with the same
};

/// What the learning rate is multiplied with when `done` epochs of options.epochs are.
double learning_rate_factor(const ImageTrainerOptions& options, double done);

/// The loss is no number any more, or far above where it began.
class Diverged : public Error {
 public:
  using Error::Error;
};

/// One epoch of a training.
struct EpochResult {
  int64_t epoch = 0;           ///< from 1
  double loss = 0;             ///< mean over its images, in nats
  double accuracy = 0;         ///< on the validation set after it, from 0 to 1
  double validation_loss = 0;  ///< mean, without label smoothing
  double learning_rate = 0;    ///< of its last step
};

struct Validation {
  double accuracy = 0, loss = 0;  ///< from 0 to 1; mean, in nats
};
/// Of a network as it is, over a source's first epoch. Throws Error where that gives no images.
Validation validate(ResNet& network, ImageSource& source);

/// Trains a network on images. What it does depends on the options, the sources and the number of steps done alone:
/// a training that goes on from a checkpoint comes to the numbers of one that was never interrupted, on as many
/// threads.
class ImageTrainer {
 public:
  /// All but the options must outlive it. Throws UsageError for options out of range and for sources without images or
  /// with other classes than the network.
  ImageTrainer(ResNet& network, ImageSource& training, ImageSource& validation, const ImageTrainerOptions& options);

  /// Learns a batch; where the epoch has none left, validates instead, and returns what came of the epoch.
  /// Throws Diverged.
  std::optional<EpochResult> step();
  bool finished() const { return std::ssize(results_) >= options_.epochs; }
  const std::vector<EpochResult>& results() const { return results_; }
  int64_t steps() const { return steps_; }  ///< in all, also those that a checkpoint spared

  /// Of the average of the weights, where there is one.
  Validation validate();

  /// Puts the average of the weights, where there is one, in the place of the weights: what is to be kept at the end.
  void keep_average();

  /// Writes everything that the training goes on from: whole or not at all.
  void save(const std::filesystem::path& file) const;
  /// Throws DamagedCheckpoint, before anything is taken from it, and Error where the file belongs to another network or
  /// other options.
  void load(const std::filesystem::path& file);

 private:
  using Tensors = std::map<std::string, torch::Tensor>;
  using Optimizer = std::variant<Sgd, AdamW>;

  void learn(const ImageBatch& batch);
  void look_at(double loss);
  EpochResult end_epoch();
  std::string identity() const;
  Tensors optimizer_state() const;

  ResNet& network_;
  ImageSource& training_;
  ImageSource& validation_;
  const ImageTrainerOptions options_;
  std::vector<Optimizer> optimizers_;             ///< of the weights that decay, and of those that do not
  std::vector<torch::Tensor> weights_, average_;  ///< in the same order; the running statistics are averaged too
  std::vector<EpochResult> results_;
  bool in_epoch_ = false;
  int64_t batches_ = 0;  ///< of this epoch that are behind, also those without a good image
  int64_t images_ = 0;   ///< learned in this epoch
  int64_t steps_ = 0;    ///< in all
  double loss_sum_ = 0;  ///< over this epoch's images
  double recent_loss_ = 0, first_loss_ = 0;
  double learning_rate_ = 0;
};

}  // namespace haqa
