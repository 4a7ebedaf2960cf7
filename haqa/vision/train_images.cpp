#include "haqa/vision/train_images.h"

#include <chrono>
#include <cmath>
#include <optional>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/file_name.h"
#include "haqa/dataset/split.h"
#include "haqa/images/image_set.h"
#include "haqa/train/checkpoint.h"
#include "haqa/train/computing.h"
#include "haqa/vision/export_job.h"
#include "haqa/vision/loaded_images.h"
#include "haqa/vision/onnx_export.h"
#include "haqa/vision/weights.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kSplitSeed = 1;
/// Images of a batch that is not learned from: those of 224 x 224 take fifty times the memory of CIFAR's.
constexpr size_t kMeasured = 250, kMeasuredFiles = 32;
constexpr size_t kSkippedTold = 20;
/// Images by which activations are brought into range: more change the bounds by no per cent.
constexpr size_t kFitted = 128, kFittedFiles = 32;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Shortcut shortcut_from(const std::string& name) {
  if (name == "a") return Shortcut::a;
  if (name == "b") return Shortcut::b;
  throw UsageError("'{}' is no shortcut of a ResNet; a and b are", name);
}

bool is_imagenet(const std::string& normalization) {
  if (normalization != "images" && normalization != "imagenet")
    throw UsageError("'{}' is no normalization; images and imagenet are", normalization);
  return normalization == "imagenet";
}

void read_input(const Json& request, ImageInput& input) {
  input.images = request.at("images").get<std::string>();
  input.validation_share = request.value("validation_share", input.validation_share);
  input.imagenet_normalization = is_imagenet(request.value("normalization", "images"));
  const Json a = request.value("augmentation", Json::object());
  input.augmentation.flip = a.value("flip", input.augmentation.flip);
  input.augmentation.padding = a.value("padding", input.augmentation.padding);
}

void read_network(const Json& n, ResNetOptions& network) {
  network.kind = resnet_kind_from(n.value("kind", "resnet20"));
  network.shortcut = shortcut_from(n.value("shortcut", "a"));
  Quantization& q = network.quantization;
  q.method = quantization_method_from(n.value("method", "dorefa"));
  q.scaling = weight_scaling_from(n.value("scaling", "pretrained"));
  q.weight_bits = n.value("weight_bits", q.weight_bits);
  q.activation_bits = n.value("activation_bits", q.activation_bits);
  q.first_layer = n.value("first_layer", q.first_layer);
  q.last_layer = n.value("last_layer", q.last_layer);
  check(q);
}

void read_method(const Json& m, ImageTraining& training) {
  ImageTrainerOptions& t = training.trainer;
  t.optimizer = image_optimizer_from(m.value("optimizer", "sgd"));
  t.schedule = epoch_schedule_from(m.value("schedule", "cosine"));
  t.nesterov = m.value("nesterov", t.nesterov);
  t.decay_norms = m.value("decay_norms", t.decay_norms);
  t.warmup_epochs = m.value("warmup_epochs", t.warmup_epochs);
  t.label_smoothing = m.value("label_smoothing", t.label_smoothing);
  t.ema_decay = m.value("ema_decay", t.ema_decay);
  t.max_grad_norm = m.value("max_grad_norm", t.max_grad_norm);
  training.network.compute = compute_type(m.value("compute", "fp32"));
  training.network.device = device_named(m.value("device", "cpu"));
}

/// The paper's parameters, by the names of its search space (data/spaces/resnet.yaml).
void read_configuration(const Json& c, ImageTraining& training) {
  ImageTrainerOptions& t = training.trainer;
  t.learning_rate = c.value("learning_rate", t.learning_rate);
  t.weight_decay = c.value("weight_decay", t.weight_decay);
  t.momentum = c.value("momentum", t.momentum);
  t.epochs = c.value("num_epochs", t.epochs);
  training.batch = c.value("batch_size", training.batch);
}

/// The images of a request: read, split and with their normalization.
class Images {
 public:
  explicit Images(const ImageInput& input, int threads)
      : input_(input),
        threads_(threads),
        data_(read_images(input.images)),
        split_(split_by_share(data_.training.size(), input.validation_share, kSplitSeed)),
        normalization_(input.imagenet_normalization ? kImageNetNormalization
                                                    : normalization_of(data_.training, split_.training, {}, threads)) {}

  int64_t classes() const { return std::ssize(data_.classes); }
  TrainedImages described() const {
    return {data_.classes, normalization_, input_.validation_share, fingerprint(data_.training)};
  }
  size_t n_training() const { return split_.training.size(); }

  LoadedImages training(size_t batch, uint64_t seed) const {
    LoaderOptions options = LoaderOptions::for_training(batch, normalization_, input_.augmentation);
    options.seed = seed;
    return loaded(data_.training, split_.training, options);
  }
  LoadedImages part(ImagePart part) const {
    const ImageSet& set = part == ImagePart::validation ? data_.training : data_.test;
    const auto options = LoaderOptions::for_validation(set.in_memory() ? kMeasured : kMeasuredFiles, normalization_);
    return loaded(set, part == ImagePart::validation ? require(split_.validation) : all_of(set), options);
  }
  /// Some to train on as they are, from all classes, which may stand one after the other.
  torch::Tensor samples() const {
    const size_t n = std::min(data_.training.in_memory() ? kFitted : kFittedFiles, n_training());
    std::vector<size_t> chosen;
    for (size_t i = 0; i < n; ++i) chosen.push_back(split_.training[i * n_training() / n]);
    LoadedImages source = loaded(data_.training, chosen, LoaderOptions::for_validation(n, normalization_));
    source.start_epoch(0, 0);
    return source.next()->images.clone();
  }

 private:
  static std::vector<size_t> all_of(const ImageSet& set) {
    std::vector<size_t> all(set.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    return all;
  }
  const std::vector<size_t>& require(const std::vector<size_t>& validation) const {
    if (validation.empty())
      throw UsageError("{}: a validation share of {} of {} images leaves none to choose by", input_.images.string(),
                       input_.validation_share, data_.training.size());
    return validation;
  }
  LoadedImages loaded(const ImageSet& set, const std::vector<size_t>& indices, LoaderOptions options) const {
    options.threads = threads_;
    return LoadedImages(set, indices, classes(), options);
  }

  const ImageInput input_;
  const int threads_;
  const ImageData data_;
  const Split split_;
  const Normalization normalization_;
};

void tell_skipped(const std::vector<const LoadedImages*>& sources, Json& result) {
  size_t skipped = 0;
  Json files = Json::array();
  for (const LoadedImages* source : sources)
    for (const DamagedImage& image : source->skipped())
      if (++skipped <= kSkippedTold) files.push_back(image.file.string() + ": " + image.reason);
  result["skipped"] = skipped;
  result["skipped_files"] = std::move(files);
}

/// What was trained to be quantized means something quantized in the same way alone, and has its bounds.
Weights given_weights(const ImageTraining& training, bool fit) {
  Weights weights = read_weights(training.weights);
  if (is_quantized(weights) && (fit || weights.quantization != training.network.quantization))
    throw Error("{}: was trained with weights of {} bits and activations of {}; a model in full precision is needed",
                training.weights.string(), weights.quantization->weight_bits, weights.quantization->activation_bits);
  return weights;
}

/// With `fit`, weights that were not quantized are made ready for it.
ResNet network_for(const ImageTraining& training, const Images& images, bool fit) {
  ResNetOptions options = training.network;
  options.classes = images.classes();
  options.seed = training.seed;
  ResNet network(options);
  if (training.weights.empty()) return network;
  load_weights(network, given_weights(training, fit));
  if (fit) network.fit_activations(images.samples());
  return network;
}

/// What a checkpoint must agree with besides the options: other weights or images come to other numbers.
std::string inputs_of(const ImageTraining& training, const TrainedImages& images) {
  const std::string weights =
      training.weights.empty() ? "random" : fmt::format("{:016x}", fnv1a_64(read_file(training.weights)));
  const ImageInput& i = training.input;
  return fmt::format("{} {} {} {} {} {} {} {}", training.batch, training.seed, i.validation_share, i.augmentation.flip,
                     i.augmentation.padding, i.imagenet_normalization, weights, images.fingerprint);
}

/// From a checkpoint, if there is one; a damaged one is as none: there is no way but from the beginning.
void go_on(ImageTrainer& trainer, const fs::path& checkpoint) {
  if (!fs::exists(checkpoint)) return;
  try {
    trainer.load(checkpoint);
  } catch (const DamagedCheckpoint&) {
  }
}

void check_trained(const ResNet& network) {
  for (const auto& [name, parameter] : network.parameters())
    if (!parameter.isfinite().all().item<bool>())
      throw Diverged("the training diverged in its last step: {} has no numbers; a smaller learning rate helps", name);
}

Json told(const std::vector<EpochResult>& epochs) {
  Json result = {{"losses", Json::array()}, {"accuracies", Json::array()}, {"validation_losses", Json::array()}};
  for (const EpochResult& epoch : epochs) {
    result["losses"].push_back(epoch.loss);
    result["accuracies"].push_back(epoch.accuracy);
    result["validation_losses"].push_back(epoch.validation_loss);
  }
  result["accuracy"] = epochs.back().accuracy;
  return result;
}

/// Until it is finished. Returns the images that it learned from.
int64_t learn(ImageTrainer& trainer, const ImageTraining& training, size_t n_images,
              const std::function<void(double)>& progress) {
  const auto a_epoch = std::max<size_t>(1, n_images / training.batch);
  const double steps = static_cast<double>(a_epoch) * static_cast<double>(training.trainer.epochs);
  auto saved = Clock::now();
  int64_t images = 0;
  while (!trainer.finished()) {
    if (!trainer.step()) images += static_cast<int64_t>(training.batch);
    progress(std::min(1.0, static_cast<double>(trainer.steps()) / steps));
    if (trainer.finished() || seconds_since(saved) < training.checkpoint_s) continue;
    trainer.save(training.folder / "checkpoint");
    saved = Clock::now();
  }
  return images;
}

}  // namespace

ImageTraining image_training_from(const Json& request) {
  ImageTraining training;
  try {
    read_input(request, training.input);
    training.weights = request.value("weights", "");
    training.folder = request.value("folder", "");
    training.checkpoint_s = request.value("checkpoint_s", training.checkpoint_s);
    training.threads = request.value("threads", training.threads);
    training.seed = request.value("seed", training.seed);
    read_network(request.value("network", Json::object()), training.network);
    read_method(request.value("method", Json::object()), training);
    read_configuration(request.value("configuration", Json::object()), training);
  } catch (const Json::exception& error) {
    throw UsageError("the request to train is not understood: {}", error.what());
  }
  return training;
}

Json train_images(const ImageTraining& training, const std::function<void(double)>& progress) {
  if (training.threads > 0) at::set_num_threads(training.threads);
  make_folder(training.folder);
  const Images images(training.input, training.threads);
  ResNet network = network_for(training, images, true);
  LoadedImages source = images.training(training.batch, training.seed);
  LoadedImages validation = images.part(ImagePart::validation);
  const TrainedImages described = images.described();
  ImageTrainerOptions options = training.trainer;
  options.inputs = inputs_of(training, described);
  ImageTrainer trainer(network, source, validation, options);
  go_on(trainer, training.folder / "checkpoint");
  const auto resumed_after = std::ssize(trainer.results());
  const auto start = Clock::now();
  const int64_t learned = learn(trainer, training, images.n_training(), progress);
  const double seconds = seconds_since(start);
  trainer.keep_average();
  check_trained(network);
  save_weights(network, training.folder / "network.safetensors", described);
  int64_t parameters = 0;
  for (const auto& [name, parameter] : network.parameters()) parameters += parameter.numel();
  Json result = told(trainer.results());
  tell_skipped({&source, &validation}, result);
  result.update({{"training_images", source.size() - std::ssize(source.skipped())},
                 {"validation_images", validation.size() - std::ssize(validation.skipped())},
                 {"classes", described.classes},
                 {"mean", described.normalization.mean},
                 {"deviation", described.normalization.deviation},
                 {"resumed_after", resumed_after},
                 {"images", learned},
                 {"seconds", seconds},
                 {"images_per_second", seconds > 0 ? static_cast<double>(learned) / seconds : 0},
                 {"trained_parameters", parameters},
                 {"peak_bytes", peak_bytes()}});
  return result;
}

Json measure_images(const ImageTraining& training, ImagePart part, bool fit) {
  if (training.threads > 0) at::set_num_threads(training.threads);
  const Images images(training.input, training.threads);
  ResNet network = network_for(training, images, fit);
  LoadedImages source = images.part(part);
  const Validation found = validate(network, source);
  Json result = {{"accuracy", found.accuracy}, {"loss", found.loss}};
  tell_skipped({&source}, result);
  result["images"] = source.size() - std::ssize(source.skipped());
  return result;
}

Json export_network(const ImageTraining& training, const fs::path& output, bool fit) {
  if (training.threads > 0) at::set_num_threads(training.threads);
  const Images images(training.input, training.threads);
  const ResNet network = network_for(training, images, fit);
  const TrainedImages described = images.described();
  const OnnxExportOptions how = {.pixels = described.normalization, .classes = described.classes};
  Json result = to_json(network, export_onnx(network, output, how), how);
  result["image"] = images.samples().sizes().slice(1).vec();
  return result;
}

Json serve_images(const Json& request, const std::function<void(double)>& progress) {
  const ImageTraining training = image_training_from(request);
  const std::string command = request.value("command", "");
  if (command == "train_images") return train_images(training, progress);
  if (command == "export_network")
    return export_network(training, request.at("output").get<std::string>(), request.value("fit", false));
  const std::string part = request.value("part", "validation");
  if (part != "validation" && part != "test")
    throw UsageError("'{}' is no part of the images; validation and test are", part);
  return measure_images(training, part == "test" ? ImagePart::test : ImagePart::validation,
                        request.value("fit", false));
}

}  // namespace haqa
